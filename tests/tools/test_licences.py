"""docs/licences.md is what is installed, and what it says about publishing follows from the wheels."""

from __future__ import annotations

from pathlib import Path

from pipeline.tools import licences


def test_the_page_is_what_is_installed(root: Path) -> None:
    page = (root / "docs" / "licences.md").read_text()
    assert page.splitlines() == list(licences.page()), "run `python -m pipeline.tools.licences > docs/licences.md`"
    pinned = dict(line.split("==") for line in (root / "constraints.txt").read_text().splitlines() if "==" in line)
    known = {licences._plain(name): version for name, version in pinned.items()}
    others = {of.metadata["Name"]: of.version for of in licences.closure() if known.get(licences._plain(of.metadata["Name"])) != of.version}
    assert others == {}, "constraints.txt does not name these versions"


def test_what_is_needed_is_listed_and_tools_of_development_are_not() -> None:
    names = {of.metadata["Name"] for of in licences.closure()}
    assert {"torch", "decord", "av", "snakemake", "fvcore"} <= names
    assert not {"pytest", "mypy", "prvr"} & names


def test_the_warning_follows_from_the_wheels() -> None:
    installed = {of.metadata["Name"]: of for of in licences.closure()}
    assert licences.ffmpeg(installed["decord"]) == "; its FFmpeg: nonfree and unredistributable"
    assert "libx264" in licences.bundled(installed["decord"])
    assert {"libx264", "libx265"} <= set(licences.bundled(installed["av"]))
    assert any("NVIDIA" in licences.licence(of) for name, of in installed.items() if name.startswith("nvidia-"))
