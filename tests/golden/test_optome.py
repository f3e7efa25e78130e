"""Pooling and order-preserving token merging against the released code's arrays."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.clips.op_tome import op_tome
from pipeline.clips.pooling import average_to_fixed_length
from tests.golden.arrays import Golden, golden

__all__ = ["golden"]
SCHEDULE = [80, 52, 32]


def _cases(golden: Golden) -> list[str]:
    return sorted(name.removesuffix("_raw") for name in golden("a_optome") if name.endswith("_raw"))


def test_pooling(golden: Golden) -> None:
    arrays = golden("a_optome")
    for case in _cases(golden):
        pooled = torch.from_numpy(average_to_fixed_length(arrays[f"{case}_raw"].numpy(), len(arrays[f"{case}_frames"])))
        torch.testing.assert_close(pooled, arrays[f"{case}_frames"], rtol=1e-6, atol=1e-6, msg=case)


def test_tokens_sizes_and_labels(golden: Golden) -> None:
    arrays = golden("a_optome")
    for case in _cases(golden):
        # a margin of 0 is an exact tie: there the released order is unstable and the stable one is given
        kind = "_stable" if bool((arrays[f"{case}_margin"] == 0).any()) else ""
        merged = op_tome(arrays[f"{case}_frames"][None], SCHEDULE, "dot")
        assert torch.equal(merged.frame_to_clip[0], arrays[f"{case}{kind}_label"].long()), case
        assert torch.equal(merged.sizes[0], arrays[f"{case}{kind}_size"]), case
        expected = arrays[f"{case}{kind}_clip"]
        torch.testing.assert_close(merged.clips[0], expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()), msg=case)


def test_a_batch_is_its_videos(golden: Golden) -> None:
    arrays = golden("a_optome")
    cases = [case for case in _cases(golden) if arrays[f"{case}_raw"].shape[1] == 64]
    frames = torch.stack([arrays[f"{case}_frames"] for case in cases])
    together = op_tome(frames, SCHEDULE, "dot")
    for place, case in enumerate(cases):
        alone = op_tome(frames[place : place + 1], SCHEDULE, "dot")
        assert torch.equal(together.frame_to_clip[place], alone.frame_to_clip[0]), case
        assert torch.equal(together.clips[place], alone.clips[0]), case


def test_of_the_collated_batch(golden: Golden) -> None:
    arrays = golden("small_inputs")
    for video in range(len(arrays["in_merge_size"])):
        frames = torch.from_numpy(average_to_fixed_length(arrays[f"raw_video_{video}"].numpy(), 128))
        merged = op_tome(frames[None], SCHEDULE, "dot")
        assert torch.equal(merged.frame_to_clip[0], arrays["in_merged_frame_label"][video].long())
        assert np.array_equal(merged.sizes[0], arrays["in_merge_size"][video])
        rows = merged.clips[0] / (merged.clips[0].norm(dim=1, keepdim=True) + 1e-5)
        torch.testing.assert_close(rows, arrays["in_clip_video_features"][video], rtol=0, atol=1e-6)
