"""docs/methods.md: its presets, parameter counts, vectors of a video and published sums are those of the code and of published.yaml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from pipeline.config import presets
from pipeline.config.method import Experiment
from pipeline.config.reading import load
from pipeline.core.plugins import kinds
from pipeline.evaluation.published import published
from pipeline.models.base import Dims, Videos, build
from pipeline.ranking import gallery
from pipeline.training.cost import vectors

SHAPES = {"msc": Dims(3072, 768), "amdnet": Dims(512, 512)}  # what a count of the page is of, where not TVR's
NAMES = [name for name in presets.names() if "ms_sl" not in name or "ms_sl" in kinds("models")]


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "methods.md").read_text()


@pytest.fixture(scope="module")
def rows(page: str) -> dict[str, list[str]]:
    """preset -> its row of the table."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")]
    return {name: row for row in cells for name in re.findall(r"`(\w+)`", row[0])}


def experiment(root: Path, name: str, dataset: str = "tvr") -> Experiment:
    return load(root / "config.yaml", overrides={"experiments": {"one": {"preset": f"{name}/{dataset}"}}}).experiment("one")


def test_every_preset_is_on_the_page(rows: dict[str, list[str]]) -> None:
    assert set(presets.names()) <= set(rows)


@pytest.mark.parametrize("name", [name for name in NAMES if "tvr" in presets.datasets(name)])
def test_counts_of_the_page(root: Path, rows: dict[str, list[str]], name: str) -> None:
    chosen, dims = experiment(root, name), SHAPES.get(name, Dims(3072, 768))
    count = sum(parameter.numel() for parameter in build(chosen.model.kind, chosen.model, dims).parameters())
    said = re.match(r"[\d,]+", rows[name][3])
    assert said is not None
    if name in ("ral_gmmformer", "ral_ms_sl", "ral_msc"):
        return  # the page counts RAL on v2
    assert f"{count:,}" == said[0]


@pytest.mark.parametrize("name", NAMES)
def test_vectors_of_the_page(root: Path, rows: dict[str, list[str]], name: str) -> None:
    chosen = experiment(root, name, presets.SMALL)
    model = build(chosen.model.kind, chosen.model, Dims(6, 6))
    video = Videos(
        torch.rand(2, 128, 6), torch.rand(2, 32, 6), torch.full((2, 32), 4.0), torch.arange(128).repeat(2, 1) // 4, torch.zeros(2, 32)
    )
    video = video._replace(mask=torch.ones(2, 128)) if "mask" in Videos._fields else video
    kept = vectors(gallery.encode_videos(model, [video]), chosen.model.hidden)
    said = rows[name][2]
    if said.startswith("as "):
        return
    assert kept >= int(re.findall(r"\d+", said)[0]), "an index holds at least the vectors that are scored"


def test_published_sums_of_the_page(page: str) -> None:
    """Each SumR of a section is in published.yaml under the section's method."""
    checked = 0
    for section in page.split("\n## ")[1:]:
        methods = section.split("\n")[0].split(" and ")
        known = {line.values[-1] for kind in presets.BENCHMARKS for line in published(kind) if line.method.replace(" †", "") in methods}
        for text in re.findall(r"SumR(?: with CLIP-L/14)?: (.*?)(?:\(|\n\n|$)", section, flags=re.S) if known else ():
            for number in re.findall(r"\d{2,3}\.\d", text):
                assert float(number) in known, f"{methods} {number}"
                checked += 1
    assert checked >= 25
