"""The shipped encoders: whole, small, and as good as the docs say, through the loaders of full-size weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.reading import load as load_config
from pipeline.config.schema import Config
from pipeline.demo import bpe, lessons, pretrain, pretrain_clip, pretrain_slowfast
from pipeline.demo.examine import WEIGHTS, clip_entry, examine_clip, examine_slowfast, slowfast_entry
from pipeline.demo.scenes import Scene
from pipeline.encoders import open_clip, slowfast

SHOTS = 256
CLIPS = ("demo-clip-b16", "demo-clip-l14")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[Scene], np.ndarray]]:
    folder = tmp_path_factory.mktemp("films")
    taken = {purpose: lessons.shots(purpose, pretrain.SEED, SHOTS) for purpose in ("train", "held-out")}
    return {purpose: (scenes, lessons.film(scenes, folder / f"{purpose}.npy", workers=1)) for purpose, scenes in taken.items()}


def test_checksums_and_size() -> None:
    lines = [line.split("  ") for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines()]
    files = {path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.glob("*/*")}
    assert {name for _, name in lines} == files
    for digest, name in lines:
        assert hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest() == digest, name
    assert sum((WEIGHTS / name).stat().st_size for name in files) < 8e6


def test_the_default_configuration_names_these_encoders(root: Path) -> None:
    config: Config = load_config(root / "config.yaml")
    for name in CLIPS:
        entry = clip_entry(name, Path("pipeline/demo/weights"))
        assert config.encoders[name] == entry
    assert config.encoders["demo-slowfast"] == slowfast_entry(Path("pipeline/demo/weights"))


def test_the_docs_state_the_measured_accuracy(root: Path) -> None:
    text = (root / "docs" / "demo.md").read_text()
    for name, found in json.loads((WEIGHTS / "held_out.json").read_text()).items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
        assert all(f"{value:.1f}" in row for value in found.values()), f"{name}: {found}"


@pytest.mark.parametrize("name", CLIPS)
def test_clip_names_what_it_never_saw(name: str, films: dict[str, tuple[list[Scene], np.ndarray]]) -> None:
    found = examine_clip(clip_entry(name), *films["held-out"])
    assert found["colour"] > 90
    assert found["place"] > 90
    assert 35 < found["shape"] < 99, "far above chance (12.5 %), and not perfect"
    assert found["R@10"] > 60


def test_slowfast_names_motions_it_never_saw(films: dict[str, tuple[list[Scene], np.ndarray]]) -> None:
    assert examine_slowfast(slowfast_entry(), films["train"], *films["held-out"])["motion"] > 95


def test_no_still_gives_the_motion_away(films: dict[str, tuple[list[Scene], np.ndarray]]) -> None:
    """The better CLIP's features tell the seven poses apart at best, not the direction or speed: half of the motions are lost."""
    encoder = open_clip.load(clip_entry("demo-clip-l14"))
    names = [m for m in pretrain_slowfast.CLASSES if m != "none"]

    def features(purpose: str) -> tuple[torch.Tensor, torch.Tensor]:
        scenes, frames = films[purpose]
        kept = [i for i, scene in enumerate(scenes) if scene.motion]
        images = pretrain_clip.stills(frames[kept, 6], 56)
        vectors = torch.cat([encoder.model.encode_image(part) for part in images.split(64)])
        return vectors, torch.tensor([names.index(scenes[i].motion or "") for i in kept])

    with torch.inference_mode():
        (known, truth), (asked, answers) = features("train"), features("held-out")
    means = torch.stack([known[truth == k].mean(0) for k in range(len(names))])
    assert (torch.cdist(asked, means).argmin(1) == answers).float().mean() < 0.35


def test_full_size_loaders_load_them() -> None:
    for name, width in zip(CLIPS, (64, 96), strict=True):
        encoder = open_clip.load(clip_entry(name))
        assert encoder.dim == width
        (states, sentence, cut), *_ = encoder.encode_texts(["A crimson ball spins clockwise in the desert"])
        assert sentence.shape == (width,)
        assert len(states) == 10, "every word is one token, plus start and end"
        assert not cut
    assert slowfast.load(slowfast_entry()).dim == 576


def test_bpe_learns_whole_words(tmp_path: Path) -> None:
    merges = bpe.learn(["a red star", "the red ring", "red"])
    bpe.write(tmp_path / "bpe.txt.gz", merges)
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer(bpe_path=str(tmp_path / "bpe.txt.gz"), context_length=8)
    assert tokenizer.vocab_size == bpe.size(merges)
    assert len(tokenizer.encode("the red star")) == 3
    assert tokenizer.decode(tokenizer.encode("the red star")).strip() == "the red star"
    assert (tmp_path / "bpe.txt.gz").read_bytes() == (bpe.write(tmp_path / "again.gz", merges) or (tmp_path / "again.gz").read_bytes())


def test_pretraining_runs_and_writes_what_the_loaders_take(tmp_path: Path, films: dict[str, tuple[list[Scene], np.ndarray]]) -> None:
    """Two steps each: the script is alive. What many steps reach is measured above, on what it shipped."""
    scenes, frames = films["train"]
    recipe = pretrain_clip.Recipe("demo-clip-b16", 1, size=64, patch=16, width=32, layers=1, text_width=32, embed=16, steps=2, listening=2)
    merges = bpe.learn(lessons.captions(scenes, 0, sentences=0.5))
    pretrain_clip.train(recipe, scenes, frames, merges, tmp_path / recipe.name)
    assert open_clip.load(clip_entry(recipe.name, tmp_path)).dim == 16
    pretrain_slowfast.train(scenes, frames, tmp_path / "demo-slowfast", steps=2, seed=0)
    assert slowfast.load(slowfast_entry(tmp_path)).dim == 576
