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


@pytest.fixture(scope="module")
def more(shared: Path) -> str:
    """The survey of further methods."""
    return (shared / "METHODS_MORE.md").read_text()


def name_of(cell: str) -> str:
    """A method as it is called here: daggers apart, `+RAL` spaced, v2 in full."""
    plain = cell.replace("*", "").replace("(dagger)", "").strip()
    plain = NAMES.get(plain, plain)
    return plain.replace("+RAL", " + RAL") if "+RAL" in plain else plain


def known(kind: str, *sources: str) -> dict[str, tuple[float | None, ...]]:
    return {row.method.replace(" †", ""): row.values for row in published(kind) if row.source in sources}


OTHERS = ("the method's repository", "RAL's figure")
FIVE = "/".join([r"\d+\.\d"] * 5)


def five(cell: str) -> tuple[float | None, ...]:
    """Five values, or SumR alone."""
    values = [float(value) for value in cell.replace("*", "").split("/")]
    return (*[None] * (5 - len(values)), *values)


@pytest.mark.parametrize("clip", [False, True])
def test_the_tables_of_every_method(text: str, clip: bool) -> None:
    part = text.split("CLIP-L/14 (MSC Table 5")[clip].split("QVHighlights (CLIP-B")[0]
    found = 0
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) < 4 or "/" not in cells[1] or cells[0].startswith("others"):
            continue
        for kind, cell in zip(("tvr", "activitynet", "charades"), cells[1:4], strict=True):
            if "/" in cell:
                assert known(kind, *(["MSC Table 5"] if clip else OTHERS))[name_of(cells[0])] == five(cell)
                found += 1
    assert found == (25 if clip else 20)
    if not clip:  # SumR alone, on TVR and ActivityNet
        line = next(line for line in part.splitlines() if line.startswith("| others"))
        for method, *sums in re.findall(r"([A-Za-z-]+)(?:\(ARL\))? ([\d.]+)/([\d.]+)", line.split("|")[2]):
            method = {"ARTVL": "ARL"}.get(method, method)
            assert [known(kind, *OTHERS)[method][-1] for kind in ("tvr", "activitynet")] == [float(value) for value in sums]


def test_the_rest_of_rals_figure(more: str) -> None:
    """Those with all five values and those with SumR alone; with the three of RAL's own there is no other row."""
    figure = more.split("Rows of RAL's figure")[1].split("\n\n---")[0].replace("\n", " ")
    rows = re.findall(r"([A-Z][\w+-]*)(?: \(ARL\))? ([\d./]+), ([\d./]+)(?:;|[,.])", figure)
    assert len(rows) == 13
    for place, kind in enumerate(("tvr", "activitynet"), 1):
        own = {name: values for name, values in known(kind, "RAL's figure").items() if "RAL" not in name}
        assert own == {{"ARTVL": "ARL"}.get(row[0], row[0]): five(row[place].rstrip(".")) for row in rows}


@pytest.mark.parametrize("name", ["MS-SL++", "DreamPRVR", "Holmes", "CAVIGATE", "ProPy"])
def test_methods_that_are_not_on_the_bench(more: str, name: str) -> None:
    """Each value a card of the survey gives on the three datasets, and no other."""
    card = re.split(r"\n\* |\*\*[\w+-]+\*\* \(", more.split(f"**{name}**")[1])[0]
    said = {five(cell) for cell in re.findall(FIVE, card)}
    mine = {row.values for kind in KINDS[1:] for row in published(kind) if row.method.removesuffix(" multi") == name}
    assert mine == said
    assert len(mine) >= 3


def test_what_dl_dkd_plus_plus_and_a_method_without_training_reached(more: str) -> None:
    line = next(line for line in more.splitlines() if line.startswith("| DL-DKD++"))
    cells = [five(cell.strip()) for cell in line.strip("| ").split("|")[1:]]
    assert [known(kind, OTHERS[0])["DL-DKD++"] for kind in ("tvr", "activitynet", "charades")] == cells
    trained = re.search(r"CLIP-L/14 172.9 -> ([\d.]+)", more)
    assert trained is not None
    assert known("activitynet", "TF-PRVR (NeurIPS 2026)")["TF-PRVR"] == five(trained[1])


def test_qvhighlights_and_the_variations(text: str) -> None:
    line = next(line for line in text.splitlines() if line.startswith("QVHighlights (CLIP-B"))
    rows = {}
    for method, values in re.findall(r"([A-Za-z][\w .-]*?)(?: \(dagger\))?(?: SumR)? ([\d./]+\d)(?:;|\.)", line.split("): ", 1)[1]):
        numbers = tuple(float(value) for value in values.split("/"))
        rows[name_of(method)] = numbers if len(numbers) == 5 else (None, None, None, None, *numbers)
    assert known("qvhighlights", "MSC paper") == rows
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
