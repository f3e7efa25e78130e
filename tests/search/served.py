"""A search page on a real port of this machine, over three small videos."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import uvicorn
from PIL import Image

from pipeline.config.schema import Config
from pipeline.search.answers import Known
from pipeline.search.engine import Engine
from pipeline.search.server import application
from tests.datasets.miniature import FPS, encode

ROWS = 8


class Typed(Engine):
    """Finds the video whose id is in the query, at the row whose number is in it."""

    name = "typed"

    def __init__(self, config: Config, paths: dict[str, str], length: float) -> None:
        super().__init__(config, "clip")
        self.ids, self.length = list(paths), length
        split = {video: ("train", "test")[i % 2] for i, video in enumerate(paths)}
        captions = {video: (f"<b>{video}</b> & more",) for video in paths}
        groups = {video: frozenset({"kitchen"} if i == 0 else {""}) for i, video in enumerate(paths)}
        self.known_videos = Known({video: (path,) for video, path in paths.items()}, split, groups, captions)

    @property
    def known(self) -> Known:  # type: ignore[override]
        return self.known_videos

    def asked(self, query: str) -> str:
        return query

    @property
    def durations(self) -> np.ndarray:
        return np.full(len(self.ids), float(self.length))

    def of_picture(self, rgb: np.ndarray) -> str:
        """The number that the picture's red is."""
        return f"{self.ids[rgb[0, 0, 0] // 40 % len(self.ids)]} 6"

    def of_row(self, video: int, seconds: float) -> str:
        return f"{self.ids[video]} {int(seconds / self.length * ROWS)}"

    def scores(self, asked: str) -> np.ndarray:
        return np.array([0.9 if video in asked.split() else 0.1 + 0.1 * i / len(self.ids) for i, video in enumerate(self.ids)], np.float32)

    def rows(self, asked: str, chosen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        wanted = next((int(word) for word in asked.split() if word.isdigit()), 2)
        edges = np.linspace(0, self.length, ROWS + 1)
        similarity = np.where(np.arange(ROWS) == wanted, 1.0, 0.1)
        return tuple(np.tile(row, (len(chosen), 1)) for row in (similarity, edges[:-1], edges[1:]))  # type: ignore[return-value]


def config(folder: Path) -> Config:
    """A configuration whose videos lie in `folder/videos`."""
    return Config.model_validate(
        {
            "results": str(folder / "results"),
            "dataset": {"name": "served", "kind": "own", "videos": str(folder / "videos")},
            "encoders": {"clip": {"kind": "open_clip"}},
            "features": ["clip"],
            "text": "clip",
        }
    )


def videos(folder: Path, names: tuple[str, ...] = ("door.mp4", "garden.mp4", "sea.webm"), seconds: int = 4) -> dict[str, str]:
    """Small real files, id -> path."""
    paths = {}
    for i, name in enumerate(names):
        (_vp9 if name.endswith("webm") else encode)(folder / "videos" / name, seconds, i)
        paths[Path(name).stem] = str(folder / "videos" / name)
    return paths


def _vp9(path: Path, seconds: float, colour: int) -> None:
    """A small VP9 file, as `encode` makes H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=FPS, options={"deadline": "realtime", "cpu-used": "8", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(round(seconds * FPS)):
            picture = np.full((48, 64, 3), (40 * colour + 4 * i) % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@contextmanager
def serving(made: Config, engines: dict[str, Any]) -> Iterator[int]:
    """The port of a running server."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(made, engines), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def get(port: int, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; the path goes out exactly as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    host = headers.pop("Host", f"127.0.0.1:{port}")
    method = headers.pop("method", "GET")
    connection.putrequest(method, path, skip_host=True)
    length = {"Content-Length": str(len(body))} if body else {}
    for name, value in {"Host": host, **length, **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body or None)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def picture(red: int, kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture of one colour."""
    written = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(written, kind)
    return written.getvalue()


def read(port: int, path: str) -> Any:
    """The JSON of a path that answers."""
    status, _, body = get(port, path)
    assert status == 200, body
    return json.loads(body)
