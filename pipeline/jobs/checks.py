"""What is said or refused before any job: whatever a job would fail of, or be wrong without a word, hours later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.config.encoders import OpenClip
from pipeline.core import tracking
from pipeline.core.atomic import write_json
from pipeline.core.errors import ConfigError, DatasetError, LockedError, StoreError, StoreMissing, printable
from pipeline.core.layout import Layout
from pipeline.core.provenance import UNUSABLE
from pipeline.core.source import Source
from pipeline.core.store import open_store
from pipeline.datasets import splits
from pipeline.datasets.rows import LISTED
from pipeline.jobs import relevance, saved, sentences
from pipeline.jobs.collection import Collection, Targets


def check(collection: Collection, *, training: bool = True, targets: Targets = ("table",)) -> list[str]:
    """What is to be said before any job starts; `training`: whether the run goes beyond features and clips, `targets`: towards what.

    Errors: DatasetError and ConfigError for what a job would fail of later.
    """
    for target in targets:
        collection.config.check_target(target)
    imported_features(collection)
    if training:
        tracking.check(collection.config.tracking)
    notes = splits.check(collection.config, collection.queries) if training else []
    if training and not collection.started:
        relevance.check(collection.config, collection.layout, collection.names(targets))
    if training:
        for name in collection.names(targets):
            words(collection, name)
            teacher(collection, name)
        sentences.check(collection, collection.names(targets))
    for name, seed in collection.config.group("table"):
        _not_lost(collection.layout, name, seed)
        if collection.imported_run(name, seed):
            checkpoint = collection.layout.checkpoint(name, seed)
            with open_store(checkpoint, stage="checkpoint") as store:
                widths(collection, name, store.attrs["dims"], checkpoint)
            notes.append(f"the checkpoint of {name}, seed {seed} was imported: it is not trained")
    return notes


def _not_lost(layout: Layout, experiment: str, seed: int) -> None:
    """StoreMissing when an imported checkpoint is gone: going on would train a model in its place, under its mark."""
    mark, checkpoint = layout.imported(experiment, seed), layout.checkpoint(experiment, seed)
    if mark.exists() and not checkpoint.exists():
        raise StoreMissing(
            f"the imported checkpoint of {experiment}, seed {seed}, is gone",
            where=checkpoint,
            fix=f"import it again with `prvr import-checkpoint`, or delete {mark} to train here",
        )


def imported_features(collection: Collection) -> None:
    """Refuse imported features that are divided otherwise than the collection is now. Errors: DatasetError."""
    for encoder in filter(collection.imported, collection.video_encoders):
        folder = collection.layout.features(encoder, "*").parent
        stored = sorted(path.stem for path in folder.glob("*.h5"))
        if stored and stored != collection.shard_names:
            raise DatasetError(
                f"imported features in {len(stored)} shards, where the collection has {len(collection.shard_names)}",
                where=folder,
                fix="import them again with `prvr import`, or set video.shard_size back",
            )


def words(collection: Collection, experiment: str) -> None:
    """Refuse queries that are one vector each where the model reads words: imported ones, before any job. Errors: ConfigError."""
    chosen = collection.experiment(experiment)
    if not (chosen.model.reads_words and collection.imported(chosen.text)):
        return
    file = collection.layout.text(chosen.text)
    try:
        with open_store(file, stage="text") as store:
            offsets = store.ragged("tokens", lazy=True).offsets
    except StoreError:
        return  # absent or bad: whoever needs it says so
    if len(offsets) > 1 and (offsets[1:] - offsets[:-1]).max() <= 1:
        raise ConfigError(
            f"{chosen.text} has one vector a query, and a model of kind {chosen.model.kind} reads words",
            where=file,
            fix=f"set `text` of {experiment} to an encoder that gives the words of a query, or choose another model",
        )


def teacher(collection: Collection, experiment: str) -> None:
    """Refuse TCPL without sentence vectors to preserve the relations of, where queries are imported (RoBERTa's). Errors: ConfigError."""
    chosen = collection.experiment(experiment)
    source = chosen.teacher or chosen.text
    if "tcpl" not in chosen.objectives.active or not collection.imported(source):
        return
    file = collection.layout.text(source)
    try:
        with open_store(file, stage="text") as store:
            known = "sentence" in store.ragged("tokens", lazy=True).items
    except StoreError:
        return  # absent or bad: whoever needs it says so
    if not known:
        raise ConfigError(
            f"TCPL of {experiment} needs a sentence vector of every query, and {source} was imported without any",
            where=file,
            fix="name a `teacher` encoder, or set objectives.tcpl.distance and .angle to 0",
        )


def widths(collection: Collection, experiment: str, dims: Mapping[str, int], checkpoint: Path) -> None:
    """Refuse a checkpoint from elsewhere that reads rows of another width than the experiment's encoders give.

    Encoders whose width nothing here knows yet are passed over. Errors: ConfigError naming both sides.
    """
    chosen = collection.experiment(experiment)
    rows, words = [_width(collection, name) for name in chosen.features], _text_width(collection, chosen.text)
    problems = []
    if None not in rows and sum(filter(None, rows)) != dims["video_dim"]:
        each = " + ".join(f"{name} {width}" for name, width in zip(chosen.features, rows, strict=True))
        problems.append(f"features: it reads rows of {dims['video_dim']} values, the configured encoders give {each}")
    if not chosen.model.reads_sentence and words not in (None, dims["text_dim"]):
        problems.append(f"text: it reads tokens of {dims['text_dim']} values, {chosen.text} gives {words}")
    if problems:
        raise ConfigError(
            "\n    ".join([f"the checkpoint of {experiment} was trained on other features:", *problems]),
            where=checkpoint,
            fix=f"set `features` and `text` of {experiment} to the encoders it was trained on; or, to train here, delete this file "
            "and imported.json beside it",
        )


def _width(collection: Collection, encoder: str) -> int | None:
    """Values of a row of an encoder, as stored here or as its architecture says; None when neither is known."""
    for file in sorted(collection.layout.features(encoder, "*").parent.glob("*.h5"))[:1]:
        if width := _stored(file, "features", "features"):
            return width
    if collection.imported(encoder):
        return None
    settings = collection.config.network(encoder)
    if isinstance(settings, OpenClip):
        return settings.model.get("embed_dim")
    return None


def _text_width(collection: Collection, encoder: str) -> int | None:
    """The same of a token of a query."""
    if width := _stored(collection.layout.text(encoder), "text", "tokens"):
        return width
    settings = None if collection.imported(encoder) else collection.config.network(encoder)
    return settings.model.get("text_cfg", {}).get("width") if isinstance(settings, OpenClip) else None


def _stored(file: Path, stage: str, name: str) -> int | None:
    try:
        with open_store(file, stage=stage) as store:
            return int(store.ragged(name, lazy=True).values.shape[1])
    except StoreError:
        return None  # absent or bad: whoever needs it says so


def lost_videos(collection: Collection) -> None:
    """Refuse to go on when many videos that were here at the last start are not: a disk that is not mounted, most often.

    Going on would put them into quarantine, or leave them out where `dataset.allow_missing_videos` is set, and drop their features.
    A few are a matter for the quarantine: of `video.max_bad_fraction` of them, or one. Errors: DatasetError with the first of them.
    """
    config, before, now = collection.config, collection.layout.listing, collection.listing
    if not before.exists() or config.dataset.kind in ("demo", "bundle"):
        return
    former = [source for source in saved.videos(before) if source.paths and not source.fingerprint.startswith(UNUSABLE)]
    known = {source.video_id: source for source in now.videos}
    # What the annotations name is asked for; of a folder without annotations, what lay in a folder that is empty now.
    whole_folder = not config.dataset.annotations or config.dataset.include_unlabelled

    def is_lost(source: Source) -> bool:
        if source.video_id in known:
            return _gone(known[source.video_id])
        return source.video_id in now.absent or (whole_folder and _emptied(source))

    lost = [source for source in former if is_lost(source)]
    if len(lost) <= max(1, config.video.max_bad_fraction * len(former)):
        return
    listing = [f"    {printable(source.paths[0])}" for source in lost[:LISTED]] + (
        [f"    ... and {len(lost) - LISTED:,} more"] * (len(lost) > LISTED)
    )
    raise DatasetError(
        "\n".join([f"{len(lost):,} of {len(former):,} videos were here when the workflow last started, and cannot be read now:", *listing]),
        where=config.dataset.videos,
        fix=f"mount their disk, or restore them; if they are gone for good, delete {before} and run the workflow again",
    )


def _gone(source: Source) -> bool:
    """Whether a file that is listed cannot be opened (a link to nowhere, no permission, a disk that fails)."""
    return source.fingerprint.startswith(UNUSABLE) and not source.fingerprint.endswith("special")


def _emptied(source: Source) -> bool:
    """Whether the folder of a video holds nothing any more, as a place to mount a disk at does."""
    try:
        return not any(os.scandir(os.path.dirname(source.paths[0]) or "."))
    except OSError:
        return True


def claim(layout: Layout) -> None:
    """Refuse to run in two folders on the same results: each has its own lock and its own memory of what is current.

    The folder that came first is noted beside them where they lie outside it. Errors: LockedError, unless that folder is gone.
    """
    here, note = Path.cwd().resolve(), layout.root / "run-from.json"
    if layout.root.resolve().is_relative_to(here):
        return
    first = Path(_noted(note) or here)
    if first != here and (first / ".snakemake").is_dir():
        raise LockedError(
            f"these results are those of the workflow in {first}, and a second one would undo its work",
            where=layout.root.resolve(),
            fix=f"run it there, or give this one another `results:`; if that folder is not used any more, delete {note}",
        )
    if first != here or not note.exists():
        write_json(note, {"folder": str(here)})


def _noted(note: Path) -> str:
    try:
        return str(json.loads(note.read_text())["folder"])
    except (OSError, ValueError, KeyError):
        return ""
