"""ActivityNet Captions as PRVR uses it: 10,009 training videos and one of two galleries, never mixed.

`val_1`: all 4,917 videos / 17,505 queries of the official file. `mssl`: the 4,430 / 15,753 of it that the MS-SL feature bundle holds.
Source: docs/datasets.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pipeline.config.inputs import Dataset
from pipeline.core.errors import DatasetError
from pipeline.datasets import caption_list
from pipeline.datasets.files import document, find, records, require
from pipeline.datasets.rows import Query, Rows, Video, normalise, refuse, repair

GALLERIES = ("val_1", "mssl")
TELLTALE = ("train.json", "val_1.json")
ADVICE = "gallery val_1, the official 4,917 videos; `gallery: mssl` has the 4,430 of the MS-SL bundle: never compare the two"
MSSL_EVALUATION = "prvr_vcmr_val.jsonl"
MSSL_LISTS = {"train": "activitynettrain.caption.txt", "test": "activitynetval.caption.txt"}


def read(dataset: Dataset) -> Rows:
    """Train and test. DatasetError when no gallery is chosen: recalls on the two cannot be compared."""
    folder, gallery = Path(dataset.annotations), dataset.gallery
    if gallery is None:
        raise DatasetError(
            "ActivityNet has two evaluation galleries and none is chosen",
            where="dataset.gallery",
            fix="set it to val_1 (4,917 videos, 17,505 queries) or mssl (4,430 / 15,753); docs/datasets.md says who reports which",
        )
    train_file, test_file = require(folder, TELLTALE)
    videos: list[Video] = []
    queries: list[Query] = []
    for split, path in (("train", train_file), ("test", test_file)):
        of_split = _split(document(path), split, path)
        videos += of_split[0]
        queries += of_split[1]
    rows = Rows(tuple(videos), tuple(queries), gallery)
    return rows if gallery == "val_1" else _mssl(rows, folder)


def bare(video_id: str) -> str:
    """The YouTube id: without the leading `v_` of the annotation files (a YouTube id has 11 characters and may itself begin so)."""
    return video_id[2:] if len(video_id) == 13 and video_id.startswith("v_") else video_id


def prefixed(video_id: str) -> str:
    """The id as the annotation files spell it."""
    return f"v_{bare(video_id)}"


def _split(annotations: dict[str, Any], split: str, path: Path) -> tuple[list[Video], list[Query]]:
    problems = [
        f"{name}: {len(entry['timestamps'])} time spans for {len(entry['sentences'])} sentences"
        for name, entry in annotations.items()
        if len(entry["timestamps"]) != len(entry["sentences"])
    ]
    refuse(problems, what="bad video entries", where=path, fix="fetch the annotation file again")
    videos: list[Video] = []
    queries: list[Query] = []
    for name, entry in annotations.items():
        video_id, duration = prefixed(name), float(entry["duration"])
        videos.append(Video(video_id, split, duration, ((video_id, bare(name)),)))
        for n, (span, sentence) in enumerate(zip(entry["timestamps"], entry["sentences"], strict=True)):
            moments, flags = repair([span], duration)
            cap_id = f"{video_id}#enc#{n}"
            queries.append(Query(cap_id, video_id, split, normalise(sentence), moments, cap_id, flags=flags, extra={"span": span}))
    return videos, queries


def _mssl(rows: Rows, folder: Path) -> Rows:
    """The rows whose captions the MS-SL bundle holds; its training list is used when it lies beside the annotation files."""
    evaluation = find(folder, MSSL_EVALUATION)
    if evaluation is not None:
        wanted = {record["desc_id"]: normalise(record["desc"]) for record in records(evaluation, ("desc_id", "desc"))}
    elif (listing := find(folder, MSSL_LISTS["test"])) is not None:
        evaluation, wanted = listing, {caption.cap_id: caption.text for caption in caption_list.read(listing)}
    else:
        raise DatasetError(
            "the list of the mssl gallery's captions is absent",
            where=folder,
            fix=f"put {MSSL_EVALUATION} or the bundle's {MSSL_LISTS['test']} there, or set dataset.gallery: val_1",
        )
    texts = {query.cap_id: query.text for query in rows.queries if query.split == "test"}
    wanted = {f"{prefixed(cap_id.split('#', 1)[0])}#{cap_id.split('#', 1)[1]}": text for cap_id, text in wanted.items()}
    problems = [f"{cap_id}: not in val_1.json" for cap_id in wanted if cap_id not in texts]
    problems += [
        f"{cap_id}: {text!r} is {texts[cap_id]!r} in val_1.json" for cap_id, text in wanted.items() if texts.get(cap_id, text) != text
    ]
    refuse(problems, what="captions of the mssl gallery that do not match", where=evaluation, fix="use files of one release")

    train = find(folder, MSSL_LISTS["train"])
    notes: tuple[str, ...] = ("training on all 10,009 official videos: the bundle's list of 9,043 is not beside the annotation files",)
    if train is not None:
        listed = {f"{prefixed(caption.video_id)}#{caption.cap_id.split('#', 1)[1]}" for caption in caption_list.read(train)}
        notes = (f"training on the captions of {train.name}",)
    else:
        listed = {query.cap_id for query in rows.queries if query.split == "train"}
    return _only(rows, listed | wanted.keys(), notes)


def _only(rows: Rows, cap_ids: Collection[str], notes: Iterable[str]) -> Rows:
    queries = tuple(query for query in rows.queries if query.cap_id in cap_ids)
    used = {query.video_id for query in queries}
    return Rows(tuple(video for video in rows.videos if video.video_id in used), queries, rows.gallery, (*rows.notes, *notes))
