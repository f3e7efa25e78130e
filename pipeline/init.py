"""`prvr init`: look at a folder, say what is in it, and write a commented configuration and a manifest for it."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Dataset
from pipeline.datasets.folder import EXTENSIONS, locate
from pipeline.datasets.own import read as read_own
from pipeline.datasets.readers import BENCHMARKS, benchmark
from pipeline.datasets.rows import Rows
from pipeline.errors import ConfigError, DatasetError, PrvrError

PRESETS = Path(__file__).parents[1] / "config"
# The files that tell a benchmark from the others; its reader asks for the rest.
_TELLTALE = {
    "qvhighlights": ("highlight_train_release.jsonl", "highlight_val_release.jsonl"),
    "tvr": ("tvr_video2dur_idx.json", "tvr_val_release.jsonl"),
    "activitynet": ("train.json", "val_1.json"),
    "charades": ("charades_sta_train.txt", "charades_sta_test.txt"),
}
_GALLERY = {"activitynet": "val_1", "qvhighlights": "val"}
_DEEPEST = 6


@dataclass
class Found:
    """What lies below a folder.

    `videos` files by folder; `benchmarks` kind -> the folder of its annotation files; `queries` CSV, TSV and JSONL files an own
    dataset can be read from; `bundles` feature bundles by layout; `frames` the folder whose sub-folders hold numbered jpg frames.
    """

    root: Path
    videos: Counter[Path] = field(default_factory=Counter)
    benchmarks: dict[str, Path] = field(default_factory=dict)
    queries: list[Path] = field(default_factory=list)
    bundles: dict[Path, str] = field(default_factory=dict)
    frames: Counter[Path] = field(default_factory=Counter)

    def video_root(self, kind: str) -> str:
        """The deepest folder that holds every video (for TVR also every folder of frames); empty when there is none."""
        places = [*self.videos, *(self.frames if kind == "tvr" else ())]
        return os.path.commonpath(places) if places else ""

    def lines(self) -> list[str]:
        """What was recognised, one fact a line."""
        said = [f"{sum(self.videos.values())} video files in {len(self.videos)} folders" if self.videos else "no video files"]
        if self.frames:
            said.append(f"{sum(self.frames.values())} folders of extracted frames")
        said += [f"{kind}: the original annotation files, in {folder}" for kind, folder in self.benchmarks.items()]
        said += [f"queries: {path}" for path in self.queries]
        said += [f"feature bundle ({layout}): {folder}; take it in with `prvr import`" for folder, layout in self.bundles.items()]
        return said


def look(root: Path) -> Found:
    """Walk `root` (at most six levels deep, hidden folders and results left out) and recognise what is there by name and header."""
    if not root.is_dir():
        raise DatasetError("the folder does not exist", where=root, fix="name the folder that holds your videos or a benchmark")
    found = Found(root)
    for base, folders, names in os.walk(root):
        place = Path(base)
        depth = len(place.relative_to(root).parts)
        folders[:] = [] if depth >= _DEEPEST else sorted(f for f in folders if not f.startswith(".") and f != "results")
        if names and all(name.lower().endswith((".jpg", ".jpeg", ".png")) for name in names):
            found.frames[place.parent] += 1
            folders.clear()
            continue
        videos = sum(os.path.splitext(name)[1].lower() in EXTENSIONS for name in names)
        if videos:
            found.videos[place] = videos
        plain = {name.removesuffix(".gz") for name in names}
        found.benchmarks.update(
            {kind: place for kind, wanted in _TELLTALE.items() if set(wanted) <= plain and kind not in found.benchmarks}
        )
        found.queries += [place / name for name in sorted(names) if _is_queries(place / name)]
        if {"feature.bin", "shape.txt"} <= plain:
            found.bundles[_above(place, "FeatureData")] = "MS-SL"
        elif place.name == "FeatureData" and any(name.endswith((".h5", ".hdf5")) for name in names):
            found.bundles.setdefault(place.parent, "MSC")
        elif sum(name.endswith(".npz") for name in names) > 1:
            found.bundles[place] = "npz a video"
    return found


def init(root: Path, target: Path, *, kind: str | None = None) -> list[str]:
    """Write `<target>/<name>.yaml` and its manifest for what `root` holds; returns the lines to print.

    The manifest lists, for a benchmark, every video with its files and what is missing; for own videos without queries it is a CSV to
    fill in. `kind` chooses where several datasets are recognised. Errors: ConfigError when a file of that name is there already or
    several kinds fit, DatasetError when nothing does.
    """
    found = look(root)
    kind = kind or _only_kind(found)
    name = kind if kind != "own" else re.sub(r"[^A-Za-z0-9._-]+", "-", root.resolve().name).strip("-._") or "own"
    config, manifest = target / f"{name}.yaml", target / f"{name}.manifest.tsv"
    dataset = _dataset(found, kind, name)
    if kind == "own" and not dataset.annotations:
        manifest = target / f"{name}.queries.csv"
    present = [path for path in (config, manifest) if path.exists()]
    if present:
        raise ConfigError(
            f"already there: {', '.join(map(str, present))}", where=target, fix="move them away, or choose another folder with --to"
        )
    lines = [f"{root}:", *(f"  {line}" for line in found.lines()), ""]
    rows, notes = _rows(dataset)
    target.mkdir(parents=True, exist_ok=True)
    config.write_text(_filled(kind, dataset), encoding="utf-8")
    _manifest(manifest, rows, dataset)
    lines += [*notes, f"wrote {config}: read it, it explains every value", f"wrote {manifest}: {_says(manifest)}"]
    if manifest.suffix == ".csv":
        lines += [f"next: fill in the queries of {manifest}, name it as dataset.annotations in {config}, then"]
    return [*lines, f"{'' if manifest.suffix == '.csv' else 'next: '}snakemake --configfile {config} --cores all --resources gpu=1"]


def _only_kind(found: Found) -> str:
    kinds = list(found.benchmarks) + (["own"] if found.queries else [])
    if not kinds and found.videos:
        return "own"
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise ConfigError(f"several datasets fit: {', '.join(kinds)}", where=found.root, fix="choose one with --kind")
    raise DatasetError("no video and no annotation file was recognised", where=found.root, fix="name the folder that holds them")


def _dataset(found: Found, kind: str, name: str) -> Dataset:
    videos = found.video_root(kind)
    if kind == "own":
        if len(found.queries) > 1:
            raise ConfigError(
                "several files of queries: " + ", ".join(map(str, found.queries)), where=found.root, fix="leave one of them in this folder"
            )
        return Dataset(kind="own", name=name, videos=videos, annotations=str(found.queries[0]) if found.queries else "")
    if kind not in found.benchmarks:
        wanted = ", ".join(_TELLTALE.get(kind, ()))
        raise DatasetError(
            f"the annotation files of {kind} are not there ({wanted})", where=found.root, fix="docs/datasets.md says where they are"
        )
    return Dataset.model_validate(
        {"kind": kind, "name": name, "videos": videos, "annotations": str(found.benchmarks[kind]), "gallery": _GALLERY.get(kind)}
    )


def _rows(dataset: Dataset) -> tuple[Rows, list[str]]:
    """The rows with what is on disk, and lines about what is not."""
    if dataset.kind == "own":
        rows, _ = read_own(dataset)
        return rows, list(rows.notes)
    rows = benchmark(dataset)
    if not dataset.videos:
        return rows, [f"no videos here: set dataset.videos, or import a feature bundle; {len(rows.videos)} videos are annotated"]
    frame_folders = BENCHMARKS[dataset.kind].FRAME_FOLDERS
    try:
        here, missing = locate(rows, dataset.videos, report=Path(os.devnull), allow_missing=True, frame_folders=frame_folders)
    except PrvrError as error:
        return rows, [f"videos: {error.what}"]
    files = {video.video_id: video for video in here.videos}
    videos = tuple(files.get(video.video_id, video) for video in rows.videos)
    notes = [f"{len(here.videos)} of {len(rows.videos)} annotated videos are here"]
    if missing:
        absent = len(rows.videos) - len(here.videos)
        notes.append(f"{absent} are missing (no file in the manifest): dataset.allow_missing_videos goes on without them")
    return Rows(videos, rows.queries, rows.gallery, rows.notes), notes


def _filled(kind: str, dataset: Dataset) -> str:
    """The preset's text with this dataset's values, its comments kept."""
    text = (PRESETS / f"{'own-videos' if kind == 'own' else kind}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = {"name": dataset.name, "videos": dataset.videos, "annotations": dataset.annotations}
    for key, value in values.items():
        quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        line = re.search(rf"^  {key}: (\S+) *", text, flags=re.M)
        assert line is not None, key  # every preset names all three; a test loads what comes out
        text = f"{text[: line.start(1)]}{quoted}  {text[line.end() :]}"
    return text


def _manifest(path: Path, rows: Rows, dataset: Dataset) -> None:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "query", "split", "start", "end"])
            writer.writerows([os.path.relpath(video.files[0], dataset.videos), "", "", "", ""] for video in rows.videos)
        return
    queries = Counter(query.video_id for query in rows.queries)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["video_id", "split", "queries", "seconds", "bytes", "files"])
        for video in rows.videos:
            size = sum(os.path.getsize(name) for name in video.files) if video.files else ""
            seconds = "" if video.duration != video.duration else f"{video.duration:g}"
            table.writerow([video.video_id, video.split, queries[video.video_id], seconds, size, "; ".join(video.files)])


def _says(manifest: Path) -> str:
    return "one line per video, its queries to be written" if manifest.suffix == ".csv" else "every video, its queries, length and files"


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
