"""The search page's interface on a real port: what it answers, and what it refuses a hostile client."""

from __future__ import annotations

import html
import io
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest
from PIL import Image

from pipeline.search import media
from pipeline.search.server import POLICY
from tests.search.served import Typed, config, get, picture, read, serving, videos

SECONDS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def paths(folder: Path) -> dict[str, str]:
    made = videos(folder, seconds=SECONDS)
    (folder / "secret.mp4").write_bytes(b"not of this dataset")
    (folder / "videos" / "link.mp4").symlink_to(folder / "secret.mp4")
    return {
        **made,
        "link": str(folder / "videos" / "link.mp4"),
        "gone": str(folder / "videos" / "gone.mp4"),
        "out": str(folder / "secret.mp4"),
    }


@pytest.fixture(scope="module")
def port(folder: Path, paths: dict[str, str]) -> Iterator[int]:
    made = config(folder)
    with serving(made, {"typed": lambda: Typed(made, paths, SECONDS), "again": lambda: Typed(made, paths, SECONDS)}) as port:
        yield port


def test_a_query_is_answered_with_moments_a_strip_and_a_cut(port: int, folder: Path) -> None:
    found = read(port, "/api/search?q=garden+5&k=2")
    assert found["matches"]
    first = found["hits"][0]
    assert (first["id"], first["video"], first["split"], first["file"]) == ("garden", 1, "test", "garden.mp4")
    assert [(moment["start"], moment["end"]) for moment in first["moments"]] == [(2.5, 3.0)]
    assert first["moments"][0]["cut"].startswith(f"ffmpeg -ss 2.50 -i file:{folder}/videos/garden.mp4 -t 0.50 ")
    assert len(first["strip"]) == 8
    assert first["strip"].index(1.0) == 5
    assert first["duration"] == SECONDS
    assert len(found["hits"]) == 2
    assert not read(port, "/api/search?q=nothing")["matches"]


def test_filters_models_and_similar_moments(port: int) -> None:
    about = read(port, "/api/about")
    assert about == {
        "dataset": "served",
        "models": ["typed", "again"],
        "splits": ["test", "train"],
        "groups": ["kitchen"],
        "videos": 6,
        "longest": 4.0,
    }
    assert {hit["split"] for hit in read(port, "/api/search?q=x&split=train&model=again")["hits"]} == {"train"}
    assert [hit["id"] for hit in read(port, "/api/search?q=x&group=kitchen")["hits"]] == ["door"]
    similar = read(port, "/api/similar?video=2&time=3.2")
    assert read(port, "/api/similar?id=sea&time=3.2")["hits"] == similar["hits"]
    assert similar["hits"][0]["id"] == "sea"
    assert similar["hits"][0]["moments"][0]["start"] == 3.0


@pytest.mark.parametrize(
    "path",
    [
        "/api/search?q=",
        "/api/search?q=x&k=many",
        "/api/search?q=x&model=none",
        "/api/search?q=x&split=none",
        "/api/similar?video=99&time=1",
        "/api/similar?video=-1&time=1",
        "/api/similar?id=none&time=1",
        "/api/similar?video=0&time=nan",
        "/api/search?q=x&longest=inf",
        "/api/search?q=x&shortest=1e999",
        "/api/search?q=x&shortest=60",
        "/still/0?t=inf",
        "/still/0?t=nan",
        "/video/0?part=1e999",
        f"/api/search?q={'x' * 2001}",
    ],
)
def test_what_cannot_be_answered_is_said_in_words(port: int, path: str) -> None:
    status, _, body = get(port, path)
    assert status == 400
    assert json.loads(body)["error"]


def test_a_still_is_a_picture_and_a_file_comes_in_stretches(port: int, paths: dict[str, str]) -> None:
    status, headers, body = get(port, "/still/0?t=1.5")
    assert (status, headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(body)).width <= media.WIDTH
    whole = Path(paths["door"]).read_bytes()
    status, headers, body = get(port, "/video/0", Range="bytes=10-19")
    assert (status, body, headers["content-range"]) == (206, whole[10:20], f"bytes 10-19/{len(whole)}")
    assert get(port, "/video/0")[2] == whole


def test_only_files_of_the_dataset_are_shown(port: int) -> None:
    numbers = {"link": 3, "gone": 4, "out": 5}
    for number in (*numbers.values(), 99):
        for kind in ("still", "video"):
            status, _, body = get(port, f"/{kind}/{number}")
            assert status == 404, (number, body)
            assert b"not of this dataset" not in body
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/video/../../etc/passwd",
                 "/video/-1", "/static//etc/passwd"):  # fmt: skip
        status, _, body = get(port, path)
        assert status in (400, 404), path
        assert b"import" not in body
        assert b"root:" not in body


def test_a_page_of_another_name_gets_nothing(port: int) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8765", ""):
        assert get(port, "/api/about", Host=host)[0] == 400, host
    assert get(port, "/api/about", Host="localhost")[0] == 200


@pytest.mark.parametrize("stretch", ["bytes=" + ",".join("0-1" for _ in range(4000)), "bytes=0-1,5-6", "bytes=" + "9" * 3000 + "-"])
def test_many_ranges_at_once_are_refused_at_once(port: int, stretch: str) -> None:
    began = time.monotonic()
    assert get(port, "/video/0", Range=stretch)[0] == 416
    assert time.monotonic() - began < 2


def test_nothing_is_changed_by_any_method_and_every_answer_forbids_scripts_from_elsewhere(port: int, folder: Path) -> None:
    before = sorted((str(path), os.lstat(path).st_mtime_ns) for path in folder.rglob("*"))
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/api/search?q=x", "/video/0"):
            assert get(port, path, method=method)[0] == 405
    for path in ("/", "/api/about", "/still/0", "/video/99", "/static/page.js", "/nowhere"):
        headers = get(port, path)[1]
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert sorted((str(path), os.lstat(path).st_mtime_ns) for path in folder.rglob("*")) == before


def test_fifty_clients_at_once(port: int) -> None:
    with ThreadPoolExecutor(50) as clients:
        statuses = list(clients.map(lambda i: get(port, f"/api/search?q=garden+{i % 8}&k=3")[0], range(200)))
    assert statuses == [200] * 200


def test_the_page_needs_nothing_from_elsewhere_and_the_interface_is_described(port: int) -> None:
    page = get(port, "/")[2].decode()
    for address in ("/static/page.css", "/static/page.js", "/static/icon.svg"):
        assert address in page
        assert get(port, address)[0] == 200
    assert "://" not in page
    description = read(port, "/openapi.json")
    described = {"/api/about", "/api/search", "/api/similar", "/api/picture", "/still/{video}", "/video/{video}"}
    assert set(description["paths"]) == described


def test_the_interfaces_page_says_all_of_it_without_a_script_and_without_the_network(port: int) -> None:
    page = get(port, "/api")[2].decode()
    description = read(port, "/openapi.json")
    for path, methods in description["paths"].items():
        assert f"<code>{path}</code>" in page
        for operation in methods.values():
            assert html.escape(operation["summary"]) in page
            assert all(f"<code>{parameter['name']}</code>" in page for parameter in operation["parameters"])
    assert "://" not in page
    assert "<script" not in page


def test_the_description_is_the_interface(port: int) -> None:
    """Every operation answers to the parameters it describes, and to no other method."""
    for path, methods in read(port, "/openapi.json")["paths"].items():
        place = path.replace("{video}", "0")
        for method, operation in methods.items():
            examples = {"q": "door", "video": "0", "id": "sea", "time": "1", "t": "1", "k": "2", "first": "1", "shortest": "1",
                        "longest": "9",
                        "model": "again", "split": "train", "group": "kitchen"}  # fmt: skip
            given = {p["name"]: examples[p["name"]] for p in operation["parameters"] if p["in"] == "query"}
            address = f"{place}?{urlencode(given)}"
            assert get(port, address, picture(5) if method == "post" else b"", method=method.upper())[0] == 200, address
            assert get(port, place, method="PUT")[0] == 405


def test_answers_come_in_stretches(port: int) -> None:
    whole = read(port, "/api/search?q=sea&k=6")
    part = read(port, "/api/search?q=sea&k=2&first=2")
    assert part["hits"] == whole["hits"][2:4]
    assert (part["first"], part["found"], whole["found"]) == (2, 6, 6)
