"""MS-SL caption lists: `<video_id>#enc#<n> <sentence>` lines, the text files of every published PRVR feature bundle.

Source: docs/datasets.md, bundle layouts. The order of first mention is the order of the videos.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.atomic import write_text
from pipeline.datasets.files import lines
from pipeline.datasets.rows import Query, normalise, refuse


@dataclass(frozen=True)
class Caption:
    """One line of a list."""

    cap_id: str
    text: str

    @property
    def video_id(self) -> str:
        """What stands before the first `#`."""
        return self.cap_id.split("#", 1)[0]


def read(path: Path) -> list[Caption]:
    """The captions, white space normalised.

    Errors: DatasetError listing every line without an id, without a sentence, or with an id used before.
    """
    captions: list[Caption] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in lines(path):
        cap_id, _, sentence = line.strip().partition(" ")
        if "#" not in cap_id or cap_id.startswith("#"):
            problems.append(f"line {number}: {cap_id!r} is no caption id (`<video_id>#enc#<n>`)")
        elif not normalise(sentence):
            problems.append(f"line {number}: {cap_id} has no sentence")
        elif cap_id in seen:
            problems.append(f"line {number}: {cap_id} was used on line {seen[cap_id]}")
        else:
            seen[cap_id] = number
            captions.append(Caption(cap_id, normalise(sentence)))
    refuse(problems, what="bad lines", where=path, fix="mend or remove these lines")
    return captions


def write(path: Path, captions: Iterable[Caption]) -> None:
    """Write a list other PRVR code reads. DatasetError listing every id the format cannot hold (white space, `#` in the video id)."""
    captions = list(captions)
    problems = [
        f"{caption.cap_id!r}: {why}"
        for caption in captions
        for why in (["white space in the id"] if caption.cap_id.split() != [caption.cap_id] else [])
        + (["`<video_id>#enc#<n>` with one video id before the first # is expected"] if caption.cap_id.count("#") != 2 else [])
    ]
    refuse(problems, what="ids that a caption list cannot hold", where=path, fix="rename these videos")
    write_text(path, "".join(f"{caption.cap_id} {caption.text}\n" for caption in captions))


def of(queries: Iterable[Query]) -> list[Caption]:
    """The captions of a reader's queries."""
    return [Caption(query.cap_id, query.text) for query in queries]
