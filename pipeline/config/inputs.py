"""Where videos and queries come from, and how they are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Name, Place, Section, Share, or_plugged


class Dataset(Section):
    """Which videos, which queries. The `Settings` of a reader of one's own derives from it (docs/extending.md)."""

    name: Name = Field("demo", description="Results go to `<results>/<name>/`.")
    kind: str = "own"
    videos: Place = Field("", description="Folder of the videos (searched recursively). For `demo`, made when empty.")
    annotations: Place = Field(
        "", description="CSV or JSONL of queries for `own`; the folder of the original annotation files for the benchmarks."
    )
    gallery: Name | None = Field(
        None, description="Evaluation gallery, where a dataset has several: activitynet `val_1` or `mssl`; qvhighlights `val` or `test`."
    )
    allow_missing_videos: bool = Field(False, description="Go on with the videos that are on disk; the missing ones are listed.")
    include_unlabelled: bool = Field(
        False, description="Own videos: also take in videos of the folder that no query names (for search, never evaluated)."
    )

    @property
    def original(self) -> bool:
        """Whether it is read from the files its publisher gives out."""
        return self.kind not in ("own", "demo", "bundle")


class Ours(Dataset):
    """Which videos, which queries."""

    kind: Literal["own", "demo", "qvhighlights", "tvr", "activitynet", "charades", "bundle"] = Field(
        "own",
        description="How annotations are read: `own` is a CSV or JSONL; `demo` renders the embedded world and reads it as `own`; "
        "`bundle` is what `prvr import` read; the dotted name of a module of your own: docs/extending.md.",
    )


if TYPE_CHECKING:
    AnyDataset = Dataset
else:
    AnyDataset = or_plugged("datasets", Dataset, Ours)


class Demo(Section):
    """The generated world (`dataset.kind: demo`)."""

    world: Literal["demo", "world-1", "world-1-noisy"] = Field(
        "demo",
        description="Short videos (demo), or the benchmark of docs/world.md (world-1), or that with wrong and vague captions.",
    )
    seed: int = Field(7, description="Seed of the rendered world.")
    train: int = Field(320, ge=1, le=1000, description="Training videos.")
    val: int = Field(40, ge=1, le=1000, description="Validation videos.")
    test: int = Field(128, ge=1, le=1000, description="Test videos (the gallery).")


class Decoding(Section):
    """Decoding and quarantine."""

    shard_size: PositiveInt | Literal["auto"] = Field(
        "auto", description="Videos per shard: one job decodes one shard. `auto`: 100, fewer of long videos, more of very many."
    )
    frames: Literal["stored", "streamed", "auto"] = Field(
        "stored",
        description="Where decoded frames wait for the encoders. `stored`: on disk, a shard at a time, so that decoding needs no GPU. "
        "`streamed`: nowhere; the job of the first encoder decodes its shard once, for all encoders of the table. `auto`: streamed where "
        "the frames of a shard would take more than a tenth of the free disk. Changes no result.",
    )
    keep_frames: bool = Field(
        False, description="Keep the decoded frames after the encoders have read them; not with `frames: streamed`, which has none."
    )
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

    @model_validator(mode="after")
    def _frames_to_keep(self) -> Decoding:
        if self.keep_frames and self.frames == "streamed":
            raise ValueError("keep_frames: streamed frames lie nowhere and cannot be kept; set frames: stored")
        return self
