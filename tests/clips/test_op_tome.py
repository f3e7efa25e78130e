"""Order-preserving token merging: order, mass, ties, odd lengths, the literal form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import literal
from pipeline.clips.op_tome import op_tome, uniform
from pipeline.clips.recipe import steps

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(2, 60), st.floats(0.3, 1.0), st.sampled_from(["dot", "cosine"]), st.booleans())
def test_order_mass_and_means(seed: int, length: int, rate: float, similarity: str, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(3, length, 4, generator=generator, dtype=torch.float64)
    sizes = torch.rand(3, length, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    schedule = steps(length, max(1, length // 4), rate)
    merged = op_tome(frames, schedule, similarity, sizes)
    sizes = torch.ones(3, length, dtype=torch.float64) if sizes is None else sizes
    labels = merged.frame_to_clip
    assert merged.clips.shape == (3, schedule[-1], 4)
    jumps = labels.diff(dim=1)
    assert ((jumps == 0) | (jumps == 1)).all(), "clips are contiguous and in order"
    assert (labels[:, 0] == 0).all()
    assert (labels[:, -1] == schedule[-1] - 1).all()
    for video in range(3):
        for clip in range(schedule[-1]):
            inside = labels[video] == clip
            weight = sizes[video, inside]
            torch.testing.assert_close(merged.sizes[video, clip], weight.sum())
            torch.testing.assert_close(merged.clips[video, clip], (weight[:, None] * frames[video, inside]).sum(0) / weight.sum())


def test_sizes_sum_to_the_frames_and_stay_within_eight() -> None:
    merged = op_tome(torch.randn(20, 128, 16, generator=torch.Generator().manual_seed(0)), [80, 52, 32])
    assert (merged.sizes.sum(dim=1) == 128).all()
    assert merged.sizes.max() <= 8
    assert merged.sizes.min() >= 1


@given(SEEDS)
def test_equals_the_literal_form(seed: int) -> None:
    frames = torch.randn(4, 128, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    merged = op_tome(frames, [80, 52, 32])
    for video in range(4):
        clips, sizes, labels = literal.op_tome(frames[video])
        assert torch.equal(merged.frame_to_clip[video], labels)
        assert torch.equal(merged.sizes[video], sizes)
        torch.testing.assert_close(merged.clips[video], clips)


def test_equal_rows_stay_bit_equal_and_the_first_pairs_merge_first() -> None:
    frames = torch.full((1, 16, 3), 0.1)
    merged = op_tome(frames, [10, 6])
    assert torch.equal(merged.clips, torch.full((1, 6, 3), 0.1))
    assert merged.sizes.tolist() == [[4, 4, 4, 2, 1, 1]]


def test_an_odd_last_row_stays_alone() -> None:
    frames = torch.tensor([[[1.0], [1.0], [9.0], [9.0], [100.0]]])
    assert op_tome(frames, [3]).frame_to_clip.tolist() == [[0, 0, 1, 1, 2]]


def test_cosine_is_blind_to_length_and_dot_is_not() -> None:
    frames = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 1.0], [9.0, 0.0]]])
    assert op_tome(frames, [5], "dot").frame_to_clip.tolist() == [[0, 1, 2, 3, 4, 4]]
    assert op_tome(frames, [5], "cosine").frame_to_clip.tolist() == [[0, 0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("length", "clips"), [(128, 32), (128, 40), (7, 3), (5, 5)])
def test_uniform_clips(length: int, clips: int) -> None:
    frames = torch.randn(2, length, 3)
    parts = uniform(frames, clips)
    assert torch.equal(parts.frame_to_clip[0], torch.arange(length) * clips // length)
    assert (parts.sizes.sum(dim=1) == length).all()
    for clip in range(clips):
        inside = parts.frame_to_clip[0] == clip
        torch.testing.assert_close(parts.clips[0, clip], frames[0, inside].mean(dim=0))
    if (length, clips) == (128, 32):
        assert (parts.sizes == 4).all()  # so that proportional attention is a constant: a no-op


def test_permuting_videos_permutes_clips() -> None:
    frames = torch.randn(5, 32, 4, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 0, 4, 1, 2])
    straight, permuted = op_tome(frames, [20, 12]), op_tome(frames[order], [20, 12])
    for ours, theirs in zip(straight, permuted, strict=True):
        assert torch.equal(ours[order], theirs)


def test_a_step_beyond_the_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot merge 5 rows into 2"):
        op_tome(torch.ones(1, 5, 2), [2])
