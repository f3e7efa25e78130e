"""Token states of a caption, from [SOS] to [EOS], and its projected sentence vector, out of any CLIP text transformer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import EncoderError

PAD = 0


def tokenize(tokenizer: Callable[..., Tensor], texts: Sequence[str], length: int) -> tuple[list[Tensor], list[bool]]:
    """Token ids of each text without padding, and whether it was too long.

    Shapes: -> per text int64 [L], 2 <= L <= length: [SOS], words, [EOS]. A text that is too long loses its last words, never [EOS].
    """
    longer = tokenizer(list(texts), context_length=length + 1)
    ids, truncated = [], []
    for row in longer:
        used = int((row != PAD).nonzero().max()) + 1  # 0 is also a real token, so only the last one is sure to be [EOS]
        end = row[used - 1]
        size = int((row == end).nonzero().min()) + 1  # a caption may spell [EOS] out; CLIP reads up to the first one
        ids.append(torch.cat([row[: min(size, length) - 1], end[None]]))
        truncated.append(size > length or size < used)
    return ids, truncated


def text_tower(model: nn.Module) -> Any:
    """The module that holds the text transformer's parts. EncoderError for towers whose last token is not the sentence."""
    tower = getattr(model, "text", model)
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    if (
        not hasattr(tower, "ln_final")
        or getattr(tower, "cls_emb", None) is not None
        or tower.attn_mask is None
        or pool not in ("argmax", "eos")
    ):
        raise EncoderError(
            f"the text tower {type(tower).__name__} (pooling {pool}) has no causal [SOS]..[EOS] token states",
            fix="use a CLIP architecture with OpenAI's kind of text transformer for `text:`; its images can be used all the same",
        )
    return tower


def states(tower: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Last hidden states after the final norm, and the projected last token.

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


def by_length(ids: Sequence[Tensor], batch: int) -> list[list[int]]:
    """Positions grouped so that a group holds at most `batch` texts of one length: nothing is padded, nothing masked."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(ids):
        groups[len(row)].append(i)
    return [group[s : s + batch] for _, group in sorted(groups.items()) for s in range(0, len(group), batch)]
