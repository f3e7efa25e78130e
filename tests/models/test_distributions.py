"""RAL's Gaussians: segments instead of a padded buffer, and the masked form that padding and the buffer's size do not touch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.models.distributions import GaussianHead, SetAttention, of_frames, of_queries


def _queries(counts: list[int], words: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    lengths = torch.randint(1, words + 1, (len(labels),), generator=random)
    return torch.randn(len(labels), words, 8, generator=random), (torch.arange(words) < lengths[:, None]).float(), labels


def _buffer(attention: SetAttention, rows: list[Tensor], size: int) -> Tensor:
    """The literal form: one video's rows in a buffer of `size`."""
    buffer = torch.zeros(size, rows[0].shape[-1])
    buffer[: sum(map(len, rows))] = torch.cat(rows)
    weights = attention.contract(attention.expand(buffer).tanh()).squeeze(-1).softmax(0)
    return weights @ buffer


@pytest.mark.parametrize("counts", [[1], [26, 1], [2, 5, 1]])
def test_segments_are_the_buffer(counts: list[int]) -> None:
    attention = SetAttention(8)
    words, mask, labels = _queries(counts)
    _, tokens = of_queries(words, mask, labels, len(counts), 26)
    found = attention(tokens, False)
    for video in range(len(counts)):
        literal = _buffer(attention, list(words[labels == video]), 26 * 3)
        torch.testing.assert_close(found[video], literal, rtol=1e-5, atol=1e-6)


def test_more_captions_than_the_buffer_holds() -> None:
    words, mask, labels = _queries([27, 2])
    whole, tokens = of_queries(words, mask, labels, 2, 26)
    head = GaussianHead(8)
    for masked in (False, True):
        found = head(whole, tokens, masked)
        assert all(value.isfinite().all() for value in found)
    attention = head.mean_attention
    torch.testing.assert_close(attention(tokens, False)[0], _buffer(attention, list(words[labels == 0]), 27 * 3), rtol=1e-5, atol=1e-6)


def test_masked_is_untouched_by_padding_and_buffer() -> None:
    words, mask, labels = _queries([2, 3])
    longer = torch.cat([words, torch.randn(5, 4, 8)], 1), torch.cat([mask, torch.zeros(5, 4)], 1)
    head = GaussianHead(8)
    short = head(*of_queries(words, mask, labels, 2, 26), True)
    long = head(*of_queries(*longer, labels, 2, 5), True)
    torch.testing.assert_close(short.mean, long.mean)
    torch.testing.assert_close(short.log_sigma, long.log_sigma)
    released = head(*of_queries(words, mask, labels, 2, 26), False), head(*of_queries(*longer, labels, 2, 5), False)
    assert (released[0].mean - released[1].mean).abs().max() > 1e-3


def test_large_logits_do_not_overflow() -> None:
    words, mask, labels = _queries([2])
    attention = SetAttention(8)
    attention.contract.weight.data.mul_(1e4)
    for masked in (False, True):
        assert attention(of_queries(words, mask, labels, 1, 26)[1], masked).isfinite().all()


def test_a_video_of_one_frame() -> None:
    real = torch.zeros(1, 4)
    real[0, 0] = 1
    frames = torch.randn(1, 4, 8) * real[..., None]
    whole, tokens = of_frames(frames, real)
    torch.testing.assert_close(whole[0], torch.nn.functional.normalize(frames[0, 0], dim=0))
    assert SetAttention(8)(tokens, True).allclose(frames[:, 0])
