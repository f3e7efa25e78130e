"""The CPU's quicker operators give what torch's own give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.encoders import onednn
from tests.encoders.conftest import SIZE, tiny_clip

pytestmark = pytest.mark.skipif(not onednn.available(), reason="this build of torch has no oneDNN linear operator")


def test_same_model() -> None:
    model, quick = tiny_clip(), onednn.quicken(tiny_clip())
    assert {type(m) for m in quick.modules()} & {onednn.Linear, onednn.SelfAttention} == {onednn.Linear, onednn.SelfAttention}
    assert model.state_dict().keys() == quick.state_dict().keys()
    images, ids = torch.randn(3, 3, SIZE, SIZE), torch.randint(1, 500, (3, 12))
    with torch.inference_mode():
        torch.testing.assert_close(quick.encode_image(images), model.encode_image(images), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(quick.encode_text(ids), model.encode_text(ids), atol=1e-5, rtol=1e-5)  # with the causal mask


def test_other_uses_go_torchs_way() -> None:
    """Cross-attention, returned weights, gradients, other types."""
    attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x, y = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    with torch.inference_mode():
        expected = [
            attention(x, y, y)[0],
            attention(x, x, x)[1],
            attention(x, x, x, key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))[0],
        ]
    quick = onednn.quicken(attention)
    with torch.inference_mode():
        found = [quick(x, y, y)[0], quick(x, x, x)[1], quick(x, x, x, key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))[0]]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    linear = onednn.quicken(nn.Linear(4, 3))
    linear(torch.randn(2, 4)).sum().backward()
    assert linear.weight.grad is not None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(2, 4)).dtype == torch.bfloat16
