"""Hostile pictures, bodies, addresses and slow clients: each is refused in bounded time and memory, and the page goes on answering."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import EncoderError
from pipeline.search import pictures, server
from pipeline.search.pictures import decoded
from tests.search.served import Typed, config, get, picture, read, serving, videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    videos(made, ("door.mp4", "garden.mp4"), 2)
    (made / "elsewhere").mkdir()
    (made / "elsewhere" / "secret.mp4").write_bytes(b"not of this dataset")
    (made / "videos" / "linked").symlink_to(made / "elsewhere", target_is_directory=True)
    (made / "videos" / "pipe.mp4").unlink(missing_ok=True)
    os.mkfifo(made / "videos" / "pipe.mp4")
    return made


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    root = folder / "videos"
    files = {
        "door": str(root / "door.mp4"),
        "up": f"{root}/../elsewhere/secret.mp4",
        "linked": str(root / "linked" / "secret.mp4"),
        "folder": str(root),
        "pipe": str(root / "pipe.mp4"),
        "device": "/dev/zero",
        "address": "http://127.0.0.1:1/x.mp4",
        "nul": f"{root}/door.mp4\0.txt",
    }
    made = config(folder)
    with serving(made, {"typed": lambda: Typed(made, files, 2)}) as port:
        yield port


def alive(port: int) -> None:
    began = time.monotonic()
    assert read(port, "/api/search?q=door")["hits"][0]["id"] == "door"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("number", range(1, 8))
def test_what_the_list_says_lies_outside_is_not_opened(port: int, number: int) -> None:
    """`..`, a linked folder, a folder, a pipe that nobody writes to, a device, an address, a NUL."""
    for kind in ("video", "still"):
        began = time.monotonic()
        status, _, body = get(port, f"/{kind}/{number}")
        assert (status, json.loads(body)) == (404, {"error": "this video's file cannot be shown from here"})
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "path",
    [
        *(f"/static/{up}server.py" for up in ("../", "%2e%2e/", "..%2f", "%252e%252e%252f", "..%252f", "....//", "%c0%ae%c0%ae/", "..%5c")),
        "/static/page.js%00.html",
        "/static/%00",
        "/video/%00",
        "/video/0%00",
        "/video/0/../../etc/passwd",
        "/video/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/video/..%252f..%252fetc%252fpasswd",
        "/video/file:%2f%2f%2fetc%2fpasswd",
        "/video/99999999999999999999999999",
        "//etc/passwd",
        "/static/" + "a" * 5000,
    ],
)
def test_no_spelling_of_a_path_leads_out(port: int, path: str) -> None:
    status, _, body = get(port, path)
    assert status in (400, 404), path
    assert b"import" not in body
    assert b"root:" not in body


@pytest.mark.parametrize(
    "stretch",
    [
        "bytes=9-3",
        "bytes=-0",
        "bytes=--5",
        "bytes=a-b",
        "bytes=",
        "lines=0-1",
        "bytes=99999999999999999999-",
        "bytes=0-1,",
        "\x00",
        "bytes=-",
    ],
)
def test_a_range_that_is_none_sends_no_more_than_the_file(port: int, folder: Path, stretch: str) -> None:
    size = (folder / "videos" / "door.mp4").stat().st_size
    status, _, body = get(port, "/video/0", Range=stretch)
    assert status in (200, 206, 400, 416), stretch
    assert len(body) <= size
    alive(port)


def test_a_range_beyond_the_file_ends_with_it(port: int, folder: Path) -> None:
    whole = (folder / "videos" / "door.mp4").read_bytes()
    status, headers, body = get(port, "/video/0", Range=f"bytes=10-{10**15}")
    assert (status, body) == (206, whole[10:])
    assert headers["content-range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_picture_of_each_format_is_read(port: int, kind: str) -> None:
    status, _, body = get(port, "/api/picture", picture(45, kind), method="POST")
    assert status == 200, body
    assert json.loads(body)["query"] == "a picture"


def test_a_picture_is_turned_and_what_is_transparent_is_white() -> None:
    tall = Image.new("RGB", (20, 10), (200, 0, 0))
    written, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    tall.save(written, "JPEG", exif=exif)
    assert decoded(written.getvalue()).shape == (20, 10, 3)
    clear = io.BytesIO()
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(clear, "PNG")
    assert (decoded(clear.getvalue()) == 255).all()
    assert decoded(picture(7, size=(5000, 100))).shape[1] == pictures.SIDE


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header promises gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bomb(60000, 60000), "far too many pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "far too many pixels"),
        (bomb(8000, 8000), "8000 x 8000 pixels"),
        (bomb(100, 100), "no picture"),
        (picture(1)[:60], "no picture"),
        (picture(1, "JPEG")[:200], "no picture"),
        (SVG, "no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", "no picture"),
        (b"", "no picture"),
        (bytes(range(256)) * 40, "no picture"),
        (b"\0" * (pictures.MOST_BYTES + 1), "more than 10 MB"),
    ],
)
def test_what_is_no_picture_is_refused_before_it_is_unpacked(content: bytes, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(EncoderError, match=said):
        decoded(content)
    assert time.monotonic() - began < 2


def test_pictures_that_were_damaged_anywhere_are_read_or_refused() -> None:
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        whole = bytearray(picture(90, kind))
        for _ in range(60):
            damaged = bytearray(whole)
            for place in random.integers(0, len(whole), 3):
                damaged[place] = random.integers(256)
            try:
                assert decoded(bytes(damaged)).dtype == np.uint8
            except EncoderError:
                continue


def test_a_body_is_refused_by_its_length_and_while_it_comes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        head = f"POST /api/picture HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        client.sendall(f"{head}Content-Length: 1000000000000\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent, block = 0, b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while sent < 40 * pictures.MOST_BYTES:
                client.sendall(block)
                sent += len(block)
        except OSError:
            pass  # it was closed before us
        assert sent < 5 * pictures.MOST_BYTES
    alive(port)


def test_a_page_of_another_place_may_post_nothing(port: int) -> None:
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}", "http://127.0.0.1:1"):
        assert get(port, "/api/picture", picture(1), method="POST", Origin=origin)[0] == 403, origin
    assert get(port, "/api/picture", picture(1), method="POST", Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert get(port, "/api/picture", picture(1), method="POST", Host="evil.example")[0] == 400
    assert get(port, "/api/picture")[0] == 405
    for path in ("/", "/api", "/api/about", "/api/search", "/openapi.json", "/still/0", "/static/page.js"):
        assert get(port, path, picture(1), method="POST")[0] == 405, path


@pytest.mark.parametrize("query", ["q=" + "x" * 60_000, "q=" + "%F0%9F%90%95" * 2001, "&".join(f"a{i}=1" for i in range(8000))])
def test_a_huge_query_is_refused(port: int, query: str) -> None:
    assert get(port, f"/api/search?{query}")[0] in (400, 414)
    alive(port)


def test_a_huge_header_ends_the_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX: ".encode() + b"x" * 200_000)
        assert client.recv(4096)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    alive(port)


@pytest.mark.parametrize("query", ["%00", "\\", "%FF%FE", "'; drop table videos; --", "<script>alert(1)</script>", "%E2%80%AE", "../../x"])
def test_a_query_is_a_sentence_whatever_is_in_it(port: int, query: str) -> None:
    status, headers, body = get(port, f"/api/search?q={query.replace(' ', '+')}")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert len(json.loads(body)["hits"]) == 8


def test_clients_that_stall_do_not_hold_up_others(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 1.0)
    beginnings = ["GET /api/about HT", f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n",
                  f"POST /api/picture HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n\r\nx",
                  f"GET /video/0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"]  # fmt: skip
    clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(200)]
    try:
        for i, client in enumerate(clients):
            client.sendall(beginnings[i % 4].encode())
        alive(port)
        assert clients[2].recv(4096).startswith(b"HTTP/1.1 408")  # a body that does not come
    finally:
        for client in clients:
            client.close()
    alive(port)
