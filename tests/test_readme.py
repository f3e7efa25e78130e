"""The README: what it says of make, and that the demo's table fits together."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.ranking.metrics import chance
from tests.workflow.test_demo_table import COLUMNS, band, demo_text, tables


def test_make_targets_do_what_the_readme_says(root: Path) -> None:
    planned = subprocess.run(["make", "--dry-run", "demo"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "snakemake --cores all --resources gpu=1" in planned


def test_the_demos_table_fits_together(root: Path) -> None:
    """Sums, chance, gains and multiples follow from the recalls beside them, to the digit they are printed with."""
    text = demo_text(root)
    whole, motion = tables(text)
    assert 0 < band(text) < 10
    gallery = int(re.search(r"against (\d+) videos", text)[1])  # type: ignore[index]
    expected = chance(gallery)
    assert whole["chance"] == [round(expected[name], 1) for name in COLUMNS]
    for row in (*whole.values(), *motion.values()):
        assert row[-1] == pytest.approx(sum(row[:-1]), abs=0.21)  # five roundings of 0.05
    said = re.findall(r"- ([\w-]+): R@1 is ([\d.]+) times chance, SumR ([+-][\d.]+) against zero-shot", text)
    assert [name for name, *_ in said] == [name for name in whole if name not in ("zero-shot max-sim", "chance")]
    for name, times, gain in said:
        assert float(times) == pytest.approx(whole[name][0] / expected["R@1"], abs=0.06 / expected["R@1"] + 0.05)
        assert float(gain) == pytest.approx(whole[name][-1] - whole["zero-shot max-sim"][-1], abs=0.16)
