"""Cross-branch video alignment against the released code's arrays: every level, mixed levels, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.clips.context import choose, levels_of
from pipeline.objectives import cbva
from tests.golden.arrays import Golden, golden

__all__ = ["golden"]
LEVELS = [32, 20, 12, 8, 5]


def _inputs(arrays: dict[str, Tensor], ratio: Tensor) -> dict[str, Tensor]:
    sizes = arrays["in_merge_size"].reshape(arrays["in_vproj_clip"].shape[:2])
    assignments = levels_of(arrays["in_clip_video_features"], sizes, LEVELS, "greedy")
    return {
        "frames": arrays["in_vproj_frame"].clone().requires_grad_(),
        "clips": arrays["in_vproj_clip"].clone().requires_grad_(),
        "sizes": sizes,
        "frame_to_clip": arrays["in_merged_frame_label"],
        "context": assignments[choose(ratio, len(LEVELS)), torch.arange(len(ratio))],
    }


@pytest.mark.parametrize("ratio", ["0.0", "0.1999", "0.2", "0.3999", "0.4", "0.5999", "0.6", "0.7999", "0.8", "1.0"])
def test_every_level(golden: Golden, ratio: str) -> None:
    arrays = golden("d_cbva")
    given = _inputs(arrays, torch.full((len(arrays["in_vproj_clip"]),), float(ratio)))
    loss = cbva.loss(**given)
    golden.close(loss.detach(), arrays[f"intra{ratio}_loss"], f"cbva.intra{ratio}")
    assert (given["context"].amax(dim=1) + 1).double().mean() == arrays[f"intra{ratio}_clipnum"]
    if f"intra{ratio}_dframe" in arrays:
        loss.backward()
        golden.close_gradient(given["frames"].grad, arrays[f"intra{ratio}_dframe"])
        golden.close_gradient(given["clips"].grad, arrays[f"intra{ratio}_dclip"])


def test_a_level_per_video(golden: Golden) -> None:
    arrays = golden("d_cbva")
    given = _inputs(arrays, arrays["mixed_intra"])
    golden.close(cbva.loss(**given).detach(), arrays["mixed_loss"], "cbva.intra0.6")
    assert (given["context"].amax(dim=1) + 1).double().mean() == pytest.approx(float(arrays["mixed_clipnum"]))


def test_each_video_alone_at_each_level(golden: Golden) -> None:
    arrays = golden("d_cbva")
    for video in range(len(arrays["in_vproj_clip"])):
        for level, ratio in enumerate((0.0, 0.2, 0.4, 0.6, 0.8)):
            given = _inputs(arrays, torch.full((len(arrays["in_vproj_clip"]),), ratio))
            loss = cbva.loss(**{name: value[video : video + 1] for name, value in given.items()})
            golden.close(loss.detach(), arrays[f"pervideo_loss_{video}"][level], "cbva.intra0.6")


def test_merged_clips(golden: Golden) -> None:
    arrays = golden("d_cbva")
    for level, ratio in zip(LEVELS[1:], (0.2, 0.4, 0.6, 0.8), strict=True):
        given = _inputs(arrays, torch.full((len(arrays["in_vproj_clip"]),), ratio))
        merged, exists = cbva.merge(given["clips"].detach(), given["sizes"], given["context"])
        for video in range(len(merged)):
            assert exists[video].sum() == level
            expected = arrays[f"merge_v{video}_to{level}_proj"]
            torch.testing.assert_close(merged[video, :level], expected, rtol=0, atol=5e-6)


def test_in_the_small_model(golden: Golden) -> None:
    arrays, inputs = golden("small_outputs"), golden("small_inputs")
    renamed = {
        "in_vproj_frame": arrays["out_vproj_frame"],
        "in_vproj_clip": arrays["out_vproj_clip"],
        "in_clip_video_features": inputs["in_clip_video_features"],
        "in_merge_size": inputs["in_merge_size"],
        "in_merged_frame_label": inputs["in_merged_frame_label"],
    }
    given = _inputs(renamed, arrays["intra_diff"])
    loss = cbva.loss(**given)
    golden.close(loss.detach(), arrays["loss_cbva_raw"], "small.loss.vidlvlctl", scale=10)
    golden.close(0.1 * loss.detach(), arrays["loss_cbva"], "small.loss.vidlvlctl")
    assert (given["context"].amax(dim=1) + 1).double().mean() == arrays["loss_clip_num"]
    loss.backward()
    golden.close_gradient(given["frames"].grad, arrays["dcbva_dvproj_frame"])
    golden.close_gradient(given["clips"].grad, arrays["dcbva_dvproj_clip"])
