"""How many tokens a caption has, without torch: what is too long is said while the workflow starts, before anything is encoded."""

from __future__ import annotations

import gzip
import html
import string
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.config.encoder import Encoder
from pipeline.config.encoders import OpenClip
from pipeline.config.schema import Config

CONTEXT = 77  # tokens a CLIP reads, start and end among them
MERGES = 49152 - 256 - 2  # of CLIP's vocabulary at most
_WORDS = r"(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def context_length(encoder: Encoder) -> int | None:
    """Most tokens of a caption an encoder reads; None of a kind whose tokenizer is not known here."""
    return int(encoder.model.get("text_cfg", {}).get("context_length", CONTEXT)) if isinstance(encoder, OpenClip) else None


def limits(config: Config) -> dict[str, int]:
    """Text encoder -> the most tokens of a query that it and every model trained on it read, where that is known."""
    smallest: dict[str, int] = {}
    for name in config.experiments:
        chosen = config.experiment(name)
        length = None if config.imported(chosen.text) else context_length(config.network(chosen.text))
        if length is not None:
            smallest[chosen.text] = min(smallest.get(chosen.text, length), length, chosen.model.max_words)
    return smallest


def token_counts(encoder: OpenClip, captions: Sequence[str]) -> list[int] | None:
    """Tokens of each caption before it is cut, special ones among them; None where the tokenizer's file is not here.

    A test holds them against what the encoder's own tokenizer gives (text.py).
    """
    kwargs = encoder.model.get("text_cfg", {}).get("tokenizer_kwargs") or {}
    if encoder.tokenizer:
        file, ends, clean = encoder.vocabulary, 0, kwargs.get("clean", "whitespace")
    else:
        file, ends, clean = _merges_file(encoder, kwargs.get("bpe_path")), 2, kwargs.get("clean", "lower")
    if file is None or not file.is_file():
        return None
    tokenizer = _of_file(file) if encoder.tokenizer else _of_merges(file)
    return [len(tokens.ids) + ends for tokens in tokenizer.encode_batch_fast([_cleaned(caption, clean) for caption in captions])]


def _merges_file(encoder: OpenClip, own: str | None) -> Path | None:
    """The merges of a CLIP's tokenizer: its folder's, or open_clip's."""
    if own:
        return encoder.folder / own if encoder.folder else None
    spec = find_spec("open_clip")
    return Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz") if spec and spec.origin else None


@cache
def _of_file(file: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@cache
def _of_merges(file: Path) -> Any:
    """CLIP's tokenizer: words by a pattern, bytes merged inside a word, whose last one is another letter than the same inside it."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    with gzip.open(file) as packed:
        lines = packed.read().decode().split("\n")[1 : MERGES + 1]
    merges = [(pair[0], pair[1]) for line in lines if len(pair := line.split()) == 2]
    letters = pre_tokenizers.ByteLevel.alphabet()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    ids = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.BPE(ids, merges, end_of_word_suffix="</w>"))
    pieces = pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])  # type: ignore[assignment]
    return tokenizer


def _cleaned(caption: str, how: str) -> str:
    """A caption as open_clip cleans it: `lower`, `canonicalize` (no punctuation either), else white space alone."""
    from ftfy import fix_text

    text = " ".join(html.unescape(html.unescape(fix_text(caption))).split())
    if how == "canonicalize":
        text = " ".join(text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).split())
    return text if how == "whitespace" else text.lower()
