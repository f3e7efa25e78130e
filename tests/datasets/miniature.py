"""Miniatures of the four benchmarks: the real file names, folders and annotation formats, with few and short videos.

With the folder of original annotation files the rows are real ones, cut from it; without it they are invented in the same formats.
Videos are generated and encoded as H.264 (TVR: mostly folders of jpg frames), as long as the annotations say.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from pipeline.config.inputs import Dataset
from pipeline.datasets.base import telltales
from pipeline.datasets.files import document, lines, open_text, records
from pipeline.datasets.qvhighlights import source_of
from pipeline.datasets.readers import annotated

KINDS = tuple(telltales())
GALLERY = {"qvhighlights": "val", "tvr": "val", "activitynet": "val_1", "charades": "test"}
SIZE, FPS = 64, 6  # pixels and frames a second of the generated videos
TVR_FPS = 3


@dataclass(frozen=True)
class Miniature:
    """What `build` made; `values` is the dataset section of a configuration."""

    kind: str
    videos: Path
    annotations: Path
    values: dict[str, Any] = field(default_factory=dict)


def build(
    kind: str, root: Path, original: Path | None = None, *, train: int = 6, test: int = 4, real: Mapping[str, Path] | None = None
) -> Miniature:
    """Lay out `kind` below `root` with that many videos; `real` puts given files in the place of those ids' generated videos."""
    annotations, folder = root / kind, root / kind / {"tvr": "frames", "charades": "Charades_v1_480"}.get(kind, "videos")
    folder.mkdir(parents=True)
    source = original or _invent(kind, root / f"{kind}-invented", train, test)
    _CUT[kind](source, annotations, train, test, set(real or {}))
    _videos(kind, annotations, folder, dict(real or {}))
    values = {"name": kind, "kind": kind, "videos": str(folder), "annotations": str(annotations), "gallery": GALLERY[kind]}
    return Miniature(kind, folder, annotations, values)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def encode(path: Path, seconds: float, seed: int) -> None:
    """An H.264 file of a drifting pattern that is another one every few seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "30"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for image in _frames(round(seconds * FPS), FPS, seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def extract(folder: Path, seconds: float, seed: int) -> None:
    """The same as a folder of numbered jpg frames, 3 a second, as TVQA gives them out."""
    folder.mkdir(parents=True)
    for i, image in enumerate(_frames(round(seconds * TVR_FPS), TVR_FPS, seed), 1):
        Image.fromarray(image).save(folder / f"{i:05d}.jpg")


def _frames(count: int, fps: int, seed: int) -> Iterable[np.ndarray]:
    y, x = np.mgrid[:SIZE, :SIZE]
    for i in range(max(1, count)):
        scene = np.random.default_rng([seed, i // (5 * fps)])
        colours, tilt = scene.integers(0, 256, (2, 3)), scene.uniform(-1, 1, 2)
        wave = np.sin((tilt[0] * x + tilt[1] * y + i * 2) / 6) / 2 + 0.5
        yield (colours[0] * wave[..., None] + colours[1] * (1 - wave[..., None])).astype(np.uint8)


def _videos(kind: str, annotations: Path, folder: Path, real: dict[str, Path]) -> None:
    rows = annotated(Dataset(kind=kind, annotations=str(annotations), gallery=GALLERY[kind]))
    lengths = {query.extra["vid"]: query.extra for query in rows.queries if kind == "qvhighlights"}
    for i, video in enumerate(rows.videos):
        for j, names in enumerate(video.parts):
            name = names[0]
            if video.video_id in real:
                shutil.copy(real[video.video_id], folder / f"{name}{real[video.video_id].suffix}")
            elif kind == "tvr" and i % 3:  # shows lie in folders of their own
                extract(folder / f"{name.split('_')[0]}_frames" / name, video.duration, i)
            elif kind == "activitynet" and i % 3 == 0:  # collected from the web: other containers, ids without v_
                encode(folder / f"{names[-1]}.mkv", video.duration, i)
            else:
                seconds = clip_seconds(annotations, name) if name in lengths else video.duration
                encode(folder / ("train" if kind == "activitynet" and video.split == "train" else "") / f"{name}.mp4", seconds, 97 * i + j)


def clip_seconds(annotations: Path, vid: str) -> float:
    """The annotated duration of a QVHighlights clip."""
    rows = [row for path in sorted(annotations.glob("highlight_*")) for row in records(path, ("vid", "duration"))]
    return next(float(row["duration"]) for row in rows if row["vid"] == vid)


def _shortest(durations: Mapping[str, float], count: int, keep: set[str], also: Callable[[str], bool] = lambda _: False) -> list[str]:
    """`count` ids: those of `keep`, then one that fits `also`, then the shortest."""
    order = sorted(durations, key=lambda name: (name not in keep, durations[name], name))
    special = next((name for name in order if also(name)), None)
    chosen = [name for name in order if name != special][: count - (special is not None)]
    return chosen + ([special] if special else [])


def _cut_qvhighlights(source: Path, target: Path, train: int, test: int, keep: set[str]) -> None:
    for name, count, suffix in (("train", train, ".gz"), ("val", test, "")):
        rows = records(_any(source / f"highlight_{name}_release.jsonl"), ("qid", "vid", "duration"))
        lengths = {row["vid"]: float(row["duration"]) for row in rows}
        totals: dict[str, float] = {}
        for vid, seconds in lengths.items():
            totals[source_of(vid)[0]] = totals.get(source_of(vid)[0], 0.0) + seconds
        chosen = set(_shortest(totals, count, keep, also=lambda name, totals=totals: "_" in name and totals[name] > 150))
        write_jsonl(target / f"highlight_{name}_release.jsonl{suffix}", (row for row in rows if source_of(row["vid"])[0] in chosen))


def _cut_tvr(source: Path, target: Path, train: int, test: int, keep: set[str]) -> None:
    """The train release is not always at hand: videos of the val release stand in for training ones."""
    durations = {name: entry for name, entry in document(_any(source / "tvr_video2dur_idx.json"))["val"].items()}
    rows = records(_any(source / "tvr_val_release.jsonl"), ("vid_name",))
    bare = _shortest({name: entry[0] for name, entry in durations.items()}, train + test, keep, also=lambda name: name.startswith("s0"))
    split = {"train": bare[test:], "val": bare[:test]}
    (target / "tvr_video2dur_idx.json").write_text(
        json.dumps({key: {name: durations[name] for name in names} for key, names in split.items()})
    )
    for key, names in split.items():
        write_jsonl(target / f"tvr_{key}_release.jsonl{'.gz' if key == 'train' else ''}", (row for row in rows if row["vid_name"] in names))


def _cut_activitynet(source: Path, target: Path, train: int, test: int, keep: set[str]) -> None:
    for name, count in (("train", train), ("val_1", test)):
        entries = document(_any(source / f"{name}.json"))
        listed = {record["vid_name"] for record in records(_any(source / "prvr_vcmr_val.jsonl"), ("vid_name",))}
        also = (lambda video, listed=listed: video not in listed) if name == "val_1" else (lambda _: False)
        chosen = _shortest({video: entry["duration"] for video, entry in entries.items()}, count, keep, also)
        (target / f"{name}.json").write_text(json.dumps({video: entries[video] for video in entries if video in chosen}))
        if name == "val_1":
            rows = records(_any(source / "prvr_vcmr_val.jsonl"), ("vid_name",))
            write_jsonl(target / "prvr_vcmr_val.jsonl.gz", (row for row in rows if row["vid_name"] in chosen))


def _cut_charades(source: Path, target: Path, train: int, test: int, keep: set[str]) -> None:
    for name, count in (("train", train), ("test", test)):
        pairs = [line for _, line in lines(_any(source / f"charades_sta_{name}.txt"))]
        used = {line.split(" ", 1)[0] for line in pairs}
        with open_text(_any(source / f"Charades_v1_{name}.csv")) as file:
            header, *table = file.read().splitlines()
        lengths = {line.split(",", 1)[0]: float(line.rsplit(",", 1)[1]) for line in table}
        chosen = set(_shortest({video: seconds for video, seconds in lengths.items() if video in used}, count, keep))
        kept = [line for line in pairs if line.split(" ", 1)[0] in chosen]
        (target / f"charades_sta_{name}.txt").write_text("\n".join(kept) + "\n")
        (target / f"Charades_v1_{name}.csv").write_text(
            "\n".join([header, *(line for line in table if line.split(",", 1)[0] in chosen)]) + "\n"
        )


_CUT: dict[str, Callable[[Path, Path, int, int, set[str]], None]] = {
    "qvhighlights": _cut_qvhighlights,
    "tvr": _cut_tvr,
    "activitynet": _cut_activitynet,
    "charades": _cut_charades,
}


def _any(path: Path) -> Path:
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def _sentence(i: int, n: int) -> str:
    who, what, where = (
        ("a woman", "a man", "a dog", "two children"),
        ("opens", "carries", "drops", "looks at"),
        ("a box", "a red ball", "the door"),
    )
    return f" {who[(i + n) % 4]} {what[(i * 3 + n) % 4]}  {where[(i + 2 * n) % 3]} ({i}.{n})."


def _invent(kind: str, folder: Path, train: int, test: int) -> Path:
    """Annotation files in the dataset's own format, about videos that do not exist."""
    folder.mkdir(parents=True)
    counts = {"train": train, "val": test}
    if kind == "qvhighlights":
        for split, count in counts.items():
            vids = [f"{split}_-{i:06d}_{60.0 + 150 * c}_{210.0 + 150 * c}" for i in range(count) for c in range(2 if i == 0 else 1)]
            rows = [
                {
                    "qid": 1000 * len(split) + 10 * i + n,
                    "query": _sentence(i, n),
                    "duration": 90,
                    "vid": vid,
                    "relevant_windows": [[10, 20], [30, 40]],
                    "relevant_clip_ids": [5, 6, 7, 8, 9, 15, 16, 17, 18, 19],
                    "saliency_scores": [[2, 3, 4]] * 10,
                }
                for i, vid in enumerate(vids)
                for n in range(2)
            ]
            write_jsonl(folder / f"highlight_{split}_release.jsonl", rows)
    elif kind == "tvr":
        names = [f"{'' if i % 2 else 'friends_'}s01e{i:02d}_seg01_clip_00" for i in range(train + test)]
        (folder / "tvr_video2dur_idx.json").write_text(json.dumps({"val": {name: [8.0 + i, i] for i, name in enumerate(names)}}))
        rows = [
            {"vid_name": name, "duration": 8.0 + i, "ts": [n, n + 3.5], "desc": _sentence(i, n), "type": "v", "desc_id": 10 * i + n}
            for i, name in enumerate(names)
            for n in range(3)
        ]
        write_jsonl(folder / "tvr_val_release.jsonl", rows)
    elif kind == "activitynet":
        for name, count in (("train", train), ("val_1", test)):
            entries = {
                f"v_{name[0]}_-{i:08d}": {
                    "duration": 10.0 + i,
                    "timestamps": [[0, 4.5], [5, 9.5]],
                    "sentences": [_sentence(i, 0), _sentence(i, 1)],
                }
                for i in range(count)
            }
            (folder / f"{name}.json").write_text(json.dumps(entries))
        rows = [
            {"vid_name": video, "desc_id": f"{video}#enc#{n}", "duration": entry["duration"], "ts": [0, 1], "desc": entry["sentences"][n]}
            for video, entry in list(entries.items())[1:]
            for n in range(2)
        ]
        write_jsonl(folder / "prvr_vcmr_val.jsonl", rows)
    else:
        for name, count in (("train", train), ("test", test)):
            pairs = [f"{name[:2].upper()}{i:03d} {n}.0 {n + 4}.5##{_sentence(i, n).strip()}" for i in range(count) for n in range(2)]
            (folder / f"charades_sta_{name}.txt").write_text("\n".join(pairs) + "\n")
            table = [f'{name[:2].upper()}{i:03d},HR43,"Kitchen, large",{10.0 + i}' for i in range(count)]
            (folder / f"Charades_v1_{name}.csv").write_text("\n".join(["id,subject,scene,length", *table]) + "\n")
    return folder
