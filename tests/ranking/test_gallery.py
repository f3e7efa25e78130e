"""Scores in chunks equal the literal double loop, whatever the chunk size."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.ranking import gallery as ranking


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    return queries, F.normalize(torch.randn(5, 9, 6, generator=generator, dtype=torch.float64), dim=-1)


def test_max_cosine_equals_the_double_loop_at_any_chunk(
    tensors: tuple[torch.Tensor, torch.Tensor],
) -> None:
    queries, tokens = tensors
    literal = torch.stack([torch.stack([F.cosine_similarity(q[None], video, dim=-1).max() for video in tokens]) for q in queries])
    for chunks in ((2048, 32), (3, 2), (1, 1)):
        torch.testing.assert_close(
            ranking.max_cosine(queries, tokens, query_chunk=chunks[0], video_chunk=chunks[1]),
            literal,
        )


def test_best_frame_is_the_argmax_in_the_chosen_video(
    tensors: tuple[torch.Tensor, torch.Tensor],
) -> None:
    queries, tokens = tensors
    videos = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    expected = [int(F.cosine_similarity(q[None], tokens[v], dim=-1).argmax()) for q, v in zip(queries, videos, strict=True)]
    assert ranking.frame_similarity(queries, tokens, videos).argmax(-1).tolist() == expected
    assert ranking.frame_similarity(queries, tokens, videos, chunk=2).equal(ranking.frame_similarity(queries, tokens, videos))


class Doubling(nn.Module):
    """A model of the contract with dropout, to see that encoding switches it off and restores the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def encode_video(self, frames: torch.Tensor, clips: torch.Tensor, sizes: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(frames=self.drop(2 * frames), clips=self.drop(2 * clips * sizes[..., None]))

    def encode_query(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.drop((words * mask[..., None]).sum(1))


def test_encoding_is_deterministic_in_order_and_restores_the_mode() -> None:
    model = Doubling().train()
    frames, clips, sizes = torch.randn(5, 4, 3), torch.randn(5, 2, 3), torch.ones(5, 2)
    whole = ranking.encode_videos(model, [(frames, clips, sizes)])
    split = ranking.encode_videos(
        model,
        ((frames[i : i + 2], clips[i : i + 2], sizes[i : i + 2]) for i in (0, 2, 4)),
    )
    assert model.training
    assert len(whole) == 5
    torch.testing.assert_close(vars(whole), vars(split), rtol=0, atol=0)
    torch.testing.assert_close(whole.frames.norm(dim=-1), torch.ones(5, 4))
    queries = ranking.encode_queries(model, [(frames, torch.ones(5, 4))])
    scores = ranking.score(queries, whole, clip_weight=0.4, frame_weight=0.6)
    torch.testing.assert_close(scores.fused, 0.4 * scores.clip + 0.6 * scores.frame)
    with pytest.raises(ValueError, match="no video"):
        ranking.encode_videos(model, [])
