"""Where the project's files are, and the commands that hints print."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core import install


def test_a_checkout_is_its_own_project(root: Path) -> None:
    assert install.CHECKOUT
    assert root == install.PROJECT == install.CODE
    for path in (install.SNAKEFILE, install.DEMO, install.PRESETS / "own-videos.yaml", install.PROJECT / "profiles/slurm/config.yaml"):
        assert path.is_file()


@pytest.mark.parametrize(
    ("config", "in_checkout", "elsewhere"),
    [
        ("config.yaml", "snakemake --cores all --resources gpu=1", "prvr run"),
        ("my.yaml", "snakemake --configfile my.yaml --cores all --resources gpu=1", "prvr run --configfile my.yaml"),
        (
            "my videos.yaml",
            "snakemake --configfile 'my videos.yaml' --cores all --resources gpu=1",
            "prvr run --configfile 'my videos.yaml'",
        ),
        ("a.yaml + b.yaml", "snakemake --configfile a.yaml b.yaml --cores all --resources gpu=1", "prvr run --configfile a.yaml b.yaml"),
    ],
)
def test_a_hint_is_a_command_that_works_in_this_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, in_checkout: str, elsewhere: str
) -> None:
    monkeypatch.chdir(root)
    assert install.run_command(config) == in_checkout
    monkeypatch.chdir(tmp_path)
    assert install.run_command(config) == elsewhere
    (tmp_path / "Snakefile").write_text("")  # another project's
    assert install.run_command(config) == elsewhere


def test_another_interpreter_sees_the_package_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site-packages"
    (site / "pipeline").mkdir(parents=True)
    monkeypatch.setattr(install, "CHECKOUT", False)
    monkeypatch.setattr(install, "CODE", site)
    assert install.code_path() == ""
    linked = tmp_path / "run" / "code"
    for _ in range(2):
        assert install.code_path(linked) == str(linked)
        assert [(path.name, path.resolve()) for path in linked.iterdir()] == [("pipeline", site / "pipeline")]
    monkeypatch.setattr(install, "CODE", tmp_path / "upgraded")
    install.code_path(linked)
    assert (linked / "pipeline").readlink() == tmp_path / "upgraded" / "pipeline"
