"""From video files to stored features: the pipeline against the usual practice, on the same videos and the same weights.

    python -m benchmarks.extraction --videos ../shared/videos --encoder clip-b16 [--copies 4] [--every 2] [--repeats 2] [--threads 2]

The usual practice, as the public extractors do it: one process, one video after the other; decord at full size and sparse `get_batch`,
open_clip's model, its transform picture by picture, the video's frames as one batch, one .npz each. Ours: the frames stage (contiguous
reading in worker processes, placed by time) and the features stage (batches across videos), two shards, the second decoded while the
first is encoded, as `snakemake --cores 2` does. Both sides include loading the model, ours once per shard. In turn, `--repeats` times;
prints seconds and processor seconds of both (medians) and their ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NAMES = (
    "univtg_charades.mp4",
    "v_GGSY1Qvo990.mp4",
    "v_ZNVhz7ctTq0.mp4",
    "mmcv_test.mp4",
    "mm_demo.mp4",
    "mm_structuralize.mp4",
    "ffpy_in1.mp4",
    "dec_flipping_a_pancake.mkv",
    "ax_bbb_800x640_768kbps_30fps_avc_pyramid_3b.mp4",
)


def usual(files: list[Path], model, size: int, every: float, out: Path) -> int:
    """One video per batch, decoded, then encoded; returns the rows."""
    import decord
    import numpy as np
    import torch
    from open_clip.transform import image_transform
    from PIL import Image

    transform, total = image_transform(size, False), 0
    for number, file in enumerate(files):
        reader = decord.VideoReader(str(file))
        fps = reader.get_avg_fps()
        rows = max(1, round(len(reader) / fps / every))
        index = [min(len(reader) - 1, int((i + 0.5) * every * fps)) for i in range(rows)]
        frames = reader.get_batch(index).asnumpy()
        batch = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
        with torch.no_grad():
            features = model.encode_image(batch)
        np.savez(out / f"{number}.npz", features=features.half().numpy())
        total += rows
    return total


def plain(entry: dict):
    """The model as open_clip itself loads it."""
    from open_clip import create_model

    return create_model(entry["architecture"], pretrained=entry["weights"]).eval()


def ours(files: list[Path], entry: dict, every: float, results: Path, threads: int) -> int:
    """Both stages on two shards, decoding one ahead; returns the rows."""
    from pipeline.config.schema import Config
    from pipeline.core.provenance import content
    from pipeline.core.source import Source
    from pipeline.core.store import open_store
    from pipeline.encoders import stage as encoders
    from pipeline.jobs import recipes
    from pipeline.video import stage as video

    config = Config(
        results=str(results),
        encoders={"x": entry | {"sampling": {"every": every}}},
        features=["x"],
        text="x",
        runtime={"device": "cpu", "threads": threads},
    )
    layout, looks, rows = config.layout, config.streams, 0
    recipe = recipes.frames(config, looks)
    sources = [Source(f"{number}", (str(file),), content(file), None) for number, file in enumerate(files)]
    shards = {"000": sources[0::2], "001": sources[1::2]}
    with ThreadPoolExecutor(1) as decoder:
        jobs = {
            name: decoder.submit(video.run, config, layout, name, part, config.streams, {s.video_id for s in part}, recipe, workers=threads)
            for name, part in shards.items()
        }
        for name, part in shards.items():
            jobs[name].result()
            encoders.run_video(config, layout, "x", name, part, recipes.features(config, "x"))
            with open_store(layout.features("x", name)) as store:
                rows += len(store.ragged("features").values)
    return rows


def timed(run: Callable[[], int]) -> tuple[float, float, int]:
    """Wall seconds, processor seconds (children included), and what `run` returned."""

    def used() -> float:
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    started, before = time.perf_counter(), used()
    rows = run()
    return time.perf_counter() - started, used() - before, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=Path("../shared/videos"), help="folder with the sample videos")
    parser.add_argument("--encoder", choices=["clip-b32", "clip-b16", "clip-l14"], default="clip-b16")
    parser.add_argument("--copies", type=int, default=4, help="each video so many times, to make a shard's worth")
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    files = [arguments.videos / name for name in NAMES if (arguments.videos / name).exists()] * arguments.copies
    import torch

    from benchmarks.encoders import CLIP, save_weights
    from pipeline.config.encoders import OpenClip
    from pipeline.encoders import open_clip

    torch.set_num_threads(arguments.threads)
    results: dict[str, list[tuple[float, float, int]]] = {"usual": [], "ours": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        entry = save_weights(arguments.encoder, folder)
        settings = OpenClip(**entry)

        def usual_run(out: Path) -> int:
            out.mkdir()
            return usual(files, plain(entry), settings.size, arguments.every, out)

        open_clip.load(settings), plain(entry)  # imports and the file cache, for both
        for repeat in range(arguments.repeats):
            results["usual"].append(timed(lambda: usual_run(folder / f"usual{repeat}")))  # noqa: B023
            results["ours"].append(timed(lambda: ours(files, entry, arguments.every, folder / f"ours{repeat}", arguments.threads)))  # noqa: B023
    assert threading.active_count() == 1
    rows, others = (results[name][0][2] for name in ("ours", "usual"))
    print(f"{len(files)} videos, {rows} rows ({others} usual), {CLIP[arguments.encoder]}, {arguments.threads} threads")
    medians = {name: (statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)) for name, runs in results.items()}
    for name, (wall, processor) in medians.items():
        print(f"{name:6s} {wall:7.1f} s, {processor:7.1f} processor seconds")
    print(
        f"ratio  {medians['usual'][0] / medians['ours'][0]:.2f} in time, {medians['usual'][1] / medians['ours'][1]:.2f} in processor time"
    )


if __name__ == "__main__":
    main()
