"""Bundles of the PRVR field: caption lists in `TextData`, features in `FeatureData` as HDF5 (MSC) or as a big file (MS-SL)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.core.errors import BundleError
from pipeline.core.store import open_foreign
from pipeline.datasets import caption_list
from pipeline.datasets.rows import Query
from pipeline.interchange.bundle import BigFile, Bundle, Rows
from pipeline.interchange.times import add_times

_LIST = re.compile(r"^(?P<collection>.+?)(?P<split>train|val|test)\.caption\.txt$")
_HDF5 = (".h5", ".hdf5")


def read_list(path: Path, split: str) -> list[Query]:
    """The queries of a caption list; DatasetError listing every bad line."""
    return [Query(c.cap_id, c.video_id, split, c.text, cap_id=c.cap_id) for c in caption_list.read(path)]


def _choose(kind: str, files: Sequence[Path], wanted: str | None, root: Path) -> Path:
    """The one file or folder meant; BundleError listing the candidates when the choice is open."""
    names = {path.stem if path.is_file() else path.name: path for path in files}
    if wanted is not None:
        if wanted not in names:
            raise BundleError(
                f"no {kind} features {wanted!r}; there are: {', '.join(names) or 'none'}", where=root, fix="name one of these"
            )
        return names[wanted]
    if len(files) != 1:
        raise BundleError(
            f"{len(files)} {kind} feature files where one is needed: {', '.join(names) or 'none'}",
            where=root,
            fix=f"name one with --{kind}",
        )
    return files[0]


@contextmanager
def open_captioned(root: Path, *, video: str | None = None, text: str | None = None) -> Iterator[Bundle]:
    """Open a bundle of the MSC or MS-SL layout (docs/datasets.md, bundle layouts).

    Args: `root` holds `TextData` and `FeatureData`; `video`, `text` name the file (its stem) or big-file folder where there are several.
    Errors: BundleError, DatasetError, StoreError.
    """
    lists: dict[str, Path] = {}
    collections: set[str] = set()
    for path in sorted((root / "TextData").glob("*.caption.txt")):
        if match := _LIST.match(path.name):
            lists[match["split"]] = path
            collections.add(match["collection"])
    if not lists:
        raise BundleError(
            "no caption list `TextData/<collection>{train,val,test}.caption.txt`", where=root, fix="give the collection's folder"
        )
    if len(collections) > 1:
        raise BundleError(
            f"caption lists of several collections: {', '.join(sorted(collections))}", where=root, fix="one folder per collection"
        )
    features, texts = root / "FeatureData", root / "TextData"
    folders = [path.parent for path in sorted(features.glob("*/feature.bin"))]
    video_path = _choose("video", [*folders, *(p for p in sorted(features.glob("*")) if p.suffix in _HDF5)], video, features)
    text_path = _choose("text", [p for p in sorted(texts.glob("*")) if p.suffix in _HDF5], text, texts)

    splits: dict[str, list[Query]] = {}
    durations: dict[str, float] = {}
    for split, path in sorted(lists.items(), key=lambda item: ("train", "val", "test").index(item[0])):
        splits[split], known = add_times(read_list(path, split), sorted(root.glob(f"*{split}_release.jsonl")))
        durations |= known
    with ExitStack() as stack:
        videos: Rows = BigFile(video_path) if video_path.is_dir() else stack.enter_context(open_foreign(video_path))
        yield Bundle(
            collection=collections.pop(),
            layout="mssl" if video_path.is_dir() else "msc",
            splits=splits,
            videos=videos,
            texts=stack.enter_context(open_foreign(text_path)),
            durations=durations,
        )
