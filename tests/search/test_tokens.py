"""The contract of every engine: whoever names the videos, the answer to a query is the exact one, with exact scores."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import ConfigError, StoreDamaged
from pipeline.core.store import create, open_store
from pipeline.search import faiss_index, nearest
from pipeline.search.faiss_index import FaissNearest
from pipeline.search.nearest import Approximate, Exact, Index
from pipeline.search.qdrant_index import QdrantNearest, client
from pipeline.search.tokens import Query, Rows, Shard, Tokens

WIDTH, PER_SHARD = 16, 8
ENGINES = ("exact", "faiss", "qdrant")
Videos = dict[str, dict[str, np.ndarray]]


def made(lengths: Mapping[str, tuple[int, int]], seed: int = 0) -> Videos:
    """Videos of `frame` and `clip` tokens, of unit length, around a few directions."""
    draw = np.random.default_rng(seed)
    themes = draw.standard_normal((7, WIDTH))

    def tokens(count: int) -> np.ndarray:
        rows = themes[draw.integers(7, size=count)] + 0.5 * draw.standard_normal((count, WIDTH))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)

    return {video: {"frame": tokens(frames), "clip": tokens(clips)} for video, (frames, clips) in lengths.items()}


def collection(count: int, seed: int = 0) -> Videos:
    """Videos of unequal numbers of tokens."""
    draw = np.random.default_rng(seed)
    return made({f"v/{i:04d} é": (int(draw.integers(1, 9)), int(draw.integers(1, 4))) for i in range(count)}, seed)


def stored(folder: Path, videos: Videos) -> Tokens:
    """The videos in files, mapped; the digest of one is that of its values."""
    shards, ids = [], list(videos)
    for number, first in enumerate(range(0, len(ids), PER_SHARD)):
        path = folder / f"{number:03d}.h5"
        some = ids[first : first + PER_SHARD]
        with create(path, stage="tokens") as writer:
            for video in some:
                for branch, rows in videos[video].items():
                    writer.append(branch, video, rows)
        with open_store(path) as store:
            rows, digests = {}, {video: "" for video in some}
            for branch in videos[some[0]]:
                data = store.ragged(branch, lazy=True)
                rows[branch] = Rows(store.mapped(f"{branch}/values"), data.offsets[:-1], np.diff(data.offsets))
                digests = {video: digests[video] + data.values.digest(data.rows(video)) for video in some}
        shards.append(Shard(some, list(digests.values()), rows))
    return Tokens(shards)


def literal(videos: Videos, query: Query) -> dict[str, float]:
    """The fused score of each video, written out."""
    scores = {}
    for video, branches in videos.items():
        best = {branch: max(float(row.astype(np.float64) @ query.unit(branch)) for row in rows) for branch, rows in branches.items()}
        scores[video] = sum(query.weights[branch] * value for branch, value in best.items())
    return scores


def asked(seed: int, frame: float = 0.6) -> Query:
    """A query whose branches look for different things."""
    draw = np.random.default_rng(1000 + seed)
    return Query({"frame": draw.standard_normal(WIDTH), "clip": 3 * draw.standard_normal(WIDTH)}, {"frame": frame, "clip": 1 - frame})


@dataclass
class Bench:
    """One engine, whose files and collections stay between openings."""

    engine: str
    folder: Path
    server: Any

    def open(self, videos: Videos) -> Index:
        tokens = stored(self.folder / "tokens", videos)
        if self.engine == "exact":
            return Exact(tokens)
        if self.engine == "faiss":
            return Approximate(tokens, FaissNearest(self.folder / "faiss", tokens))
        return Approximate(tokens, QdrantNearest(self.server, "bench", tokens))


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The engine is asked at any size: here it is told to look at 24 videos at least, not at 200."""
    monkeypatch.setattr(nearest, "LEAST", 24)
    monkeypatch.setattr(nearest, "WIDER", 8)
    return Bench(request.param, tmp_path, client(":memory:") if request.param == "qdrant" else None)


def agrees(index: Index, videos: Videos, query: Query, k: int, among: list[int] | None = None) -> None:
    """The answer is the exact one: its scores those written out, its order theirs, ties by the videos' order."""
    expected = literal({video: videos[video] for i, video in enumerate(videos) if among is None or i in among}, query)
    found = index.search(query, k, None if among is None else np.array(among, np.int64))
    ids = [index.tokens.ids[i] for i in found.videos]
    assert len(ids) == min(k, len(expected))
    assert [expected[video] for video in ids] == pytest.approx(sorted(expected.values(), reverse=True)[:k], abs=2e-6)
    assert found.scores == pytest.approx([expected[video] for video in ids], abs=2e-6)
    exact = Exact(index.tokens).search(query, k, None if among is None else np.array(among, np.int64))
    assert found.videos.tolist() == exact.videos.tolist()
    assert found.scores.tolist() == exact.scores.tolist(), "the scores are the same to the last bit"


def test_the_answer_is_the_exact_one(bench: Bench) -> None:
    videos = collection(90)
    index = bench.open(videos)
    assert index.name == bench.engine
    for seed in range(12):
        agrees(index, videos, asked(seed), 3)
    for weight in (0.0, 1.0):
        agrees(index, videos, asked(50, frame=weight), 3)
    agrees(index, videos, asked(0), 1000)


def test_of_equal_scores_the_first_video_wins(bench: Bench) -> None:
    videos = collection(80)
    twin = videos["v/0041 é"]
    videos = {video: twin if i in (7, 41, 66) else tokens for i, (video, tokens) in enumerate(videos.items())}
    query = Query({branch: rows[0].astype(np.float32) for branch, rows in twin.items()}, {"frame": 0.6, "clip": 0.4})
    index = bench.open(videos)
    assert index.search(query, 3).videos.tolist() == [7, 41, 66]
    agrees(index, videos, query, 5)


def test_one_video_and_one_token_videos(bench: Bench) -> None:
    one = made({"alone": (1, 1)})
    agrees(bench.open(one), one, asked(1), 5)
    single = made({f"s{i}": (1, 1) for i in range(70)})
    agrees(bench.open(single), single, asked(2), 3)


def test_a_query_of_zeros_and_no_video_to_look_at(bench: Bench) -> None:
    videos = collection(60)
    index = bench.open(videos)
    zero = Query({"frame": np.zeros(WIDTH), "clip": np.zeros(WIDTH)}, {"frame": 0.6, "clip": 0.4})
    found = index.search(zero, 3)
    assert found.scores.tolist() == [0.0] * 3
    assert len(index.search(asked(0), 3, np.empty(0, np.int64)).videos) == 0


def test_only_some_videos(bench: Bench) -> None:
    videos = collection(120)
    index = bench.open(videos)
    for seed, among in enumerate(([5], list(range(0, 120, 2)), list(range(60, 119)), list(range(120)))):
        agrees(index, videos, asked(seed), 3, among)


def test_padding_that_scores_zero_is_a_token_of_zeros(bench: Bench) -> None:
    """GMMFormer v2 and HLFormer let padding take part in the maximum: no video that is padded scores below 0 there."""
    videos = collection(60)
    for video in list(videos)[::2]:
        videos[video]["frame"] = np.concatenate([videos[video]["frame"], np.zeros((2, WIDTH), np.float16)])
    index = bench.open(videos)
    for seed in range(4):
        agrees(index, videos, asked(seed, frame=1.0), 60)


def test_a_video_more_adds_its_tokens_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added, changed, renamed, removed: only those videos' tokens are touched, and what is reopened answers as what is made anew."""
    if bench.engine == "exact":
        pytest.skip("it reads the tokens where they lie: there is nothing to add")
    videos = collection(60)
    first = bench.open(videos)
    assert isinstance(first, Approximate)
    assert (len(first.changes.added), first.changes.removed) == (60, ())
    again = bench.open(videos)
    assert isinstance(again, Approximate)
    assert again.changes == ((), ())
    assert again.nearest.reason == ""  # type: ignore[attr-defined]
    touched: dict[str, list[str]] = {"add": [], "remove": []}
    kind = type(first.nearest)
    add, remove = kind.add, kind.remove
    monkeypatch.setattr(kind, "add", lambda self, some: (touched["add"].extend(video for video, *_ in some), add(self, some))[1])
    monkeypatch.setattr(kind, "remove", lambda self, some: (touched["remove"].extend(some), remove(self, some))[1])
    names = list(videos)
    changed = {**videos, names[9]: made({"x": (4, 2)}, 77)["x"], "new": made({"new": (3, 3)}, 5)["new"]}
    changed["renamed"] = changed.pop(names[20])
    del changed[names[30]]
    index = bench.open(changed)
    assert sorted(touched["add"]) == sorted([names[9], "new", "renamed"])
    assert sorted(touched["remove"]) == sorted([names[9], names[20], names[30]])
    for seed in range(6):
        agrees(index, changed, asked(seed), 3)
        agrees(bench.open(changed), changed, asked(seed), 3)
    assert len(touched["add"]) == 3, "nothing is added a second time"
    held = index.nearest.near(asked(0), 500, None)  # type: ignore[attr-defined]
    assert names[20] not in held
    assert names[30] not in held
    assert set(index.nearest.known()) == set(changed)  # type: ignore[attr-defined]


def test_several_threads_ask_at_once(bench: Bench) -> None:
    videos = collection(90)
    index, queries = bench.open(videos), [asked(seed) for seed in range(16)]
    alone = [index.search(query, 3).videos.tolist() for query in queries]
    gate = threading.Barrier(8)

    def run(_: int) -> list[list[int]]:
        gate.wait()
        return [index.search(query, 3).videos.tolist() for query in queries]

    with ThreadPoolExecutor(8) as pool:
        assert all(answers == alone for answers in pool.map(run, range(8)))


def test_a_damaged_file_of_tokens_answers_nothing(tmp_path: Path) -> None:
    """A flipped bit is seen at the first question, whichever video it is about; a file cut short when it is opened."""
    videos = collection(60)
    index, file = Exact(stored(tmp_path, videos)), tmp_path / "002.h5"
    content = bytearray(file.read_bytes())
    content[content.index(videos["v/0016 é"]["frame"].tobytes()) + 3] ^= 16
    with file.open("r+b") as opened:  # the file that is mapped
        opened.write(content)
    with pytest.raises(StoreDamaged, match="changed since they were written"):
        index.search(asked(0), 3)
    with pytest.raises(StoreDamaged, match="changed since they were written"):
        index.tokens.of(17)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreDamaged), open_store(file) as store:
        store.mapped("frame/values")


def test_two_videos_of_one_id_are_refused(tmp_path: Path) -> None:
    shard = stored(tmp_path, collection(4)).shards[0]
    with pytest.raises(ConfigError, match="two videos have the id 'v/0000 é'"):
        Tokens([shard, shard])


class TestFaiss:
    """Its files, and its codes where they are compressed."""

    @pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "listing"])
    def test_what_is_damaged_is_learned_anew(self, tmp_path: Path, damage: str) -> None:
        tokens = stored(tmp_path / "tokens", collection(60))
        Approximate(tokens, FaissNearest(tmp_path / "faiss", tokens))
        file = next((tmp_path / "faiss").glob("frame.*.faiss"))
        content = bytearray(file.read_bytes())
        if damage == "gone":
            file.unlink()
        elif damage == "listing":
            (tmp_path / "faiss" / "videos.h5").write_bytes(b"")
        else:
            content[len(content) // 2] ^= 1
            file.write_bytes(content[: -7 if damage == "cut" else None])
        mended = FaissNearest(tmp_path / "faiss", tokens)
        assert mended.reason
        assert len(Approximate(tokens, mended).changes.added) == 60
        assert FaissNearest(tmp_path / "faiss", tokens).reason == ""
        assert len(list((tmp_path / "faiss").glob("*.faiss"))) == 2

    def test_a_collection_that_grew_is_learned_anew(self, tmp_path: Path) -> None:
        tokens = stored(tmp_path / "tokens", collection(10))
        Approximate(tokens, FaissNearest(tmp_path / "faiss", tokens))
        grown = stored(tmp_path / "grown", collection(90))
        assert "was learned from" in FaissNearest(tmp_path / "faiss", grown).reason

    def test_compressed_codes_find_nearly_all_and_score_exactly(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Product codes of 2 bytes for 16 values: recall is measured, and every score is the exact one."""
        monkeypatch.setattr(faiss_index, "CODED", 1000)
        videos = collection(600)
        tokens = stored(tmp_path / "tokens", videos)
        coded = FaissNearest(tmp_path / "faiss", tokens, probed=8)
        index, exact = Approximate(tokens, coded), Exact(tokens)
        size = sum(file.stat().st_size for file in (tmp_path / "faiss").glob("*.faiss"))
        assert size < sum(tokens.count(branch) for branch in tokens.branches) * 32 + 60_000, "the tokens are not stored as they are"
        hits = 0
        for seed in range(40):
            found, right = index.search(asked(seed), 10), exact.search(asked(seed), 10)
            hits += len(set(found.videos) & set(right.videos))
            scores = dict(zip(right.videos.tolist(), right.scores.tolist(), strict=True))
            assert all(scores.get(video, score) == score for video, score in zip(found.videos.tolist(), found.scores.tolist(), strict=True))
        assert hits >= 0.95 * 400
