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
