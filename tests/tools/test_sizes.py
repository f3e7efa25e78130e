"""The sizes `prvr init` writes: for 5, 300 and 20,000 videos, and that five videos really train with them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.config.reading import load
from pipeline.core.store import open_store
from pipeline.tools.init import init
from pipeline.tools.sizes import fitting
from pipeline.training.advice import advice
from tests.datasets.miniature import encode

SIZES = {1: (64, 2), 5: (64, 2), 300: (64, 64), 499: (64, 64), 500: (128, 64), 1_999: (128, 128), 2_000: (384, 128), 20_000: (384, 128)}
RATES = {64: 1.5e-3, 128: 7.5e-4, 384: 2.5e-4}


@pytest.mark.parametrize(("videos", "hidden", "batch"), [(videos, *sizes) for videos, sizes in SIZES.items()])
def test_sizes(videos: int, hidden: int, batch: int) -> None:
    assert fitting(videos)[:3] == (hidden, batch, RATES[hidden])


def test_the_demos_sizes_are_the_rules(root: Path) -> None:
    """Its hidden size and rate were found by training; its batch is smaller than the rule's largest."""
    demo = load(root / "config.yaml").experiment("main")
    fit = fitting(320)
    assert (fit.hidden, fit.rate) == (demo.model.hidden, demo.training.learning_rate)
    assert demo.training.batch_videos <= fit.batch


@pytest.mark.parametrize("videos", [*range(2, 41), 300, 1_000, 20_000])
def test_no_advice_speaks_against_them(root: Path, videos: int) -> None:
    own = load(root / "config" / "own-videos.yaml").experiment("main")
    fit = fitting(videos)
    sized = own.model_copy(
        update={
            "model": own.model.model_copy(update={"hidden": fit.hidden}),
            "training": own.training.model_copy(update={"batch_videos": fit.batch, "learning_rate": fit.rate}),
        }
    )
    said = advice(sized, videos=videos, queries=2 * videos)
    assert said == [] or videos == 2, said  # of two videos there is one step an epoch, whatever the batch
    assert fit.batch * 4 <= max(videos, 8)


@pytest.mark.parametrize("videos", [5, 300, 20_000])
@pytest.mark.parametrize("captions", [True, False])
def test_what_init_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos: int, captions: bool) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(videos):
        (folder / f"{i}.mp4").touch()
    training = videos * 3 // 5
    if captions:
        rows = [f"{i}.mp4,thing {i},{'train' if i < training else 'val' if i % 2 else 'test'}" for i in range(videos)]
        (folder / "list.csv").write_text("path,query,split\n" + "\n".join(rows))
    init(folder, Path())
    text, main = Path("mine.yaml").read_text(), load("mine.yaml").experiment("main")
    fit = fitting(training if captions else videos)
    assert (main.model.hidden, main.training.batch_videos, main.training.learning_rate) == fit[:3]
    said = re.findall(r"^  (?:hidden|batch_videos): .*# for ([\d,]+) videos: .+$", text, flags=re.M)
    assert said == [f"{training if captions else videos:,}"] * 2
    assert all(len(line) <= 140 for line in text.splitlines() if " for " in line)
    named = load("mine.yaml").dataset.annotations
    assert named == (str(folder / "list.csv") if captions else "mine.queries.csv")


@pytest.mark.slow
def test_five_videos_train(root: Path, tmp_path: Path) -> None:
    """With what `init` writes for them, but for the encoder, whose weights are not shipped: two steps an epoch, and the loss comes down."""
    for i, name in enumerate("abcde"):
        encode(tmp_path / "mine" / f"{name}.mp4", 3, i)
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def prvr(*words: str) -> str:
        command = [sys.executable, "-m", "pipeline.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    prvr("init", "mine")
    values = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    tiny = yaml.safe_load((root / "config.yaml").read_text())["encoders"]["demo-clip-b16"]
    values["encoders"]["clip-b16"] = {**tiny, "weights": str(root / tiny["weights"])}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    rows = (tmp_path / "mine.queries.csv").read_text().splitlines()
    splits = {"a": "train", "b": "train", "c": "train", "d": "val", "e": "test"}
    filled = [f"{row.split(',')[0]},a picture of {name},{splits[name]},," for name, row in zip("abcde", rows[1:], strict=True)]
    (tmp_path / "mine.queries.csv").write_text("\n".join([rows[0], *filled]) + "\n")
    prvr("run", "--configfile", "mine.yaml", "--quiet")
    with open_store(tmp_path / "results" / "mine" / "runs" / "main" / "seed9527" / "checkpoint.h5") as store:
        history = store.table("history")
    # One video of `val` is found at once whatever is learnt, so that patience ends the training; the loss of two videos is noisy.
    assert len(history) > 5
    assert history["loss"].iloc[1:].min() < 0.95 * history["loss"].iloc[0]
    assert (history["gradient_norm"] > 0).all()
