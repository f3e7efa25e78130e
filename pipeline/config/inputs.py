"""Where videos and queries come from, how they are decoded, and which encoders look at them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config.base import Name, Section, Share


class Dataset(Section):
    """Which videos, which queries."""

    name: Name = Field("demo", description="Results go to `<results>/<name>/`.")
    kind: Literal["own", "demo", "qvhighlights", "tvr", "activitynet", "charades", "bundle"] = Field(
        "own",
        description="How annotations are read: `own` is a CSV or JSONL; `demo` renders the embedded world and reads it as `own`; "
        "`bundle` is what `prvr import` read.",
    )
    videos: str = Field("", description="Folder of the videos (searched recursively). For `demo`, made when empty.")
    annotations: str = Field(
        "", description="CSV or JSONL of queries for `own`; the folder of the original annotation files for the benchmarks."
    )
    gallery: Name | None = Field(
        None, description="Evaluation gallery, where a dataset has several: activitynet `val_1` or `mssl`; qvhighlights `val` or `test`."
    )
    allow_missing_videos: bool = Field(False, description="Go on with the videos that are on disk; the missing ones are listed.")
    include_unlabelled: bool = Field(
        False, description="Own videos: also take in videos of the folder that no query names (for search, never evaluated)."
    )


class Demo(Section):
    """The embedded demo world (`dataset.kind: demo`)."""

    seed: int = Field(7, description="Seed of the rendered world.")
    train: int = Field(320, ge=1, le=1000, description="Training videos.")
    val: int = Field(40, ge=1, le=1000, description="Validation videos.")
    test: int = Field(128, ge=1, le=1000, description="Test videos (the gallery).")


class Video(Section):
    """Decoding and quarantine."""

    shard_size: PositiveInt = Field(100, description="Videos per shard: one job decodes one shard. 50 to 200 on a real collection.")
    keep_frames: bool = Field(False, description="Keep the decoded frames after the encoders have read them.")
    keep_truncated: bool = Field(False, description="Use the frames a truncated file still holds instead of quarantining it.")
    decoder: Literal["pyav", "decord"] = Field(
        "pyav",
        description="`pyav`: PyAV for every file. `decord`: decord where it was shown right, if the files are known to be whole.",
    )
    frames_fps: PositiveFloat = Field(
        3.0, description="Rate of a folder of extracted frames, where one stands for a video (TVR ships 3 per second)."
    )
    max_bad_fraction: Share = Field(0.05, description="The run fails when a larger share of the videos is quarantined.")
    timeout: PositiveFloat = Field(60.0, description="Seconds a video may take before its decoding process is killed.")
    timeout_per_second: PositiveFloat = Field(2.0, description="Further seconds allowed per second of video.")
    memory_mb: PositiveInt = Field(4096, description="Memory limit of one decoding process, MB.")
    workers: int = Field(0, ge=0, description="Decoding processes per job; 0 means the job's threads. Changes no result.")


class Sampling(Section):
    """When a video is looked at: row i covers seconds [i*every, (i+1)*every)."""

    every: PositiveFloat = Field(2.0, description="Seconds per row (2: QVHighlights, 1: ActivityNet and Charades, 0.3333: TVR).")
    at: Literal["middle", "start"] = Field("middle", description="Which instant of the row a still is taken at.")


class OpenClip(Section):
    """A CLIP image and text encoder of open_clip."""

    kind: Literal["open_clip"] = "open_clip"
    architecture: str = Field(
        "ViT-B-16-quickgelu",
        description="open_clip architecture; OpenAI weights need the `-quickgelu` ones; a folder of your own: any unused name.",
    )
    weights: str = Field("openai", description="A pretrained tag, a weights file, or a folder with `open_clip_config.json`.")
    sha256: str | None = Field(None, description="Expected sha256 of the weights file; checked when given.")
    size: PositiveInt = Field(224, description="Side of the square input, pixels; must be the architecture's.")
    sampling: Sampling = Sampling()
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Arithmetic of the encoder.")
    compile: bool = Field(False, description="torch.compile the image tower: faster on long runs, other last bits.")


class SlowFast(Section):
    """A SlowFast motion encoder of pytorchvideo."""

    kind: Literal["slowfast"] = "slowfast"
    architecture: str = Field(
        "slowfast_r50", description="`slowfast_r50`, `slowfast_r101`, `slowfast_16x8_r101_50_50`, or a name of your own with a folder."
    )
    weights: str = Field(
        "SLOWFAST_8x8_R50.pyth",
        description="A checkpoint file, or a folder with `slowfast_config.json` (arguments of `create_slowfast`).",
    )
    sha256: str | None = Field(None, description="Expected sha256 of the weights file; checked when given.")
    size: PositiveInt = Field(224, description="Side of the square input, pixels.")
    frames: PositiveInt = Field(32, description="Frames of the fast pathway per window.")
    fps: PositiveFloat = Field(30.0, description="Rate the window is read at, frames per second.")
    stride: PositiveInt = Field(2, description="Take every n-th frame at `fps`; past the window's end the last is repeated.")
    alpha: PositiveInt = Field(4, description="The slow pathway takes one in alpha of them.")
    sampling: Sampling = Sampling()
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Arithmetic of the encoder.")
    compile: bool = Field(False, description="torch.compile the network: faster on long runs, other last bits.")


class Imported(Section):
    """Features or query states of a published bundle, put here by `prvr import`; nothing is computed."""

    kind: Literal["imported"] = "imported"


Encoder = Annotated[OpenClip | SlowFast | Imported, Field(discriminator="kind")]
