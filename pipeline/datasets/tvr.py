"""TVR as PRVR uses it: the official train release and, as the test set, the official val release (2,179 videos, 10,895 queries).

Videos are files, or the folders of 3 fps frames that TVQA gives out. Source: docs/datasets.md.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.config.inputs import Dataset
from pipeline.core.errors import DatasetError
from pipeline.datasets import caption_list
from pipeline.datasets.files import document, find, records, require
from pipeline.datasets.rows import Query, Rows, Video, normalise, repair

GALLERIES: tuple[str, ...] = ("val",)
FRAME_FOLDERS = True
DURATIONS = "tvr_video2dur_idx.json"
RELEASES = {"train": "tvr_train_release.jsonl", "val": "tvr_val_release.jsonl"}
CAPTIONS = "tvrtrain.caption.txt"
TELLTALE = (DURATIONS, RELEASES["val"])
_NAMES = {"train": "train", "val": "test"}  # official name -> role in PRVR
TYPES = {"v": "visual", "t": "subtitle", "vt": "both"}  # what a query can be answered from


def read(dataset: Dataset) -> Rows:
    """Train and test. Where the train release is absent, the bundle's caption list gives the training queries, without moments."""
    folder = Path(dataset.annotations)
    durations_file, val_file = require(folder, TELLTALE)
    durations = document(durations_file)
    train_file, listing = find(folder, RELEASES["train"]), find(folder, CAPTIONS)
    notes: tuple[str, ...] = ()
    if train_file is not None:
        train = _queries(train_file, "train", durations)
    elif listing is not None:
        train = [Query(c.cap_id, c.video_id, "train", c.text, (), c.cap_id) for c in caption_list.read(listing)]
        notes = (f"training queries come from {CAPTIONS}: their moments are unknown",)
    else:
        tested = _queries(val_file, "val", durations)
        raise DatasetError(
            f"neither {RELEASES['train']} nor {CAPTIONS} is there: no query for the {len(durations['train']):,} training videos "
            f"(the {len(durations['val']):,} test videos have their {len(tested):,})",
            where=folder,
            fix="fetch one of them as docs/datasets.md says",
        )
    return Rows(tuple(videos(durations)), (*train, *_queries(val_file, "val", durations)), dataset.gallery or "val", notes)


def videos(durations: dict[str, Any]) -> list[Video]:
    """The 17,435 training and 2,179 test videos of `tvr_video2dur_idx.json` ({split: {name: [seconds, index]}}).

    Big Bang Theory clips carry no show prefix (`s02e14_seg02_clip_02`); every name is used as it is.
    """
    return [Video(name, _NAMES[split], float(entry[0]), ((name,),)) for split in _NAMES for name, entry in durations[split].items()]


def _queries(path: Path, split: str, durations: dict[str, Any]) -> list[Query]:
    queries: list[Query] = []
    count: Counter[str] = Counter()
    for row in records(path, ("vid_name", "desc", "desc_id", "ts")):
        name = row["vid_name"]
        length = durations[split].get(name, [row.get("duration", 0.0)])[0]
        moments, flags = repair([row["ts"]], float(length))
        cap_id = f"{name}#enc#{count[name]}"
        count[name] += 1
        extra, group = {"type": row.get("type", ""), "span": row["ts"]}, TYPES.get(row.get("type", ""), "")
        text = normalise(row["desc"])
        queries.append(Query(str(row["desc_id"]), name, _NAMES[split], text, moments, cap_id, group, flags, extra))
    return queries
