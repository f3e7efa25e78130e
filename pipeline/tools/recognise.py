"""What lies in a folder: videos, a benchmark's annotation files, queries of one's own, published feature bundles."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import DatasetError
from pipeline.datasets.base import frame_folders, telltales
from pipeline.datasets.folder import EXTENSIONS, walk

COLLECTIONS = {"tvr": "tvr", "activitynet": "activitynet", "charades": "charades", "qvhighlight": "qvhighlights"}
_LIST = re.compile(r"^(?P<collection>.+?)(?P<split>train|val|test)\.caption\.txt$")
_DEEPEST = 6


@dataclass(frozen=True)
class FeatureBundle:
    """A published feature bundle: its folder, its `layout` (MSC, MS-SL, npz), and its caption lists by split where it has any."""

    folder: Path
    layout: str
    collection: str = ""
    lists: dict[str, Path] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The benchmark it is of."""
        return COLLECTIONS[self.collection]

    @property
    def short(self) -> str:
        """What its encoders are called here."""
        return self.layout.lower().replace("-", "")

    @property
    def evaluated(self) -> str:
        """The split it is evaluated on: `test` only where that list is not the same as `val`'s."""
        test, val = self.lists.get("test"), self.lists.get("val")
        return "test" if test and not (val and val.read_bytes() == test.read_bytes()) else "val"


@dataclass
class Contents:
    """What lies below a folder.

    `videos` files by folder; `benchmarks` kind -> the folder of its annotation files; `queries` CSV, TSV and JSONL files an own
    dataset can be read from; `bundles` feature bundles; `frames` the folders whose sub-folders hold numbered jpg frames.
    """

    root: Path
    videos: Counter[Path] = field(default_factory=Counter)
    benchmarks: dict[str, Path] = field(default_factory=dict)
    queries: list[Path] = field(default_factory=list)
    bundles: list[FeatureBundle] = field(default_factory=list)
    frames: Counter[Path] = field(default_factory=Counter)

    @property
    def captioned(self) -> list[FeatureBundle]:
        """The bundles that are a whole dataset of a known benchmark: features and caption lists."""
        return [bundle for bundle in self.bundles if bundle.collection in COLLECTIONS]

    def video_root(self, kind: str) -> str:
        """The deepest folder that holds every video, and every folder of frames where these may be videos; empty when there is none."""
        frames = self.frames if kind in self.benchmarks and frame_folders(kind) else ()
        places = [*self.videos, *frames]
        return os.path.commonpath(places) if places else ""

    def lines(self) -> list[str]:
        """What was recognised, one fact a line."""
        said = [f"{sum(self.videos.values())} video files in {len(self.videos)} folders" if self.videos else "no video files"]
        if self.frames:
            said.append(f"{sum(self.frames.values())} folders of extracted frames")
        said += [f"{kind}: the original annotation files, in {folder}" for kind, folder in self.benchmarks.items()]
        said += [f"queries: {path}" for path in self.queries]
        said += [f"feature bundle ({bundle.layout}): {bundle.folder}" for bundle in self.bundles]
        return said


def look(root: Path) -> Contents:
    """Walk `root` (at most six levels deep, hidden folders and results left out) and recognise what is there by name and header."""
    if not root.is_dir():
        raise DatasetError("the folder does not exist", where=root, fix="name the folder that holds your videos or a benchmark")
    contents, layouts, tells = Contents(root), dict[Path, str](), telltales()
    for base, folders, names in walk(root):
        place = Path(base)
        depth = len(place.relative_to(root).parts)
        folders[:] = [] if depth >= _DEEPEST else sorted(f for f in folders if not f.startswith(".") and f != "results")
        if names and all(name.lower().endswith((".jpg", ".jpeg", ".png")) for name in names):
            contents.frames[place.parent] += 1
            folders.clear()
            continue
        videos = sum(os.path.splitext(name)[1].lower() in EXTENSIONS for name in names)
        if videos:
            contents.videos[place] = videos
        plain = {name.removesuffix(".gz") for name in names}
        contents.benchmarks.update(
            {kind: place for kind, wanted in tells.items() if set(wanted) <= plain and kind not in contents.benchmarks}
        )
        contents.queries += [place / name for name in sorted(names) if _is_queries(place / name)]
        if {"feature.bin", "shape.txt"} <= plain:
            layouts.setdefault(_above(place, "FeatureData"), "MS-SL")
        elif place.name == "FeatureData" and any(name.endswith((".h5", ".hdf5")) for name in names):
            layouts.setdefault(place.parent, "MSC")
        elif sum(name.endswith(".npz") for name in names) > 1:
            layouts[place] = "npz a video"
    contents.bundles = [_bundle(folder, layout) for folder, layout in layouts.items()]
    return contents


def _bundle(folder: Path, layout: str) -> FeatureBundle:
    matches = {path: match for path in (folder / "TextData").glob("*.caption.txt") if (match := _LIST.match(path.name))}
    collections = {match["collection"] for match in matches.values()}
    if len(collections) != 1:
        return FeatureBundle(folder, layout)
    lists = {match["split"]: path for path, match in matches.items()}
    return FeatureBundle(folder, layout, collections.pop(), {split: lists[split] for split in ("train", "val", "test") if split in lists})


def _is_queries(path: Path) -> bool:
    """Whether the file's head is that of an own dataset's queries."""
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        return False
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline(20_000)
    except (OSError, UnicodeDecodeError):
        return False
    words = set(re.findall(r"[\w]+", head.split("\n")[0]))
    return {"query", "split"} <= words and bool({"path", "video_id"} & words)


def _above(place: Path, name: str) -> Path:
    """The folder that holds the part of `place` called `name`."""
    return next((parent.parent for parent in (place, *place.parents) if parent.name == name), place)
