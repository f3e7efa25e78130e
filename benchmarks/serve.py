"""`prvr serve` under load, over real HTTP on the loopback: start-up, the first answer, and many clients at once.

A made-up collection in the store's own formats: the features of a frozen encoder, and CLIP B/16's text tower with weights drawn at random.
 Usage: `python -m benchmarks.serve [--videos 2000] [--clients 1,50] [--queries 100]`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import yaml

from pipeline.config.reading import load
from pipeline.core.shards import assign
from pipeline.core.store import create
from pipeline.datasets import table
from pipeline.datasets.rows import Query, Rows, Video

WIDTH, ROWS = 512, 160  # CLIP B/16's space; rows of a video
WORDS = "a person opens the door and walks away red car drives along street dog runs over field".split()  # noqa: SIM905


def collection(folder: Path, count: int) -> Path:
    """The configuration of `count` videos with stored features, in `folder`."""
    import open_clip
    import torch

    weights = folder / "clip"
    weights.mkdir(parents=True)
    torch.manual_seed(0)
    architecture = open_clip.get_model_config("ViT-B-16")
    model = open_clip.create_model("ViT-B-16", pretrained=None)
    torch.save(model.state_dict(), weights / "open_clip_model.pt")
    (weights / "open_clip_config.json").write_text(json.dumps({"model_cfg": architecture, "preprocess_cfg": {}}))
    config = {
        "results": str(folder / "results"),
        "dataset": {"name": "made-up", "kind": "own", "videos": str(folder)},
        "encoders": {
            "clip": {"kind": "open_clip", "architecture": "ViT-B-16", "weights": str(weights / "open_clip_model.pt"), "size": 224}
        },
        "features": ["clip"],
        "text": "clip",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    layout = load(str(folder / "config.yaml")).layout
    draw, ids = np.random.default_rng(0), [f"video-{i:05d}" for i in range(count)]
    themes = draw.standard_normal((300, WIDTH)).astype(np.float32)
    for shard, members in assign(ids, 256).items():
        with create(layout.features("clip", shard), stage="features", encoder="clip", shard=shard, dim=WIDTH) as writer:
            for video in members:
                scenes = themes[draw.integers(300, size=6)].repeat(-(-ROWS // 6), 0)[:ROWS]
                rows = (scenes + 0.5 * draw.standard_normal((ROWS, WIDTH), dtype=np.float32)).astype(np.float16)
                start = np.arange(ROWS, dtype=float)
                writer.append("features", video, rows, {"start": start, "end": start + 1}, {"key": video, "duration": float(ROWS)})
    queries = [Query(f"q{i}", video, "test", "somebody waves", (), f"{video}#0") for i, video in enumerate(ids)]
    table.save(layout.annotations, table.of(Rows(tuple(Video(i, "test", float(ROWS)) for i in ids), tuple(queries), "whole")))
    return folder / "config.yaml"


SERVER = """import sys
from pipeline.config.reading import load
from pipeline.search.opening import engines
from pipeline.search.serving import run
config = load(sys.argv[1])
run(config, engines(config), 0)
"""


def started(config: Path) -> tuple[subprocess.Popen[str], int, float]:
    """The server, its port, and the seconds until it answers."""
    start = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(config)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("http://"):
            return server, int(line.split(":")[2].split("/")[0]), time.perf_counter() - start
    raise RuntimeError("the server ended before it answered")


def ask(port: int, words: str) -> tuple[int, float]:
    """Status and ms of one question, on a connection of its own."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", f"/api/search?k=20&q={quote(words)}")
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Print one JSON object a measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--clients", default="1,50")
    parser.add_argument("--queries", type=int, default=100)
    given = parser.parse_args()
    draw = np.random.default_rng(1)
    sentences = [" ".join(draw.choice(WORDS, 8)) for _ in range(given.queries)]

    def say(**values: object) -> None:
        print(json.dumps({**values, "load": round(os.getloadavg()[0], 1)}), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        server, port, seconds = started(collection(Path(folder), given.videos))
        try:
            say(what="started", videos=given.videos, seconds=round(seconds, 1))
            say(what="first answer", ms=round(ask(port, sentences[0])[1], 1))
            for clients in map(int, given.clients.split(",")):
                start = time.perf_counter()
                with ThreadPoolExecutor(clients) as pool:
                    answers = list(pool.map(lambda words: ask(port, words), sentences))
                took = [ms for _, ms in answers]
                say(
                    what="answers",
                    clients=clients,
                    asked=len(answers),
                    errors=sum(status != 200 for status, _ in answers),
                    p50_ms=round(float(np.percentile(took, 50)), 1),
                    p95_ms=round(float(np.percentile(took, 95)), 1),
                    each_second=round(len(answers) / (time.perf_counter() - start), 1),
                )
            status = Path(f"/proc/{server.pid}/status").read_text()
            say(what="memory", gb=round(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 1e6, 2))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)


if __name__ == "__main__":
    main()
