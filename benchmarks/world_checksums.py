"""Whether a generated world is the benchmark's: its tables, and the frames of some videos as drawn and as decoded (docs/world.md).

python -m benchmarks.world_checksums [--configfile config/world.yaml]     # the tables; where the world was rendered, its videos too
python -m benchmarks.world_checksums --write                              # a new version's, into benchmarks/world-1.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.config.inputs import Demo
from pipeline.config.reading import load
from pipeline.core.atomic import write_text
from pipeline.demo.render import HEIGHT, WIDTH, draw
from pipeline.demo.scenes import Scene, VideoSpec
from pipeline.demo.world import SPLITS, qrels, rows, world

TABLE = Path(__file__).with_name("world-1.json")
WORLDS = ("world-1", "world-1-noisy")
VIDEOS, EVENTS = 3, 3  # videos of a split; their shortest events that are looked at, beside the shortest stretch without one
CELL = 24  # px
# Of a frame the mean levels (0..255) of its cells are kept, not a digest: nothing promises the last bit of a sine on another processor or
# numpy, which may move a pixel by one level, and what is decoded depends on the x264 that encoded. Means hardly move by either.
DRAWN, DECODED = 0.05, 6.0  # levels that a mean may differ by: x264 at crf 18 to 28 changed it by 1.8 to 4.9, another scene by 12 or more

Frames = dict[int, np.ndarray]


def cells(frame: np.ndarray) -> np.ndarray:
    """The mean levels of the square cells of a frame. Shapes: [HEIGHT, WIDTH, 3] uint8 -> [36] float64."""
    return frame.reshape(HEIGHT // CELL, CELL, WIDTH // CELL, CELL, 3).mean((1, 3)).ravel()


def looked_at(spec: VideoSpec) -> list[Scene]:
    """The scenes of a video whose middle frame is compared: short ones, which are quickly drawn."""
    short = sorted(spec.scenes, key=lambda scene: (scene.end - scene.start, scene.start))
    return [*[scene for scene in short if scene.subject][:EVENTS], *[scene for scene in short if not scene.subject][:1]]


def middle(scene: Scene) -> int:
    """The number of a scene's middle frame in its video."""
    return (scene.start + scene.end) // 2


def drawn(scenes: Iterable[Scene]) -> Frames:
    """Number of the middle frame -> its cells, as the generator draws it before any encoder."""
    return {middle(scene): cells(draw(scene)[middle(scene) - scene.start]) for scene in scenes}


def decoded(path: Path, wanted: Iterable[int]) -> Frames:
    """The same of a file. Errors: av's for what is no video; KeyError by the caller where it ends too early."""
    numbers = set(wanted)
    with av.open(str(path)) as container:
        return {i: cells(frame.to_ndarray(format="rgb24")) for i, frame in enumerate(container.decode(video=0)) if i in numbers}


def apart(found: Frames, kept: Mapping[str, str]) -> float:
    """The largest difference between cells and those of the table, in levels; infinite where a frame is missing."""
    if {str(number) for number in found} != set(kept):
        return float("inf")
    return max(float(np.abs(found[int(number)] - _levels(text)).max()) for number, text in kept.items())


def _text(values: np.ndarray) -> str:
    """Hundredths of a level, four hexadecimal digits each."""
    return (values * 100).round().astype(">u2").tobytes().hex()


def _levels(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), ">u2") / 100


def tables(demo: Demo) -> dict[str, str]:
    """Digests of everything that is known of a world before it is drawn: annotations, relevance, and what every scene shows."""
    shown = [asdict(scene) for video in world(demo) for scene in video.scenes]
    texts = {"annotations": json.dumps(rows(demo), sort_keys=True), "relevance": qrels(demo), "scenes": json.dumps(shown, sort_keys=True)}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}


def sample(demo: Demo) -> list[VideoSpec]:
    """The first, a middle and the last video of every split."""
    chosen = []
    for split in SPLITS:
        videos = [video for video in world(demo) if video.split == split]
        chosen += [videos[i * (len(videos) - 1) // (VIDEOS - 1)] for i in range(VIDEOS)]
    return chosen


def checksums(demo: Demo) -> dict[str, Any]:
    """A world's entry of the table."""
    frames = {spec.video_id: {str(i): _text(values) for i, values in drawn(looked_at(spec)).items()} for spec in sample(demo)}
    return {"demo": demo.model_dump(), **tables(demo), "frames": frames}


def known(demo: Demo) -> dict[str, Any] | None:
    """The entry of the benchmark that a `demo` section describes; None for another world."""
    entries: dict[str, dict[str, Any]] = json.loads(TABLE.read_text())
    return next((entry for entry in entries.values() if entry["demo"] == demo.model_dump()), None)


def write() -> None:
    """Both variants of the world that config/world.yaml describes, into the table."""
    demo = load(Path(__file__).parents[1] / "config" / "world.yaml").demo
    entries = {name: checksums(demo.model_copy(update={"world": name})) for name in WORLDS}
    write_text(TABLE, json.dumps(entries, indent=1) + "\n")


def check(demo: Demo, folder: Path) -> tuple[list[str], bool]:
    """A line for each thing compared with the table, and whether all are the benchmark's; videos where `folder` holds them."""
    entry = known(demo)
    if entry is None:
        return ["this `demo` section describes no benchmark: only config/world.yaml's seed and counts do, in both variants"], False
    found = tables(demo)
    results = {name: (digest, digest == entry[name]) for name, digest in found.items()}
    for video, kept in entry["frames"].items():
        path = folder / f"{video}.mp4"
        if path.exists():
            levels = apart(decoded(path, map(int, kept)), kept)
            results[video] = (f"{levels:.2f} levels apart at most", levels <= DECODED)
        else:
            results[video] = ("not rendered here", True)
    return [f"{name:<14}{what}{'' if right else '  NOT THE BENCHMARK'}" for name, (what, right) in results.items()], all(
        right for _, right in results.values()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", default="config/world.yaml")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.write:
        return write()
    config = load(given.configfile)
    lines, right = check(config.demo, config.layout.world / "videos")
    print("\n".join(lines))
    sys.exit(not right)


if __name__ == "__main__":
    main()
