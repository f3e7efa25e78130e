"""A small byte-pair vocabulary in CLIP's file format, learned from captions."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")  # CLIP's own word pattern, as far as plain English goes


def learn(captions: Iterable[str], limit: int = 1024) -> list[tuple[str, str]]:
    """At most `limit` merges, most frequent pair first (ties in alphabetical order), until every word is one token.

    Source: Sennrich et al. 2016, Algorithm 1, with CLIP's end-of-word mark.
    """
    counts = Counter(word for caption in captions for word in _WORD.findall(caption.lower()))
    words = {(*word[:-1], word[-1] + "</w>"): n for word, n in counts.items()}
    merges: list[tuple[str, str]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, n in words.items():
            for pair in pairwise(word):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {_merge(word, best): n for word, n in words.items()}
    return merges


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def write(path: Path, merges: list[tuple[str, str]]) -> None:
    """Write merges as open_clip's SimpleTokenizer reads them: gzip, a header line, one merge a line; no date inside."""
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def size(merges: list[tuple[str, str]]) -> int:
    """Entries of the vocabulary: bytes, bytes that end a word, merges, start and end of text."""
    return 512 + len(merges) + 2
