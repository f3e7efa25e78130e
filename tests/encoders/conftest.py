"""Small real models in the published formats, and frames as the video stage stores them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from pipeline.config.encoders import OpenClip, SlowFast
from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.source import Source
from pipeline.core.store import create
from pipeline.encoders import slowfast

SIZE = 32
CLIP_CFG: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": False,
    "vision_cfg": {"layers": 2, "width": 64, "patch_size": 16, "image_size": SIZE},
    "text_cfg": {
        "context_length": 12,
        "vocab_size": 520,
        "width": 64,
        "heads": 2,
        "layers": 2,
        "tokenizer_kwargs": {"bpe_path": "vocab.txt.gz"},
    },
}
SLOWFAST_CFG: dict[str, Any] = {
    "model_depth": 18,
    "stem_dim_outs": [16, 2],
    "model_num_class": 5,
    "head_pool_kernel_sizes": [[2, 1, 1], [8, 1, 1]],
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without anybody's weights or caches, so that a test sees only what it put there."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.delenv("PRVR_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    return home


def randomised(model: torch.nn.Module, seed: int = 0) -> Any:
    """The model with every parameter and buffer away from its initial value, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and torch.isfinite(tensor).all():
                tensor.add_(0.05 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


def tiny_clip(**changes: Any) -> CLIP:
    """The same model on every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return randomised(CLIP(**{**CLIP_CFG, **changes}))


def clip_folder(folder: Path, model: CLIP, cfg: dict[str, Any] = CLIP_CFG, preprocess: dict[str, Any] | None = None) -> Path:
    """A model in open_clip's folder layout, with a small vocabulary of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": preprocess or {}}))
    with gzip.GzipFile(folder / "vocab.txt.gz", "wb", mtime=0) as file:
        file.write(b"#version: own\nt h\nth e</w>\na b")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def clip_dir(tmp_path: Path) -> Path:
    return clip_folder(tmp_path / "tiny-clip", tiny_clip())


@pytest.fixture
def slowfast_dir(tmp_path: Path) -> Path:
    """A small SlowFast as the published checkpoints keep it: {"model_state": ...} with its head."""
    folder = tmp_path / "tiny-slowfast"
    folder.mkdir()
    (folder / "slowfast_config.json").write_text(json.dumps(SLOWFAST_CFG))
    model = randomised(slowfast.build(slowfast.read_arguments(folder / "slowfast_config.json"), 4))
    torch.save({"model_state": model.state_dict()}, folder / "slowfast_model.pyth")
    return folder


def clip_entry(folder: Path, **changes: Any) -> OpenClip:
    return OpenClip(**{"architecture": "tiny", "weights": str(folder), "size": SIZE, **changes})


def slowfast_entry(folder: Path, **changes: Any) -> SlowFast:
    return SlowFast(**{"architecture": "tiny", "weights": str(folder), "size": SIZE, "frames": 8, **changes})


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def project(tmp_path: Path, clip_dir: Path, slowfast_dir: Path) -> Callable[..., tuple[Config, Layout, list[Source]]]:
    """Makes a configuration with both tiny encoders, and one shard of frames of the given numbers of rows per video."""

    def make(
        rows: dict[str, int], shard: str = "000", quarantine: tuple[str, ...] = (), **runtime: Any
    ) -> tuple[Config, Layout, list[Source]]:
        config = Config(
            results=str(tmp_path / "results"),
            encoders={"clip": clip_entry(clip_dir), "motion": slowfast_entry(slowfast_dir)},
            features=["clip", "motion"],
            text="clip",
            runtime={"device": "cpu", **runtime},
        )
        layout = config.layout
        for encoder in config.encoders.values():
            stream = encoder.stream
            with create(layout.frames(stream.name, shard), stage="frames") as writer:
                for position, (video_id, count) in enumerate(rows.items()):
                    if video_id in quarantine:
                        continue
                    frames = count if stream.count == 1 else count * 4 + 4
                    index = np.arange(count)[:, None] if stream.count == 1 else np.arange(count)[:, None] * 4 + np.arange(stream.count)
                    times = np.arange(count) * stream.every
                    items = {"fingerprint": f"print-{video_id}", "duration": count * stream.every, "decoder": "decord"}
                    writer.append("frames", video_id, pixels(frames, SIZE, SIZE, 3, seed=position), {"time": np.arange(frames) / 4})
                    writer.append("windows", video_id, index.astype(np.int32), {"start": times, "end": times + stream.every}, items)
        bad = [{"id": i, "path": f"{i}.mp4", "code": "EMPTY", "message": "", "decoder": "", "bytes": 0} for i in quarantine]
        write_json(layout.frames_manifest(shard), {"videos": {}, "quarantine": bad, "skipped": []})
        return config, layout, [Source(i, (f"{i}.mp4",), f"print-{i}", None) for i in rows]

    return make
