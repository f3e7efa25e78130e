"""Captions to token ids, and token ids to token states and a sentence vector, through any text transformer of open_clip."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.errors import EncoderError


class Tokens(NamedTuple):
    """A caption's token ids int64 [L], special ones included, padding not; and whether words were cut off."""

    ids: Tensor
    truncated: bool


class Tokenizer(Protocol):
    """`length`: most tokens of a caption; `pad`: the id that fills a row up to it; `size`: how many ids there are."""

    length: int
    pad: int
    size: int

    def __call__(self, texts: Sequence[str]) -> list[Tokens]: ...


class ClipTokenizer:
    """open_clip's own: [SOS], words, [EOS]. A text that is too long loses its last words, never [EOS]."""

    pad = 0

    def __init__(self, tokenizer: Callable[..., Tensor], length: int) -> None:
        self.tokenizer, self.length, self.size = tokenizer, length, int(tokenizer.vocab_size)  # type: ignore[attr-defined]

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        tokens = []
        for row in self.tokenizer(list(texts), context_length=self.length + 1):
            used = int((row != self.pad).nonzero().max()) + 1  # 0 is also a real token, so only the last one is sure to be [EOS]
            end = row[used - 1]
            size = int((row == end).nonzero().min()) + 1  # a caption may spell [EOS] out; CLIP reads up to the first one
            tokens.append(Tokens(torch.cat([row[: min(size, self.length) - 1], end[None]]), size > self.length or size < used))
        return tokens


class FileTokenizer:
    """A `tokenizer.json` of the `tokenizers` library, padded and cut as open_clip's HFTokenizer does with the same files.

    `clean` is what is done to a text before: open_clip's `canonicalize` (lower case, no punctuation) for SigLIP, else white space alone,
    so that capitals stay. Errors: EncoderError when the file cannot be read, or does not say how it pads.
    """

    def __init__(self, file: Path, length: int, *, clean: str = "whitespace", strip_sep_token: bool = False) -> None:
        from open_clip.tokenizer import get_clean_fn
        from tokenizers import Tokenizer as Reader

        try:
            self._reader = Reader.from_file(str(file))
        except Exception as error:  # the library raises bare exceptions
            raise EncoderError(f"the tokenizer cannot be read: {error}", where=file, fix="fetch it again from the model's page") from error
        about = file.with_name("tokenizer_config.json")
        said = json.loads(about.read_text()) if about.is_file() else {}
        pad = self._id(said.get("pad_token"))
        if pad is None and self._reader.padding:
            pad = int(self._reader.padding["pad_id"])
        if pad is None or said.get("padding_side", "right") != "right":
            raise EncoderError("the tokenizer does not pad at the end", where=about, fix="put the model's tokenizer_config.json beside it")
        self._clean, self.length, self.pad = get_clean_fn(clean), length, pad
        self._dropped = self._id(said.get("sep_token") or "[SEP]") if strip_sep_token else None
        self.size = int(self._reader.get_vocab_size())
        self._reader.no_padding()
        self._reader.enable_truncation(length)

    def _id(self, token: Any) -> int | None:
        name = token.get("content") if isinstance(token, dict) else token
        return self._reader.token_to_id(name) if name else None

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        tokens = []
        for read in self._reader.encode_batch([self._clean(text) for text in texts]):
            ids = [i for i in read.ids if i != self._dropped]
            tokens.append(Tokens(torch.tensor(ids, dtype=torch.int64), bool(read.overflowing)))
        return tokens


def text_tower(model: nn.Module) -> Any:
    """The module that holds the text transformer's parts. EncoderError for towers that have no token states of one kind."""
    tower = getattr(model, "text", model)
    if not hasattr(tower, "ln_final") or getattr(tower, "cls_emb", None) is not None or pooling(tower) == "none":
        raise EncoderError(
            f"the text tower {type(tower).__name__} has no token states that end in its sentence",
            fix="name another architecture as `text:`; this one's images can be used all the same",
        )
    return tower


def pooling(tower: Any) -> str:
    """Which token state becomes the sentence: `argmax` and `eos` the end token's, `first`, `last` (of the padded row)."""
    return str(getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", "none"))


def ends_in_sentence(tower: Any) -> bool:
    """Whether the sentence is made from the last token of the caption."""
    return pooling(tower) in ("argmax", "eos")


def reads_padding(tower: Any) -> bool:
    """Whether padding changes the words' states or the sentence: without a causal mask, or where a padded place is pooled."""
    return tower.attn_mask is None or not ends_in_sentence(tower)


def states(tower: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Last hidden states after the final norm, and the projected last token, of a tower that does not read padding.

    Shapes: ids int64 [B, L], every row exactly L tokens, [EOS] last -> states [B, L, D], sentence [B, E] (= encode_text, not normalised).
    The mask is causal, so leaving the padding out changes nothing (open_clip model.CLIP.encode_text).
    """
    length = ids.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
    projection = tower.text_projection
    if projection is None:
        return x, x[:, -1]
    return x, projection(x[:, -1]) if isinstance(projection, nn.Linear) else x[:, -1] @ projection


def padded_states(model: Any, tower: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The same of any other tower: what its final norm gives on the way through the library's own `encode_text`.

    Shapes: ids int64 [B, context], padded -> states [B, context, D], sentence [B, E].
    """
    seen: list[Tensor] = []
    hook = tower.ln_final.register_forward_hook(lambda module, given, result: seen.append(result))
    try:
        sentence = model.encode_text(ids)
    finally:
        hook.remove()
    return seen[0], sentence


def padded(ids: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Shapes: int64 [L] -> [context]."""
    return F.pad(ids, (0, tokenizer.length - len(ids)), value=tokenizer.pad)


def by_length(ids: Sequence[Tensor], batch: int) -> list[list[int]]:
    """Positions grouped so that a group holds at most `batch` texts of one length: nothing is padded, nothing masked."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(ids):
        groups[len(row)].append(i)
    return [group[s : s + batch] for _, group in sorted(groups.items()) for s in range(0, len(group), batch)]
