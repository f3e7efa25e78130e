"""Tokens in an inverted file with compressed codes (faiss): 56 bytes for a token of 384 values, in memory; the tokens stay on disk."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from pipeline.core.atomic import replacing
from pipeline.core.errors import StoreDamaged, StoreMissing, StoreSchema
from pipeline.core.store import create, open_store
from pipeline.search.tokens import Query, Tokens

STAGE = "search-faiss"
PER_LIST = 64  # tokens the k-means of the lists sees for each
CODED = 20_000  # tokens from which product codes are learned; fewer are kept in 8 bits a value
MOST_LISTS = 8192
PROBED = 32  # lists looked into for a query (benchmarks/results/search.md)
ROUNDS = 10  # of the k-means of the codes
TOKENS = 4  # tokens asked for, for one video wanted: a video has several near ones
GROWN = 4  # times as many tokens as it was learned from: learned anew
SAMPLED = 32  # tokens of one video that are learned from at most


class FaissNearest:
    """One inverted file a branch, kept in `folder`; a token's number in it is its video's.

    What is there is used when it is of these branches and whole, and learned from `tokens` anew where it is not, or where there are `GROWN`
    times as many of them. `reason` says why it was learned; empty: it was not. Errors: DiskError.
    """

    name = "faiss"

    def __init__(self, folder: Path, tokens: Tokens, probed: int = PROBED) -> None:
        self.folder, self.probed = folder, probed
        self._videos: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._next, self._learned = 0, 0
        self._files: dict[str, Any] = {}  # of faiss, whose own types leave out half of what its classes have
        self.reason = self._open(tokens)
        if self.reason:
            self._learn(tokens)
        self._ids = {number: video for video, number in self._videos.items()}

    def known(self) -> Mapping[str, str]:
        """The digest of every video in it, by id."""
        return dict(self._digests)

    def add(self, videos: Sequence[tuple[str, str, Mapping[str, np.ndarray]]]) -> None:
        """Add the tokens of some videos."""
        numbers = range(self._next, self._next + len(videos))
        for branch, index in self._files.items():
            rows = np.concatenate([tokens[branch] for _, _, tokens in videos])
            owner = np.repeat(np.asarray(numbers, np.int64), [len(tokens[branch]) for _, _, tokens in videos])
            if len(rows):
                index.add_with_ids(np.ascontiguousarray(rows, np.float32), owner)
        for number, (video, digest, _) in zip(numbers, videos, strict=True):
            self._videos[video], self._digests[video], self._ids[number] = number, digest, video
        self._next += len(videos)

    def remove(self, videos: Sequence[str]) -> None:
        """Remove the tokens of some videos; their numbers are not given again."""
        numbers = np.array([self._videos[video] for video in videos], np.int64)
        for index in self._files.values():
            index.remove_ids(numbers)
        for video, number in zip(videos, numbers.tolist(), strict=True):
            del self._videos[video], self._digests[video], self._ids[number]

    def keep(self) -> None:
        """Write the files of all branches, then the one that names them: a killed writer leaves the old ones."""
        written = {}
        for branch, index in self._files.items():
            with replacing(self.folder / f"{branch}.{self._next}-{len(self._videos)}.faiss") as temporary:
                faiss.write_index(index, str(temporary))
                written[branch] = (f"{branch}.{self._next}-{len(self._videos)}.faiss", checksum(temporary))
        ids = list(self._videos)
        with create(self.folder / "videos.h5", stage=STAGE, next=self._next, learned=self._learned, files=written) as writer:
            writer.array("ids", np.array(ids, dtype=object))
            writer.array("digests", np.array([self._digests[video] for video in ids], dtype=object))
            writer.array("numbers", np.array([self._videos[video] for video in ids], np.int64))
        for file in self.folder.glob("*.faiss"):
            if file.name not in {name for name, _ in written.values()}:
                file.unlink()

    def near(self, query: Query, count: int, among: Sequence[str] | None) -> list[str]:
        """The `count` videos whose best tokens, as coded, fuse to the most. A video none of whose tokens in a branch is near counts as
        the last that is.
        """
        chosen = None if among is None else faiss.IDSelectorBatch(np.array([self._videos[video] for video in among], np.int64))
        fused: dict[int, float] = {}
        for branch, index in self._files.items():
            if query.weights[branch] > 0:
                numbers, products = self._nearest(index, query.unit(branch), count, chosen)
                if not len(numbers):
                    continue
                base = float(products[-1])
                best = dict(zip(numbers[::-1].tolist(), products[::-1].tolist(), strict=True))  # the first of a video comes last, and wins
                for number, product in best.items():
                    fused[number] = fused.get(number, 0.0) + query.weights[branch] * (product - base)
        return [self._ids[number] for number in sorted(fused, key=lambda number: -fused[number])[:count]]

    def _nearest(self, index: Any, query: np.ndarray, count: int, chosen: Any) -> tuple[np.ndarray, np.ndarray]:
        """The nearest tokens of a branch, best first, and of which videos. Shapes: -> int64 [n], float32 [n]."""
        asked: Any = faiss.SearchParametersIVF()
        asked.nprobe = min(self.probed, index.nlist)
        if chosen is not None:
            asked.sel = chosen
        products, numbers = index.search(query[None], min(count * TOKENS, max(1, index.ntotal)), params=asked)
        found = numbers[0] >= 0
        return numbers[0][found], products[0][found]

    def _open(self, tokens: Tokens) -> str:
        """Read what is kept. -> why it is of no use, in words; empty: it is."""
        try:
            with open_store(self.folder / "videos.h5", stage=STAGE) as store:
                attrs, ids = store.attrs, [str(video) for video in store.array("ids")]
                digests, numbers = store.array("digests"), store.array("numbers").tolist()
        except StoreMissing:
            return "none is there yet"
        except (StoreDamaged, StoreSchema) as error:
            return error.what
        now = max((tokens.count(branch) for branch in tokens.branches), default=0)
        if set(attrs["files"]) != set(tokens.branches):
            return "it is of other branches"
        if now > GROWN * int(attrs["learned"]):
            return f"it was learned from {attrs['learned']} tokens, now there are {now}"
        files = {}
        for branch, (name, known) in attrs["files"].items():
            file = self.folder / str(name)
            # Before faiss reads it: a damaged file can end the process.
            if not file.is_file() or checksum(file) != known:
                return f"{file.name} is not what was written"
            files[branch] = faiss.read_index(str(file))
            if files[branch].d != tokens.width(branch):
                return "its tokens are of another width"
        self._files, self._next, self._learned = files, int(attrs["next"]), int(attrs["learned"])
        self._videos = dict(zip(ids, numbers, strict=True))
        self._digests = dict(zip(ids, map(str, digests), strict=True))
        return ""

    def _learn(self, tokens: Tokens) -> None:
        """Empty files whose lists and codes are learned from a sample."""
        self._learned = max((tokens.count(branch) for branch in tokens.branches), default=0)
        for branch in tokens.branches:
            sample = _sample(tokens, branch)
            width, count = tokens.width(branch), tokens.count(branch)
            lists = max(1, min(MOST_LISTS, 1 << max(0, round(np.log2(max(1, count**0.5 / 2)))), len(sample) // PER_LIST))
            codes = f"PQ{width // 8}" if width % 8 == 0 and len(sample) >= CODED else "SQ8"
            index: Any = faiss.index_factory(width, f"IVF{lists},{codes}", faiss.METRIC_INNER_PRODUCT)
            index.cp.max_points_per_centroid = PER_LIST
            if codes != "SQ8":
                index.pq.cp.niter = ROUNDS
            index.train(sample)
            self._files[branch] = index


def checksum(file: Path) -> int:
    """CRC-32 of a file, read in blocks."""
    value = 0
    with file.open("rb") as opened:
        while block := opened.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _sample(tokens: Tokens, branch: str) -> np.ndarray:
    """Tokens to learn from, the same every time: as many as the lists need, of videos spread evenly. Shapes: float32 [n, H]."""
    count, videos = tokens.count(branch), len(tokens.ids)
    wanted = int(min(count, max(CODED * 3, PER_LIST * min(MOST_LISTS, count**0.5))))
    some = np.linspace(0, videos - 1, min(videos, -(-wanted * 2 // SAMPLED))).astype(int)
    draw = np.random.default_rng(0)
    rows = [_some(tokens.of(int(i))[branch], draw) for i in np.unique(some)]
    found = np.concatenate(rows) if rows else np.zeros((1, tokens.width(branch)), np.float32)
    return np.ascontiguousarray(found[draw.permutation(len(found))[: max(1, wanted)]], np.float32)


def _some(rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= SAMPLED else rows[np.sort(draw.choice(len(rows), SAMPLED, replace=False))]
