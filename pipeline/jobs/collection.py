"""What a configuration is about: its videos, their shards, its encoders, and what of them is stored. No torch, no video library."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clips.recipe import recipe_name
from pipeline.config.method import Experiment
from pipeline.config.streams import Stream
from pipeline.core.errors import DatasetError
from pipeline.core.names import unknown
from pipeline.core.provenance import content
from pipeline.core.shards import USUAL, ShardStore, key, shard_size
from pipeline.jobs import recipes, resharding
from pipeline.jobs.divided import DividedVideos
from pipeline.jobs.headers import mean_seconds

Targets = Sequence[str]
TARGETS: Targets = ("table", "ablation", "sweeps", "compare")
FRAMES_SHARE = 0.1  # of the free disk, which the frames of a shard may take with `video.frames: auto`: several are at work at once


@dataclass(frozen=True)
class Collection(DividedVideos):
    """One configuration's videos, divided into shards, and what is stored of them."""

    def runs(self, target: str) -> list[tuple[str, int]]:
        """The runs of a target that can be had: without training queries, those whose checkpoint was imported and whose split has any."""
        queries, runs = self.queries, self.config.group(target)
        if queries.get("train"):
            return runs
        return [run for run in runs if self.imported_run(*run) and queries.get(self.experiment(run[0]).evaluation.split)]

    @functools.cached_property
    def divided_by(self) -> str:  # asked of every video
        # `prvr import` knows ids only, and shards of imported and computed features must hold the same videos.
        return "id" if any(self.imported(name) for name in self.video_encoders) else "content"

    @property
    def new_shard_size(self) -> int:
        if self.config.video.shard_size != "auto":
            return self.config.video.shard_size
        if self.divided_by == "id":
            return USUAL
        return shard_size(len(self.listing.videos), self._frames_of_a_video)

    @functools.cached_property
    def _frames_of_a_video(self) -> float:
        """Bytes of the temporary frames of a video of the mean length, which may take a look at headers."""
        seconds = mean_seconds(self.listing.videos)
        return sum(stream.frame_bytes(seconds) for stream in self.streams.values())

    @functools.cached_property
    def streamed(self) -> bool:
        video = self.config.video
        if video.frames != "auto" or video.keep_frames:
            return video.frames == "streamed"
        if self._saved:
            return self._saved.streamed
        return max(map(len, self.shards.values())) * self._frames_of_a_video > FRAMES_SHARE * free_disk(self.layout.root)

    @functools.cached_property
    def streams(self) -> dict[str, Stream]:
        return self.config.streams

    def experiment(self, name: str) -> Experiment:
        """The named experiment, put together once."""
        experiment: Experiment = self.once(("experiment", name), lambda: self.config.experiment(name))
        return experiment

    def names(self, targets: Targets = ("table",)) -> list[str]:
        """The experiments of these targets."""
        return list(dict.fromkeys(name for target in targets for name, _ in self.config.group(target)))

    @functools.cached_property
    def video_encoders(self) -> list[str]:
        """Encoders whose features some experiment of the table uses, in the order they are configured."""
        return self._used(("table",))

    def _used(self, targets: Targets) -> list[str]:
        used = {encoder for name in self.names(targets) for encoder in self.experiment(name).encoders}
        return [encoder for encoder in self.config.encoders if encoder in used]

    def encoders_to_run(self, targets: Targets = ("table",)) -> list[str]:
        """Those whose features jobs make."""
        return [name for name in self._used(targets) if not self.imported(name)]

    def fed(self, encoder: str, shard: str) -> list[str]:
        """The encoders that share the decoding of a streamed shard with this one; the job of the first decodes, and feeds them all.

        They are those of the table that have something left; any other has a decoding of its own.
        """
        left = [name for name in self.encoders_to_run() if not self.current(name, shard)]
        return left if encoder in left else [encoder]

    def current(self, encoder: str, shard: str) -> bool:
        """Whether the features of a shard are stored and were made by exactly this job: see Dag, which knows the jobs."""
        raise NotImplementedError

    def text_encoders(self, targets: Targets = ("table",)) -> list[str]:
        """Encoders of queries, in order of their names."""
        return sorted({text for name in self.names(targets) for text in self.texts(name)})

    def clip_recipes(self, targets: Targets = ("table",)) -> list[str]:
        """Folders of clips."""
        return sorted({recipe for name in self.names(targets) for recipe in self.clip_sets(name)})

    @property
    def computed(self) -> list[str]:
        """Encoders whose features jobs make."""
        return [name for name in self.config.encoders if not self.imported(name)]

    def imported(self, encoder: str) -> bool:
        """Whether no job makes an encoder's files (see Config)."""
        return self.config.imported(encoder)

    def features_file(self, encoder: str, shard: str) -> Path:
        """What a job waits for before it reads the features: the manifest of the job that makes them, or the imported store itself."""
        return self.layout.features(encoder, shard) if self.imported(encoder) else self.layout.features_manifest(encoder, shard)

    def text_file(self, encoder: str) -> Path:
        """The same for query states."""
        return self.layout.text(encoder) if self.imported(encoder) else self.layout.text_manifest(encoder)

    @property
    def annotations_file(self) -> Path:
        """The same for the annotations, which a bundle brings."""
        return self.layout.annotations if self.config.dataset.kind == "bundle" else self.layout.annotations_manifest

    def imported_run(self, experiment: str, seed: int | str) -> bool:
        """Whether the checkpoint of a run came from `prvr import-checkpoint`, so that no job makes it."""
        return self.layout.imported(experiment, int(seed)).exists() and self.layout.checkpoint(experiment, int(seed)).exists()

    def checkpoint_file(self, experiment: str, seed: int | str) -> Path:
        """The same for a run's checkpoint."""
        place = self.layout.checkpoint if self.imported_run(experiment, seed) else self.layout.checkpoint_manifest
        return place(experiment, int(seed))

    @property
    def annotation_files(self) -> list[Path]:
        """The files the annotations are read from; the demo's are made by its own rule."""
        place = Path(self.config.dataset.annotations)
        if self.config.dataset.kind in ("demo", "bundle") or not self.config.dataset.annotations:
            return []
        return sorted(p for p in place.iterdir() if p.is_file()) if place.is_dir() else [place]

    def stream(self, encoder: str) -> str:
        return str(self.once(("stream", encoder), lambda: self.config.network(encoder).stream.name))

    def texts(self, experiment: str) -> list[str]:
        """The text encoders of an experiment: of the queries, and of the teacher."""
        chosen = self.experiment(experiment)
        return list(dict.fromkeys([chosen.text, chosen.teacher or chosen.text]))

    def clips(self, experiment: str) -> str:
        """Folder of an experiment's clips: experiments with the same features and merging share it."""
        return str(self.once(("clips", experiment), lambda: recipe_name(self.experiment(experiment))))

    def clip_sets(self, experiment: str) -> dict[str, Experiment]:
        """Folder -> what is pooled there: an experiment's clips, and those of its teacher of frames."""
        return dict(self.once(("clip sets", experiment), lambda: _clip_sets(self.experiment(experiment))))

    def owner(self, recipe: str) -> str:
        """The first experiment that needs the clips in `recipe`. Errors: ConfigError when none does."""
        for name in self.config.models:
            if recipe in self.clip_sets(name):
                return name
        raise unknown("folder of clips", recipe, self.clip_recipes(TARGETS), where=self.config.source)

    def pooled(self, recipe: str) -> Experiment:
        """What is pooled into `recipe`: an experiment, or one with its teacher's rows for features."""
        return self.clip_sets(self.owner(recipe))[recipe]

    def imported_content(self, path: Path) -> str:
        """Digest of an imported store. Errors: DatasetError when it is not there."""
        if not path.exists():
            raise DatasetError("an imported encoder has no such file", where=path, fix="put it there with `prvr import`")
        return self.digest(path, content)

    def to_decode(self, shard: str) -> set[str]:
        """The videos whose frames a job decodes: those wanted, or all when frames are kept."""
        return {source.video_id for source in self.videos(shard)} if self.config.video.keep_frames else self.wanted(shard)

    def wanted(self, shard: str) -> set[str]:
        """The videos of a shard that some encoder has no current features of, of ablations and sweeps too: one job decodes for all."""
        used = {name for model in self.config.models for name in self.experiment(model).encoders}
        return set[str]().union(*(self.missing(name, shard) for name in used if not self.imported(name)))

    def features_recipe(self, encoder: str) -> dict[str, Any]:
        """What the features of an encoder are made by, put together once."""
        recipe: dict[str, Any] = self.once(("features", encoder), lambda: recipes.features(self.config, encoder))
        return recipe

    def missing(self, encoder: str, shard: str) -> set[str]:
        """The videos of a shard that an encoder has no current features of, in files of a former division neither."""
        recipe = self.features_recipe(encoder)
        path = self.layout.features(encoder, shard)
        former = self.once(("former", encoder), lambda: {} if self.settled else resharding.donors(path.parent, self.place))
        store = ShardStore(path, stage="features", recipe=recipe, group="features", also=former.get(shard, ()))
        return {s.video_id for s in self.sources(shard) if not store.has(key(s.fingerprint, recipe))}


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or will be."""
    place = folder.absolute()
    return shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists())).free


def _clip_sets(experiment: Experiment) -> dict[str, Experiment]:
    teaching = experiment.teaching
    return {recipe_name(experiment): experiment} | ({recipe_name(teaching): teaching} if teaching else {})
