"""Sentence vectors that imported query states must hold for an experiment, looked up before the first job. No torch."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.method import Experiment
from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.store import open_store
from pipeline.jobs.collection import Collection

ENCODER = "name an encoder that reads text, or an import with sentence vectors, as"


def check(collection: Collection, experiments: list[str]) -> None:
    """Refuse imported text and features that an experiment cannot be trained on. Errors: ConfigError naming every such experiment."""
    problems, fixes = [], []
    for name in experiments:
        for problem, fix in _problems(collection, collection.experiment(name)):
            problems.append(f"{name}: {problem}")
            fixes.append(fix)
    if problems:
        listing = "\n    ".join(["what was imported is not what these experiments need:", *problems])
        raise ConfigError(listing, where="text, teacher", fix="; or ".join(dict.fromkeys(fixes)))


def _problems(collection: Collection, chosen: Experiment) -> list[tuple[str, str]]:
    """What is wrong, and what to do about it."""
    found = []
    text = chosen.text
    if chosen.model.reads_sentence and _lacks(collection, text):
        found.append((f"{chosen.model.kind} reads one sentence vector a query, and {text} holds none", f"{ENCODER} `text`"))
    if chosen.frame_teacher:
        fix = "name an encoder of images and sentences, such as CLIP, as `teacher`"
        found += [(problem, fix) for problem in _untaught(collection, chosen.frame_teacher)]
    return found


def _untaught(collection: Collection, teacher: str) -> list[str]:
    """What keeps an imported encoder from being a teacher of frames."""
    if not collection.imported(teacher):
        return []
    if _lacks(collection, teacher):
        return [f"an objective learns from frames and sentences of {teacher}, which holds no sentence vectors"]
    files = sorted(collection.layout.features(teacher, "*").parent.glob("*.h5"))
    if not files:
        return [f"an objective learns from frames and sentences of {teacher}, of which only text was imported"]
    rows, sentences = _width(files[0], "features", "features"), _width(collection.layout.text(teacher), "text", "tokens", "sentence")
    if rows and sentences and rows != sentences:
        return [f"the rows of {teacher} have {rows} values, its sentences {sentences}: they are not of one space"]
    return []


def _lacks(collection: Collection, encoder: str) -> bool:
    """Whether an encoder's text was imported without sentence vectors."""
    file = collection.layout.text(encoder)
    return collection.imported(encoder) and file.exists() and _width(file, "text", "tokens", "sentence") == 0


def _width(file: Path, stage: str, name: str, item: str = "") -> int | None:
    """Values of a row of a store, or of an item's vector; 0 where there is no such item, None where the store cannot be read."""
    try:
        with open_store(file, stage=stage) as store:
            stored = store.ragged(name, lazy=True) if name in store else None
    except StoreError:
        return None  # whoever needs it says so
    if stored is None:
        return None
    values = stored.items.get(item) if item else stored.values
    return 0 if values is None else int(values.shape[1])
