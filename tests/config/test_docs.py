"""The documentation names what exists."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.core import errors


def test_every_error_code_has_its_place_in_troubleshooting(root: Path) -> None:
    codes = {c.code for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.PrvrError)}
    headings = set(re.findall(r"^## (\w+)$", (root / "docs" / "troubleshooting.md").read_text(), flags=re.M))
    assert headings == codes


def test_every_code_of_a_video_is_in_troubleshooting(root: Path) -> None:
    """Those of the quarantine as a row of its table; those of a still that is to be shown below it."""
    files = [*(root / "pipeline" / "video").glob("*.py"), *(root / "pipeline" / "encoders").glob("*.py")]
    codes = {file.name: re.findall(r"(?:VideoError\(\s*|code=|code = |Outcome\(job, )\"([A-Z_]+)\"", file.read_text()) for file in files}
    shown = set(codes.pop("still.py"))
    table = (root / "docs" / "troubleshooting.md").read_text().split("# Quarantine codes")[1]
    assert set(re.findall(r"^\| ([A-Z_]+) \|", table, flags=re.M)) == {code for each in codes.values() for code in each}
    assert shown <= set(re.findall(r"`([A-Z_]+)`", table))


def test_links_lead_somewhere(root: Path) -> None:
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_that_pages_name_exist(root: Path) -> None:
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "benchmarks").glob("*.md")]
    for page in pages:
        for name in re.findall(r"`((?:pipeline|prvr|workflow|tests|benchmarks|profiles|envs|config)/[\w./-]+\.\w+)`", page.read_text()):
            assert (root / name).exists(), f"{page.name}: {name}"
