"""`prvr init`: write a commented configuration and a manifest for what a folder holds."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import reading
from pipeline.config.inputs import Dataset
from pipeline.core import install
from pipeline.core.errors import ConfigError, DatasetError, PrvrError, printable
from pipeline.core.names import unknown
from pipeline.datasets import caption_list, table
from pipeline.datasets.base import frame_folders, galleries, reader, telltales
from pipeline.datasets.folder import EXTENSIONS, locate
from pipeline.datasets.readers import annotated
from pipeline.datasets.rows import Query, Rows, Video
from pipeline.tools.recognise import Contents, FeatureBundle, look
from pipeline.tools.sizes import fitting

_IMPORTED = """\
encoders:                               # published features, which `prvr import` puts here: nothing is decoded or encoded
  {name}-video:
    kind: imported
  {name}-text:
    kind: imported

features: [{name}-video]
text: {name}-text                       # the queries; TCPL's teacher is their [EOS]

"""


def init(root: Path, target: Path, *, kind: str | None = None) -> list[str]:
    """Write `<target>/<name>.yaml` and its manifest for what `root` holds; returns the lines to print.

    The manifest lists every video with its files and what is missing; for own videos without queries it is a CSV to fill in. Features of
    a published bundle are used where there are no videos. `kind` chooses where several datasets are recognised. Errors: ConfigError
    when a file of that name is there already or several kinds fit, DatasetError when nothing does.
    """
    contents = look(root)
    kind = kind or _only_kind(contents)
    bundle = _bundle(contents, kind)
    dataset = _dataset(contents, kind, bundle)
    config, manifest = target / f"{dataset.name}.yaml", target / f"{dataset.name}.manifest.tsv"
    if kind == "own" and not dataset.annotations:
        manifest = target / f"{dataset.name}.queries.csv"
    present = [path for path in (config, manifest) if path.exists()]
    if present:
        raise ConfigError(
            f"already there: {', '.join(map(str, present))}", where=target, fix="move them away, or choose another folder with --to"
        )
    rows, notes, first = _rows(dataset, bundle)
    counts = table.of(rows).counts().itertuples() if rows.queries else ()
    if dataset.original and (advice := getattr(reader(kind), "ADVICE", "")):
        notes = [advice, *notes]
    target.mkdir(parents=True, exist_ok=True)
    listed = dataset.model_copy(update={"annotations": str(manifest)}) if manifest.suffix == ".csv" else dataset
    config.write_text(_filled(listed, bundle, rows), encoding="utf-8")
    _manifest(manifest, rows, dataset)
    said = [f"{root}:", *(f"  {line}" for line in contents.lines()), "", f"{dataset.name} ({dataset.kind})"]
    said += [*(f"  {of.split}: {of.videos:,} videos, {of.queries:,} queries" for of in counts), *notes, ""]
    said += [f"wrote {config}: read it, it explains every value", f"wrote {manifest}: {_says(manifest)}", ""]
    if bundle:
        names = f"--video {bundle.short}-video --text {bundle.short}-text"
        first = [f"prvr import {bundle.folder} --config {config} {names}"]
    elif manifest.suffix == ".csv":
        first = [f"# to train, fill in the queries of {manifest}; searching needs none"]
    steps = [*first, f"prvr plan --config {config}", install.run_command(config)]
    return [*said, "next:", *(f"  {step}" for step in steps)]


def searchable(folder: Path, target: Path) -> tuple[Path, list[str]]:
    """The configuration that makes a folder searchable, written where there is none of its name, and the lines to print.

    Errors: ConfigError when the one that is there is about another folder; DatasetError as `init`.
    """
    config = target / f"{_name(folder)}.yaml"
    if not config.exists():
        return config, init(folder, target)
    named = reading.load(str(config)).dataset.videos
    if Path(named).resolve() != folder.resolve():
        raise ConfigError(
            f"its dataset.videos is {named or 'empty'}, not {folder}",
            where=config,
            fix="move it away, or write the new one elsewhere with --to",
        )
    return config, [f"{config} is there already"]


def init_demo(target: Path) -> list[str]:
    """Write `<target>/config.yaml`, the demo's; returns the lines to print. Errors: ConfigError when one is there already."""
    config = target / "config.yaml"
    if config.exists():
        raise ConfigError(f"already there: {config}", where=target, fix="move it away, or choose another folder with --to")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(install.DEMO, config)
    step = install.run_command(config)
    return [f"wrote {config}: the demo, a rendered world of videos; it explains every value", "", "next:", f"  {step}"]


def _name(folder: Path) -> str:
    """What a dataset of one's own is called: as its folder, in characters every path may hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "own"


def _only_kind(contents: Contents) -> str:
    kinds = list(contents.benchmarks) + (["own"] if contents.queries else [])
    if not kinds and contents.videos:
        return "own"
    if not kinds and len(contents.captioned) == 1:
        return "bundle"
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise ConfigError(f"several datasets fit: {', '.join(kinds)}", where=contents.root, fix="choose one with --kind")
    if contents.bundles:
        raise DatasetError(
            "feature bundles and nothing else: " + ", ".join(str(bundle.folder) for bundle in contents.bundles),
            where=contents.root,
            fix="name the folder of one with caption lists in TextData; npz features come with `prvr import --npz` and annotation files",
        )
    raise DatasetError(
        "no video and no annotation file was recognised",
        where=contents.root.absolute(),
        fix=f"name the folder that holds them; videos end in {', '.join(sorted(EXTENSIONS))}",
    )


def _bundle(contents: Contents, kind: str) -> FeatureBundle | None:
    """The bundle whose features stand in for videos that are not there."""
    fitting = [bundle for bundle in contents.captioned if kind in ("bundle", bundle.kind)]
    if kind == "bundle" and len(fitting) != 1:
        raise DatasetError(
            f"{len(fitting)} feature bundles with caption lists" + "".join(f"\n    {bundle.folder}" for bundle in fitting),
            where=contents.root,
            fix="name the folder of one of them",
        )
    return fitting[0] if len(fitting) == 1 and (kind == "bundle" or not contents.video_root(kind)) else None


def _dataset(contents: Contents, kind: str, bundle: FeatureBundle | None) -> Dataset:
    videos = contents.video_root(kind)
    if kind == "own":
        if len(contents.queries) > 1:
            raise ConfigError(
                "several files of queries: " + ", ".join(map(str, contents.queries)),
                where=contents.root,
                fix="leave one of them in this folder",
            )
        return Dataset(
            kind="own", name=_name(contents.root), videos=videos, annotations=str(contents.queries[0]) if contents.queries else ""
        )
    if kind == "bundle":
        assert bundle is not None
        return Dataset(kind="bundle", name=f"{bundle.kind}-{bundle.short}", gallery=None)
    if kind not in (known := telltales()):
        raise unknown("kind of dataset", kind, ["own", *known], where="--kind")
    if kind not in contents.benchmarks:
        raise DatasetError(
            f"the annotation files of {kind} are not there ({', '.join(known[kind])})",
            where=contents.root,
            fix="docs/datasets.md says where they are",
        )
    several = galleries(kind)
    gallery = several[0] if len(several) > 1 else None
    return Dataset.model_validate(
        {"kind": kind, "name": kind, "videos": videos, "annotations": str(contents.benchmarks[kind]), "gallery": gallery}
    )


def _rows(dataset: Dataset, bundle: FeatureBundle | None) -> tuple[Rows, list[str], list[str]]:
    """The rows with what is on disk, lines about what is not, and what is to be done first (shell comments)."""
    if dataset.kind == "own":
        rows = annotated(dataset)
        lacking = rows.queries and not any(query.split == "val" for query in rows.queries)
        first = ["# no query is of split val: add some, or set training.selection_split: test, knowing that the number was selected for"]
        return rows, list(rows.notes), first if lacking else []
    if dataset.kind == "bundle":
        assert bundle is not None
        return _listed(bundle), [f"features from {bundle.folder}"], []
    rows = annotated(dataset)
    if bundle:
        return rows, [*rows.notes, f"no videos here: features from {bundle.folder}"], []
    if not dataset.videos:
        return (
            rows,
            [*rows.notes, "no videos here"],
            ["# name their folder as dataset.videos, or import published features (docs/datasets.md)"],
        )
    pictures = frame_folders(dataset.kind)
    try:
        here, missing = locate(rows, dataset.videos, report=Path(os.devnull), allow_missing=True, frame_folders=pictures)
    except PrvrError as error:
        return rows, [f"videos: {error.what}"], [f"# {error.fix}"]
    files = {video.video_id: video for video in here.videos}
    videos = tuple(files.get(video.video_id, video) for video in rows.videos)
    notes, first = [*rows.notes, f"{len(here.videos)} of {len(rows.videos)} annotated videos are here"], []
    if missing:
        notes.append(f"{len(rows.videos) - len(here.videos)} are missing (no file in the manifest)")
        first = ["# add them, or set dataset.allow_missing_videos: true to go on without them"]
    return Rows(videos, rows.queries, rows.gallery, rows.notes), notes, first


def _listed(bundle: FeatureBundle) -> Rows:
    """The videos and queries of a bundle's caption lists; a list that repeats an earlier one adds nothing."""
    queries: dict[str, Query] = {}
    for split, path in bundle.lists.items():
        for caption in caption_list.read(path):
            queries.setdefault(caption.cap_id, Query(caption.cap_id, caption.video_id, split, caption.text, cap_id=caption.cap_id))
    videos = {query.video_id: query.split for query in reversed(queries.values())}
    return Rows(tuple(Video(video, split) for video, split in reversed(videos.items())), tuple(queries.values()), bundle.collection)


def _filled(dataset: Dataset, bundle: FeatureBundle | None, rows: Rows) -> str:
    """The preset's text with this dataset's values, its comments kept; of own videos also with sizes that fit how many there are."""
    kind = bundle.kind if bundle else dataset.kind
    text = (install.PRESETS / f"{'own-videos' if kind == 'own' else kind}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = {"name": dataset.name, "kind": dataset.kind, "videos": dataset.videos, "annotations": dataset.annotations}
    if bundle:
        text = re.sub(r"^encoders:.*?(?=^variant:)", _IMPORTED.format(name=bundle.short), text, flags=re.M | re.S)
    if dataset.kind == "bundle":
        assert bundle is not None
        text = re.sub(r"^  gallery: .*\n( {20,}#.*\n)*", "", text, flags=re.M)
        values |= {"selection_split": "val" if "val" in bundle.lists else bundle.evaluated, "split": bundle.evaluated}
    for key, value in values.items():
        plain = re.fullmatch(r"[\w./-]+", value) and yaml.safe_load(value) == value
        written = value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        line = re.search(rf"^  {key}: (\S+ *)", text, flags=re.M)
        assert line is not None, key  # every preset names them all; a test loads what comes out
        text = f"{text[: line.start(1)]}{written.ljust(len(line[1]) - 1)} {text[line.end() :]}"
    if kind == "own":
        fit = fitting(sum(video.split == "train" for video in rows.videos) if rows.queries else len(rows.videos))
        sized = (
            ("hidden", fit.hidden, fit.why_hidden),
            ("batch_videos", fit.batch, fit.why_batch),
            ("learning_rate", fit.rate, fit.why_rate),
        )
        for key, number, why in sized:
            text = re.sub(rf"^  {key}: .*$", f"{f'  {key}: {number}':<40}# {why}", text, count=1, flags=re.M)
    return re.sub(r" +$", "", text, flags=re.M)


def _manifest(path: Path, rows: Rows, dataset: Dataset) -> None:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "query", "split", "start", "end"])
            # A name that is no text can be in no CSV; the workflow has a line about it in the quarantine.
            paths = [os.path.relpath(video.files[0], dataset.videos) for video in rows.videos]
            writer.writerows([path, "", "", "", ""] for path in paths if printable(path) == path)
        return
    queries = Counter(query.video_id for query in rows.queries)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["video_id", "split", "queries", "seconds", "bytes", "files"])
        for video in rows.videos:
            size = sum(_size(name) for name in video.files) if video.files else ""
            seconds = "" if video.duration != video.duration else f"{video.duration:g}"
            table.writerow([video.video_id, video.split, queries[video.video_id], seconds, size, "; ".join(video.files)])


def _size(name: str) -> int:
    """Bytes of a file, 0 when it cannot be looked at (a link to nowhere)."""
    try:
        return os.path.getsize(name)
    except OSError:
        return 0


def _says(manifest: Path) -> str:
    return "one line per video, its queries to be written" if manifest.suffix == ".csv" else "every video, its queries, length and files"
