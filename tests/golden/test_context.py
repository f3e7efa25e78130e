"""Context ratios and merges against the released code's arrays."""

from __future__ import annotations

import torch

from pipeline.clips.context import levels_of, ratio, similarities
from tests.golden.arrays import Golden, golden

__all__ = ["golden"]
LEVELS = [32, 20, 12, 8, 5]


def test_ratios_at_every_threshold(golden: Golden) -> None:
    arrays = golden("d_intra")
    similar = similarities(arrays["clip_video_features"])
    for place, tau in enumerate(arrays["thresholds"].tolist()):
        torch.testing.assert_close(ratio(similar, tau, "closure").double(), arrays[f"ratio_thr{tau:g}"], rtol=0, atol=1e-7)
        torch.testing.assert_close(ratio(similar, tau, "pairs").double(), arrays["pair_fraction"][place].double(), rtol=0, atol=1e-7)


def test_ratios_in_the_small_model(golden: Golden) -> None:
    arrays, inputs = golden("small_outputs"), golden("small_inputs")
    similar = similarities(inputs["in_clip_video_features"])
    torch.testing.assert_close(ratio(similar, 0.75, "closure").double(), arrays["intra_diff"], rtol=0, atol=1e-7)
    torch.testing.assert_close(ratio(similar, 0.75, "pairs").double(), arrays["intra_pair_fraction"].double(), rtol=0, atol=1e-7)


def test_ratios_at_full_size(golden: Golden) -> None:
    arrays = golden("big768")
    similar = similarities(arrays["in_clip_video_features"])
    torch.testing.assert_close(ratio(similar, 0.8, "closure").double(), arrays["intra_diff"], rtol=0, atol=1e-7)


def test_successive_merges(golden: Golden) -> None:
    arrays = golden("d_cbva")
    sizes = arrays["in_merge_size"].reshape(arrays["in_clip_video_features"].shape[:2])
    assignments = levels_of(arrays["in_clip_video_features"], sizes, LEVELS, "greedy")
    for video in range(sizes.shape[0]):
        frames = arrays["in_merged_frame_label"][video]
        for level, count in enumerate(LEVELS[1:], start=1):
            expected = arrays[f"merge_v{video}_to{count}_label"]
            assert torch.equal(assignments[level, video][frames], expected.long()), (video, count)
            merged = torch.zeros(count).index_add_(0, assignments[level, video], sizes[video])
            assert torch.equal(merged, arrays[f"merge_v{video}_to{count}_size"].flatten())
