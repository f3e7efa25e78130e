"""How much of the processor an encoder stage uses: rows per second of the whole stage, of the bare model, and of matrix products.

    python -m benchmarks.encoders --encoder clip-b16 --videos 40 --rows 30 --precision bf16

Random weights at full size, saved in the published format; frames of random pixels in a real frames store. Prints one line per figure:
stage, model fed with ready tensors, their ratio (aim: 0.9), and the model's arithmetic as a share of the measured matmul peak.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from benchmarks.peaks import operations, product_peak
from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.source import Source
from pipeline.core.store import create
from pipeline.encoders import architecture, slowfast, stage
from pipeline.encoders.base import load
from pipeline.encoders.batch_size import find_batch
from pipeline.jobs import recipes

CLIP = {"clip-b32": "ViT-B-32", "clip-b16": "ViT-B-16", "clip-l14": "ViT-L-14"}


def save_weights(encoder: str, folder: Path) -> dict:
    """Random weights of the encoder in `folder`; returns its configuration entry."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if encoder in CLIP:
            from open_clip import create_model

            with architecture.quiet():
                model = create_model(CLIP[encoder])
            torch.save({k: v.half() for k, v in model.state_dict().items()}, folder / f"{encoder}.pt")
            return {"kind": "open_clip", "architecture": CLIP[encoder], "weights": str(folder / f"{encoder}.pt")}
        torch.save(
            {"model_state": slowfast.build(slowfast.ARCHITECTURES["slowfast_r50"], 4).state_dict()}, folder / "SLOWFAST_8x8_R50.pyth"
        )
        return {"kind": "slowfast", "weights": str(folder / "SLOWFAST_8x8_R50.pyth")}


def save_frames(config: Config, layout: Layout, videos: int, rows: int) -> list[Source]:
    """A frames store of random pixels; windows overlap by nothing, as SlowFast's do at 2 s."""
    (encoder,) = config.encoders.values()
    stream = encoder.stream
    generator = np.random.default_rng(0)
    with create(layout.frames(stream.name, "000"), stage="frames") as writer:
        for i in range(videos):
            pixels = generator.integers(0, 256, (rows * stream.count, stream.size, stream.size, 3), dtype=np.uint8)
            start = np.arange(rows) * stream.every
            index = np.arange(rows * stream.count, dtype=np.int32).reshape(rows, stream.count)
            items = {"fingerprint": f"{i}", "duration": rows * stream.every, "decoder": "none"}
            writer.append("frames", f"v{i}", pixels, {"time": np.arange(len(pixels)) / 16})
            writer.append("windows", f"v{i}", index, {"start": start, "end": start + stream.every}, items)
    write_json(layout.frames_manifest("000"), {"videos": {}, "quarantine": [], "skipped": []})
    return [Source(f"v{i}", (), f"{i}", None) for i in range(videos)]


def clock(run, device: torch.device, seconds: float = 3.0) -> float:
    """Seconds per call of `run`, warm."""
    run()
    calls, started = 0, 0.0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    while calls < 3 or time.perf_counter() - started < seconds:
        run()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=[*CLIP, "slowfast-r50"], default="clip-b16")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--rows", type=int, default=15)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        entry = save_weights(arguments.encoder, Path(temporary)) | {"precision": arguments.precision, "compile": arguments.compile}
        config = Config(
            results=f"{temporary}/results",
            encoders={"x": entry, "text": {"kind": "open_clip"}},
            features=["x"],
            text="text",
            runtime={"device": arguments.device},
        )
        config = config.model_copy(update={"encoders": {"x": config.encoders["x"]}})
        layout = config.layout
        sources = save_frames(config, layout, arguments.videos, arguments.rows)
        stage.run_video(config, layout, "x", "000", sources, recipes.features(config, "x"))
        stats = json.loads(layout.features_manifest("x", "000").read_text())["stats"]

        device = torch.device("cuda" if torch.cuda.is_available() and arguments.device != "cpu" else "cpu")
        settings = config.encoders["x"]
        encode = load(settings, device).encode
        stream = settings.stream
        shape = (*([stream.count] if stream.count > 1 else []), stream.size, stream.size, 3)
        batch = find_batch(encode, shape, device)
        ready = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, device=device)
        seconds = clock(lambda: encode(ready), device)
        peak = product_peak(device, arguments.precision)
        used = operations(lambda: encode(ready)) / seconds
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"device            {name}, {arguments.precision}")
    print(f"stage / ready     {stats['rows_per_second'] * seconds / batch:.3f}")
    print(f"model / matmul    {used / peak:.3f} ({used / 1e12:.2f} of {peak / 1e12:.2f} TFLOP/s)")


if __name__ == "__main__":
    main()
