"""A SigLIP 2 and a PE-Core, small but with their own towers, tokenizers and preprocessing, from video files to a search result."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import av
import pytest
import torch
from open_clip.factory import create_model
from open_clip.transform import image_transform
from safetensors.torch import load_file

from pipeline.core.store import open_store
from tests.encoders.towers import FAMILIES, HALF, OWN, OWN_WORDS, SIGLIP_TEXT, family
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def tower(name: str, size: int, pool_projection: str | None) -> dict:
    return {"image_size": size, "timm_model_name": name, "timm_pool": "map", "timm_proj": pool_projection}


# timm's own smallest tower that pools as SigLIP's, and its smallest PE-Core; texts of two layers.
SIGLIP = {**OWN, "embed_dim": 96, "init_logit_bias": -10, "vision_cfg": tower("test_vit3", 160, "none"), "text_cfg": SIGLIP_TEXT}
PE_TEXT = {**OWN_WORDS, "context_length": 32}
PE_CORE = {**OWN, "embed_dim": 64, "vision_cfg": tower("vit_pe_core_tiny_patch16_384", 384, None), "text_cfg": PE_TEXT}
MODELS = {"siglip2": (SIGLIP, "bicubic"), "pe-core": (PE_CORE, "bilinear")}
EVERY = 4.0


def test_from_video_file_to_search_result(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = copy.deepcopy(finished.config)
    data = finished.folder / "data"
    config["dataset"] = {"name": "towers", "kind": "own", "videos": str(data / "videos"), "annotations": str(data / "queries.csv")}
    config["video"]["shard_size"] = 100
    config["encoders"], config["experiments"] = {}, {}
    for name, (cfg, interpolation) in MODELS.items():
        preprocessing = {**HALF, "interpolation": interpolation, "resize_mode": "squash"}
        monkeypatch.setitem(FAMILIES, name, (cfg, preprocessing))
        folder = family(name, tmp_path / name)
        size = cfg["vision_cfg"]["image_size"]
        entry = {"kind": "open_clip", "architecture": name, "weights": str(folder), "size": size, "sampling": {"every": EVERY}}
        config["encoders"][name] = entry
        config["experiments"][name] = {"features": [name], "text": name}
    config |= {"features": ["siglip2"], "text": "siglip2"}
    work = Workspace(tmp_path / "work", config)
    work.snakemake()
    for name in MODELS:
        with open_store(work.results / "text" / f"{name}.h5", stage="text") as store:
            assert store.attrs["teacher"] == ("sentence" if name == "siglip2" else "last")
        shown = work.prvr("search", "--config", "config.yaml", "--experiment", name, "a red ball rolls left").stdout
        print(f"{name}:\n{shown}")
        hits = re.findall(r"^ *(\d+) +(-?[\d.]+) +(\d+):([\d.]+) - +(\d+):([\d.]+) \(best .*?\) +(?:\[\w+\] )?(\S+)$", shown, flags=re.M)
        assert [int(hit[0]) for hit in hits] == list(range(1, 11))
        assert len({hit[-1] for hit in hits}) == 10
        assert [float(hit[1]) for hit in hits] == sorted((float(hit[1]) for hit in hits), reverse=True)
        assert_features_are_the_librarys(work, data / "videos", tmp_path / name, name)


def assert_features_are_the_librarys(work: Workspace, videos: Path, folder: Path, name: str) -> None:
    """The first stored row of a video is what open_clip's own model and transform make of the frame shown then."""
    (file,) = (work.results / "features" / name).glob("*.h5")
    with open_store(file, stage="features") as store:
        features = store.ragged("features")
        video, preprocessing = features.ids[0], store.attrs["preprocessing"]
        row = torch.from_numpy(features[video][0]).float()
    path = next(path for path in videos.rglob("*.mp4") if path.relative_to(videos).with_suffix("").as_posix() == video)
    with av.open(str(path)) as container:
        shown = [frame for frame in container.decode(video=0) if frame.time <= EVERY / 2 + 1e-6][-1]
    model = create_model(f"local-dir:{folder}", load_weights=False, pretrained_image=False, pretrained_text=False).eval()
    model.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    said = {key: preprocessing[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    with torch.no_grad():
        expected = model.encode_image(image_transform(preprocessing["size"], False, **said)(shown.to_image())[None])[0]
    torch.testing.assert_close(row, expected, atol=2e-3, rtol=2e-3)
