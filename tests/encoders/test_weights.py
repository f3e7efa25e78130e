"""Weights are found where they are, named exactly where they are not, and never fetched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import published
from pipeline.config.encoders import OpenClip, SlowFast
from pipeline.config.schema import Config
from pipeline.core.errors import WeightsError
from pipeline.encoders import open_clip, slowfast, weights
from tests.encoders.conftest import clip_entry, slowfast_entry

B16 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
L14 = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"


def test_table_is_open_clips() -> None:
    """`python -m pipeline.config.published` after an open_clip update."""
    assert published.from_open_clip() == json.loads(published._TABLE.read_text())
    assert published.table()["ViT-B-16-quickgelu"]["openai"].sha256 == B16
    assert published.table()["ViT-L-14-quickgelu"]["openai"].sha256 == L14
    from open_clip import list_models

    assert set(published.table()) <= set(list_models())


def test_slowfast_addresses_are_pytorchvideos() -> None:
    from pytorchvideo.models.hub.slowfast import checkpoint_paths

    assert {name: entry.url for name, entry in published.SLOWFAST.items()} == {name: checkpoint_paths[name] for name in published.SLOWFAST}


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (OpenClip(), ["ViT-B-16.pt", B16, "351 MB", "MIT", "weights/", "https://openaipublic.azureedge.net", "PRVR_WEIGHTS"]),
        (OpenClip(architecture="ViT-L-14-quickgelu"), ["ViT-L-14.pt", L14, "933 MB"]),
        (
            OpenClip(architecture="ViT-B-16", weights="laion2b_s34b_b88k"),
            [
                "CLIP-ViT-B-16-laion2B-s34B-b88K/open_clip_model.safetensors",
                "https://huggingface.co/laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
                "hf download",
            ],
        ),
        (OpenClip(weights="laion2b_s34b_b88k"), ["'laion2b_s34b_b88k' is no tag of ViT-B-16-quickgelu", "is a tag of ViT-B-16"]),
        (OpenClip(weights="opnai"), ["'opnai' is no tag of ViT-B-16-quickgelu, and no file", "did you mean openai? there are: openai"]),
        (OpenClip(weights="OpenAl"), ["is no tag of", "did you mean openai?"]),
        (
            OpenClip(architecture="ViT-B-16", weights="laion2b_s34b_b88"),
            ["'laion2b_s34b_b88' is no tag of ViT-B-16,", "did you mean laion2b_s34b_b88k?"],
        ),
        (
            OpenClip(architecture="ViT-B-16-quikgelu"),
            ["open_clip has no architecture 'ViT-B-16-quikgelu'", "did you mean ViT-B-16-quickgelu?"],
        ),
        (SlowFast(architecture="slowfast_r5", weights="x.pyth"), ["no architecture 'slowfast_r5'", "did you mean slowfast_r50?"]),
        (OpenClip(weights="models/mine.pt"), ["models/mine.pt", "open_clip_config.json"]),
        (SlowFast(), ["SLOWFAST_8x8_R50.pyth", "277 MB", "https://dl.fbaipublicfiles.com/pytorchvideo", "Apache-2.0"]),
        (SlowFast(weights="mine/"), ["slowfast_config.json", "slowfast_model.safetensors"]),
    ],
)
def test_missing_weights_are_named(encoder: OpenClip | SlowFast, expected: list[str]) -> None:
    load = open_clip.load if isinstance(encoder, OpenClip) else slowfast.load
    with pytest.raises(WeightsError) as failure:
        load(encoder, name="motion")  # type: ignore[arg-type]
    for text in expected:
        assert text in str(failure.value), str(failure.value)
    assert str(failure.value).startswith("[WEIGHTS] motion: ")


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_places(own_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In order: the given path, $PRVR_WEIGHTS, the libraries' own caches."""
    laion = OpenClip(architecture="ViT-B-16", weights="laion2b_s34b_b88k")
    snapshot = own_home / "hub" / "models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K"
    put(snapshot / "refs" / "main", b"abc")
    file = put(snapshot / "snapshots" / "abc" / "open_clip_pytorch_model.bin")
    assert weights.resolve(laion).file == file
    file = put(Path("weights") / "CLIP-ViT-B-16-laion2B-s34B-b88K" / "open_clip_model.safetensors")
    assert weights.resolve(laion).file == file
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path))
    file = put(tmp_path / "CLIP-ViT-B-16-laion2B-s34B-b88K" / "open_clip_model.safetensors")
    assert weights.resolve(laion).file == file
    file = put(own_home / "hub" / "checkpoints" / "SLOWFAST_8x8_R50.pyth")
    assert weights.resolve(SlowFast()).file == file
    file = put(tmp_path / "SLOWFAST_8x8_R50.pyth")
    assert weights.resolve(SlowFast()).file == file


def test_checksums(own_home: Path) -> None:
    """A published or configured checksum must match; OpenCLIP's releases publish its first digits."""
    put(own_home / ".cache" / "clip" / "ViT-B-16.pt")
    with pytest.raises(WeightsError, match=f"expected {B16}"):
        weights.resolve(OpenClip())
    digest = hashlib.sha256(b"weights").hexdigest()
    put(Path("mine.pt"))
    assert weights.resolve(OpenClip(weights="mine.pt", sha256=digest.upper())).sha256 == digest
    with pytest.raises(WeightsError, match="expected 0000"):
        weights.resolve(OpenClip(weights="mine.pt", sha256="0" * 64))
    put(Path("weights") / "vit_b_16-laion400m_e32-55e67d44.pt")
    with pytest.raises(WeightsError, match="expected 55e67d44"):
        weights.resolve(OpenClip(architecture="ViT-B-16", weights="laion400m_e32"))


def test_checksum_is_remembered_until_the_file_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(Path("mine.pt"))
    first = weights.checksum(file)

    def sha256(path: Path) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr(weights, "sha256", sha256)
    assert weights.checksum(file) == first
    put(file, b"other weights")
    with pytest.raises(AssertionError):
        weights.checksum(file)


def test_identity(clip_dir: Path, slowfast_dir: Path) -> None:
    """What recipes see: published checksum, own checksum, content, and the tag where nothing is here."""
    assert weights.identity(OpenClip()) == B16
    assert weights.identity(OpenClip(weights="x.pt", sha256="AB")) == "ab"
    assert weights.identity(OpenClip(architecture="ViT-B-16", weights="laion2b_s34b_b88k")) == "ViT-B-16:laion2b_s34b_b88k"
    assert weights.identity(SlowFast()) == "slowfast_r50:SLOWFAST_8x8_R50.pyth"
    put(Path("mine.pt"))
    assert weights.identity(OpenClip(weights="mine.pt")) == hashlib.sha256(b"weights").hexdigest()
    for encoder, file in ((clip_entry(clip_dir), "vocab.txt.gz"), (slowfast_entry(slowfast_dir), "slowfast_config.json")):
        before = weights.identity(encoder)
        assert weights.identity(encoder) == before
        put(Path(encoder.weights) / file, b"{}")
        assert weights.identity(encoder) != before


def test_identity_imports_no_torch() -> None:
    code = (
        "import sys; from pipeline.encoders.weights import identity; from pipeline.config.encoders import OpenClip\n"
        "identity(OpenClip(architecture='ViT-B-16', weights='laion2b_s34b_b88k'))\n"
        "sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    )
    root = Path(weights.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})


def test_inventory(clip_dir: Path) -> None:
    config = Config(encoders={"tiny": clip_entry(clip_dir), "clip-b16": OpenClip()}, features=["tiny"], text="clip-b16")
    tiny, b16 = weights.inventory(config)
    assert tiny.found.endswith("open_clip_model.safetensors")
    assert not tiny.problem
    assert len(tiny.sha256) == 64
    assert (b16.file, b16.sha256, b16.found, b16.megabytes) == ("ViT-B-16.pt", B16, "", 351)
    assert "WEIGHTS" in b16.problem


def test_an_encoder_that_no_experiment_uses_is_not_judged(clip_dir: Path) -> None:
    encoders = {"tiny": clip_entry(clip_dir), "text": OpenClip(), "teacher": OpenClip(), "sweep": SlowFast(), "spare": SlowFast()}
    given = {"encoders": encoders, "features": ["tiny"], "text": "text", "teacher": "teacher"}
    assert [needed.encoder for needed in weights.inventory(Config(**given, sweeps={"s": {"features": ["sweep"]}}))] == [
        "tiny", "text", "teacher", "sweep",
    ]  # fmt: skip
    assert [needed.encoder for needed in weights.inventory(Config(**given))] == ["tiny", "text", "teacher"]


def test_the_file_a_message_names_is_found_where_it_says() -> None:
    laion = OpenClip(architecture="ViT-B-16", weights="laion2b_s34b_b88k")
    with pytest.raises(WeightsError) as refused:
        weights.resolve(laion)
    file, folder = re.search(r"put (\S+) \(.*\) into (\S+)/ ", refused.value.fix).groups()  # type: ignore[union-attr]
    hub = re.search(r"hf download (\S+) (\S+) --local-dir (\S+)", refused.value.fix)
    assert hub
    assert Path(folder) / file == Path(hub[3]) / hub[2]
    path = put(Path(folder) / file)
    with contextlib.suppress(WeightsError):  # its checksum is another
        assert weights.resolve(laion).file == path
    assert weights._locate(laion) == (path, path.parent) or weights._locate(laion) == (path, None)
