"""The published numbers, value by value against the text they were collected in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config.ablations import TABLE_1, TABLE_3
from pipeline.evaluation.published import NOTES, published

KINDS = ("qvhighlights", "tvr", "activitynet", "charades")
NAMES = {"v2": "GMMFormer v2", "GMMF": "GMMFormer", "v2+RAL": "GMMFormer v2 + RAL"}


@pytest.fixture(scope="module")
def text(shared: Path) -> str:
    """The section on published results."""
    return (shared / "METHODS.md").read_text().split("## 11. Published results")[1].split("\n## 12.")[0]


def name_of(cell: str) -> str:
    """A method as it is called here: daggers apart, `+RAL` spaced, v2 in full."""
    plain = cell.replace("*", "").replace("(dagger)", "").strip()
    plain = NAMES.get(plain, plain)
    return plain.replace("+RAL", " + RAL") if "+RAL" in plain else plain


def known(kind: str, clip: bool) -> dict[str, tuple[float | None, ...]]:
    rows = [row for row in published(kind) if ("CLIP" in row.features) == clip]
    return {row.method.replace(" †", ""): row.values for row in rows}


@pytest.mark.parametrize("clip", [False, True])
def test_the_tables_of_every_method(text: str, clip: bool) -> None:
    part = text.split("CLIP-L/14 (MSC Table 5")[clip].split("QVHighlights (CLIP-B")[0]
    found: dict[str, dict[str, tuple[float | None, ...]]] = {"tvr": {}, "activitynet": {}, "charades": {}}
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) < 4 or "/" not in cells[1] or cells[0].startswith("others"):
            continue
        for kind, cell in zip(found, cells[1:4], strict=True):
            if "/" in cell:
                found[kind][name_of(cells[0])] = tuple(float(value) for value in cell.replace("*", "").split("/"))
    if not clip:  # SumR alone, on TVR and ActivityNet
        line = next(line for line in part.splitlines() if line.startswith("| others"))
        for method, tvr, activitynet in re.findall(r"([A-Za-z-]+)(?:\(ARL\))? ([\d.]+)/([\d.]+)", line.split("|")[2]):
            method = {"ARTVL": "ARL"}.get(method, method)
            found["tvr"][method] = (None, None, None, None, float(tvr))
            found["activitynet"][method] = (None, None, None, None, float(activitynet))
    for kind, rows in found.items():
        assert known(kind, clip) == rows
        assert len(rows) >= 4


def test_qvhighlights_and_the_variations(text: str) -> None:
    line = next(line for line in text.splitlines() if line.startswith("QVHighlights (CLIP-B"))
    rows = {}
    for method, values in re.findall(r"([A-Za-z][\w .-]*?)(?: \(dagger\))?(?: SumR)? ([\d./]+\d)(?:;|\.)", line.split("): ", 1)[1]):
        numbers = tuple(float(value) for value in values.split("/"))
        rows[name_of(method)] = numbers if len(numbers) == 5 else (None, None, None, None, *numbers)
    assert known("qvhighlights", True) == rows
    sweep = next(line for line in text.splitlines() if line.startswith("MSC tau sweep"))
    for kind, name in (("tvr", "TVR"), ("activitynet", "ANet"), ("charades", "Charades")):
        values = [float(value) for value in re.search(rf"{name} ([\d./]+\d)", sweep)[1].split("/")]  # type: ignore[index]
        mine = {row.method: row.values[-1] for row in published(kind, "sweeps")}
        assert mine == dict(zip([f"tau-{tau:g}" for tau in (0.7, 0.75, 0.8, 0.85, 0.9)], values, strict=True))


def test_the_variations_carry_the_names_of_the_runs() -> None:
    assert [row.method for row in published("qvhighlights", "ablation")] == list(TABLE_1)
    mine = {row.method for row in published("qvhighlights", "sweeps")}
    assert {name for name in TABLE_3 if name.startswith(("lambda", "merge"))} <= mine


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_names_its_gallery(kind: str) -> None:
    galleries = {row.gallery for row in published(kind)}
    assert "" not in galleries
    assert (
        galleries
        == {
            "qvhighlights": {"474"},
            "tvr": {"2,179"},
            "activitynet": {"4,917 or 4,430", "mssl, 4,430"},
            "charades": {"1,334"},
        }[kind]
    )
    assert kind in NOTES


def test_other_datasets_have_none() -> None:
    assert published("own") == published("demo") == published("own", "ablation") == []
