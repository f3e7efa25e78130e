"""The Lorentz layer against its equations written out, one query position, key and head at a time, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.cpu import chunked
from pipeline.models.layers import InputProjection, gaussian_window
from pipeline.models.lorentz_layer import LorentzAttention, LorentzLayer, LorentzLinear


def layer_of(seed: int, hidden: int = 12, width: int = 12, heads: int = 3, dropout: float = 0.0) -> LorentzLayer:
    """A layer whose every parameter is something."""
    torch.manual_seed(seed)
    layer = LorentzLayer(hidden, width, heads, dropout).double()
    for name, parameter in layer.named_parameters():
        if name.endswith(("bias", "weight")):
            nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.4)
    layer.attention.log_scale.data.fill_(-0.5)
    layer.attention.logit_bias.data.fill_(0.7)
    return layer


def dense(module: nn.Linear, row: Tensor) -> Tensor:
    return module.weight @ row if module.bias is None else module.weight @ row + module.bias


def normed(module: nn.LayerNorm, row: Tensor) -> Tensor:
    centred = row - row.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * module.weight + module.bias


def projected(module: InputProjection, row: Tensor) -> Tensor:
    return dense(module.linear, normed(module.norm, row)).clamp_min(0)


def product(x: Tensor, y: Tensor) -> Tensor:
    return x[1:] @ y[1:] - x[0] * y[0]


def heads_of(module: LorentzLinear, point: Tensor) -> list[Tensor]:
    """Step 3, head by head."""
    points = []
    for part in dense(module.linear, point).chunk(module.heads):
        time = 1 / (1 + (-part[0]).exp()) * module.log_scale.exp() + 1.1
        points.append(torch.cat([time[None], part[1:] / part[1:].norm() * (time**2 - 1).sqrt()]))
    return points


def literal_attention(a: LorentzAttention, tokens: Tensor, window: Tensor | None, mask: Tensor | None) -> Tensor:
    """Steps 1-6 and the projection of step 7. Shapes: [L, H] -> same."""
    points = []
    for row in tokens:
        u = projected(a.inwards, row) * a.log_scale.exp()
        space = torch.sinh(u.norm().clamp_max(10)) * u / u.norm()
        points.append(torch.cat([(1 + space @ space).sqrt()[None], space]))
    query, key, value = ([heads_of(m, point) for point in points] for m in (a.query, a.key, a.value))
    outputs = []
    for i in range(len(points)):
        heads = []
        for h in range(a.query.heads):
            logits = []
            for j in range(len(points)):
                logit = (2 + 2 * product(query[i][h], key[j][h])) / a.logit_scale + a.logit_bias
                logit = logit * (1 if window is None else window[i, j])
                logits.append(logit if mask is None or mask[j] else logit - 1e18)
            weights = torch.stack(logits).softmax(0)
            mean = sum(w * v[h] for w, v in zip(weights, value, strict=True))
            heads.append(mean / product(mean, mean).abs().sqrt())
        together = torch.cat(heads)
        time = together[0]
        outputs.append(projected(a.outwards, torch.acosh(time) / (time**2 - 1).sqrt() * together[1:] / a.log_scale.exp()))
    return torch.stack(outputs)


def literal_layer(layer: LorentzLayer, tokens: Tensor, window: Tensor | None, mask: Tensor | None) -> Tensor:
    rows = []
    for row, attended in zip(tokens, literal_attention(layer.attention, tokens, window, mask), strict=True):
        row = normed(layer.norm1, row + attended)
        inner = dense(layer.feed_forward.expand, row).clamp_min(0)
        rows.append(normed(layer.norm2, row + dense(layer.feed_forward.contract, inner)))
    return torch.stack(rows)


@pytest.mark.parametrize("width", [None, 2.0])
@pytest.mark.parametrize("padded", [False, True])
def test_layer_equals_the_equations_with_every_gradient(width: float | None, padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK", 12 * 48 * 5)  # two chunks of two videos, and one of one
    layer = layer_of(0)
    tokens = torch.randn(3, 5, 12, dtype=torch.float64, requires_grad=True)
    window = None if width is None else gaussian_window(5, width).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]) if padded else None
    ours = layer(tokens, window, mask)
    theirs = torch.stack([literal_layer(layer, x, window, None if mask is None else mask[i]) for i, x in enumerate(tokens)])
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    weighting = torch.randn_like(theirs)
    inputs = [tokens, *layer.parameters()]
    for a, b in zip(*(torch.autograd.grad((out * weighting).sum(), inputs) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_the_window_sends_attention_away() -> None:
    """docs/methods.md, HLFormer: a window flattens logits that are below 0, so the far keys get the most."""
    attention = layer_of(1).attention
    for module in (attention.query, attention.key):  # all queries and keys alike: only the window tells positions apart
        nn.init.zeros_(module.linear.weight)
    tokens = torch.randn(1, 12, dtype=torch.float64).expand(32, 12).clone().requires_grad_()
    output = attention(tokens[None], gaussian_window(32, 2.0).double(), None)
    read = torch.autograd.grad(output[0, 0].sum(), tokens)[0].norm(dim=1)
    assert read[16:].min() > 100 * read[:2].max()


def test_float32_under_autocast() -> None:
    layer = layer_of(2).float()
    tokens = torch.randn(2, 6, 12)
    expected = layer(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_dropout_is_the_same_in_the_recomputed_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK", 12 * 48 * 6)
    layer = layer_of(3, dropout=0.3).train()
    tokens = torch.randn(5, 6, 12, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(5)
        return layer(x)

    assert torch.autograd.gradcheck(run, (tokens, *layer.parameters()), fast_mode=True, atol=1e-4)
    assert not torch.equal(layer(tokens), layer(tokens)), "every call draws its own masks"


def test_tokens_of_every_length_give_finite_gradients() -> None:
    layer = layer_of(4).float()
    for scale in (0.0, 1e-20, 1.0, 1e4):
        tokens = (scale * torch.randn(2, 3, 12)).requires_grad_()
        layer.zero_grad()
        layer(tokens, gaussian_window(3, 2.0), torch.tensor([[1, 1, 0], [1, 0, 0]])).square().sum().backward()
        assert all(value.grad.isfinite().all() for value in (tokens, *layer.parameters()))


def test_a_scale_above_1_is_brought_back_and_can_still_be_learnt() -> None:
    layer = layer_of(5)
    layer.attention.log_scale.data.fill_(0.4)
    layer(torch.randn(1, 3, 12, dtype=torch.float64)).sum().backward()
    assert layer.attention.log_scale.item() == 0
    assert layer.attention.log_scale.grad is not None
    assert layer.attention.log_scale.grad.item() != 0


def test_a_width_that_leaves_a_head_without_space_is_refused() -> None:
    for width in (10, 4):
        with pytest.raises(ValueError, match="heads"):
            LorentzAttention(8, width, 4, 0.0)


def test_parameter_count_and_initial_values() -> None:
    layer = LorentzLayer(384, 128, 4, 0.1)
    assert sum(p.numel() for p in layer.parameters()) == 1_331_331
    assert layer.attention.log_scale.exp().item() == pytest.approx(127**-0.5)
    assert layer.attention.logit_scale.item() == pytest.approx(math.sqrt(128))
    assert layer.attention.query.log_scale.item() == pytest.approx(2.3)
