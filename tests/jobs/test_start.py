"""A job's start: what it loads before it works. torch's compiler costs more than torch itself, and a table needs neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TORCH_FREE = (
    "datasets.stage",
    "datasets.table",
    "video.stage",
    "evaluation.compare",
    "evaluation.table",
    "report.stage",
    "jobs.dag",
    "jobs.stages",
)
TRAINS = """
import sys, torch
from pipeline.training import cost, stage
stage.deterministic(torch.device("cpu"))
assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
print(*sys.modules)
"""


def loaded(root: Path, code: str) -> set[str]:
    """The modules a fresh interpreter has after the code, which prints them."""
    return set(subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", TORCH_FREE)
def test_jobs_that_only_read_and_write_do_not_load_torch(root: Path, module: str) -> None:
    names = loaded(root, f"import sys, pipeline.{module}; print(*sys.modules)")
    assert f"pipeline.{module}" in names
    assert "torch" not in names


def test_a_training_does_not_load_the_compiler(root: Path) -> None:
    names = loaded(root, TRAINS)
    assert "torch" in names
    assert not names & {"torch._dynamo", "torch._inductor", "torchvision", "sympy"}
