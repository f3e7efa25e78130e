"""Fingerprints follow content, code digests follow code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core import provenance
from pipeline.core.provenance import FileCache, code_digest, fingerprint


def test_fingerprint_follows_content_not_name_or_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    first.write_bytes(os.urandom(300_000))
    second.write_bytes(first.read_bytes())
    cache = FileCache(tmp_path / "cache.json")
    assert fingerprint(first, cache) == fingerprint(second, cache)
    os.utime(first, (1, 1))
    assert fingerprint(first, cache) == fingerprint(second, cache)
    for place in (10, 150_000, 299_990):
        changed = bytearray(second.read_bytes())
        changed[place] ^= 1
        first.write_bytes(bytes(changed))
        assert fingerprint(first, cache) != fingerprint(second, cache)


def test_no_change_a_person_makes_keeps_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, cache = tmp_path / "a.mp4", FileCache(tmp_path / "cache.json")
    monkeypatch.setattr(provenance, "WHOLE", 64 << 10)  # 64 blocks of 1 kB
    for size, different in ((0, 1), (1, 2), (64 << 10, 6), ((64 << 10) + 1, 6), (640 << 10, 6)):
        content = os.urandom(size)
        video.write_bytes(content)
        seen = {fingerprint(video, cache)}
        # its other half is not there yet, another video between equal ends, first and last byte
        for start, stop in ((size // 2, size), (size // 4, size // 2), (2 * size // 5, size // 2), (0, 1), (size - 1, size)):
            if start < stop:
                video.write_bytes(content[:start] + bytes(255 - b for b in content[start:stop]) + content[stop:])
                seen.add(fingerprint(video, cache))
        assert len(seen) == different, size


def test_a_replacement_under_the_old_time_is_seen(tmp_path: Path) -> None:
    video, other, cache = tmp_path / "a.mp4", tmp_path / "b.mp4", FileCache(tmp_path / "cache.json")
    video.write_bytes(b"x" * 1000)
    other.write_bytes(b"y" * 1000)
    before, status = fingerprint(video, cache), video.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, video)  # as `rsync -t` does
    assert fingerprint(video, cache) != before
    video.write_bytes(b"x" * 1000)  # in place, as `cp -p` does
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(video, cache) == before


def test_a_folder_of_pictures_is_looked_at_in_many_places(tmp_path: Path) -> None:
    for folder, other in (("a", 0), ("b", 255)):
        (tmp_path / folder).mkdir()
        for i in range(50):  # black at the start, in the middle and at the end
            (tmp_path / folder / f"{i:03}.bmp").write_bytes(bytes([other if i not in (0, 25, 49) else 0]) * 300)
    cache = FileCache(None)
    assert fingerprint(tmp_path / "a", cache) != fingerprint(tmp_path / "b", cache)


def test_cache_is_kept_and_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"x" * 1000)
    cache = FileCache(tmp_path / "cache.json")
    expected = fingerprint(video, cache)
    cache.save()

    def content(path: Path) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr(provenance, "content", content)
    assert fingerprint(video, FileCache(tmp_path / "cache.json")) == expected


def test_digest_ignores_comments_and_follows_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pipeline"
    (package / "room").mkdir(parents=True)
    (package / "room" / "stage.py").write_text(
        '"""Doc."""\nfrom pipeline.room import maths\n\ndef run():\n    """Doc."""\n    return maths.f()\n'
    )
    (package / "room" / "maths.py").write_text("def f():\n    return 1\n")
    (package / "room" / "other.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def digest() -> str:
        provenance._imports.cache_clear()
        return code_digest("pipeline.room.stage")

    first = digest()
    (package / "room" / "stage.py").write_text(
        '"""Other."""\nfrom pipeline.room import maths  # why\n\n\ndef run():\n    return maths.f()\n'
    )
    assert digest() == first
    (package / "room" / "other.py").write_text("x = 2\n")
    assert digest() == first
    (package / "room" / "maths.py").write_text("def f():\n    return 2\n")
    assert digest() != first
    provenance._imports.cache_clear()


def test_a_cache_whose_folder_cannot_be_made_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    for place in (tmp_path / "home" / "prvr" / "cache.json", Path("/proc/nobody/cache.json")):
        cache = FileCache(place)
        assert cache.get(Path(__file__), lambda path: "value") == "value"
        cache.save()
        assert not place.exists()
