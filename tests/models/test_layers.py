"""Layers, the hand-written forms against the plain ones, and the model's size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.models import Msc as Model
from pipeline.core.errors import WeightsError
from pipeline.interchange.released_names import from_released, to_released
from pipeline.models.base import Dims, Videos, Words
from pipeline.models.blocks import AttentionLayer, EncoderLayer, GaussianMixtureBlock
from pipeline.models.cpu import chunked, kernels
from pipeline.models.cpu.kernels import Masks
from pipeline.models.layers import gaussian_window
from pipeline.models.msc import DualBranch

TINY = Model(hidden=8, heads=2, widths=[None, 0.5], dropout=0.3, input_dropout=0.3, max_words=6)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks even for a few tokens."""
    monkeypatch.setattr(chunked, "CHUNK", 400)


@pytest.mark.parametrize(
    ("video", "text", "words", "parameters"), [(3072, 768, 30, 32_421_280), (768, 768, 77, 30_660_640), (2816, 512, 77, 32_142_880)]
)
def test_parameter_counts(video: int, text: int, words: int, parameters: int) -> None:
    with torch.device("meta"):  # TVR, CLIP-L, QVHighlights (docs/method.md 5.8)
        model = DualBranch(Model(max_words=words), Dims(video, text))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_layer_counts() -> None:
    layer = EncoderLayer(384, 4, 0.1)
    assert sum(p.numel() for p in layer.parameters()) == 1_626_624  # docs/method.md 5.3
    assert sum(p.numel() for p in AttentionLayer(384, 4, 0.1).parameters()) == 592_128  # docs/methods.md


@pytest.mark.parametrize("recompute", [False, True])
def test_encoder_layer_gradients(recompute: bool) -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(8, 2, 0.3).double().train()
    layer.recompute = recompute
    window, bias = torch.rand(6, 6).double(), torch.randn(3, 6).double()

    def run(x: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same masks at every evaluation
        return layer(x, window, bias)

    x = torch.randn(3, 6, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *layer.parameters()), fast_mode=True)


def test_block_gradients() -> None:
    torch.manual_seed(0)
    block = GaussianMixtureBlock(8, 2, [None, 0.5, 3.0], 6, 0.6, 0.3).double().train()
    sizes = torch.randint(1, 5, (3, 6))

    def run(x: Tensor, token: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(5)
        return block(x, token, sizes)

    x = torch.randn(3, 6, 8, dtype=torch.double, requires_grad=True)
    token = torch.randn(1, 1, 8, dtype=torch.double, requires_grad=True)
    ours = [p for name, p in block.consolidation.named_parameters() if name != "attention.key.bias"]
    assert torch.autograd.gradcheck(run, (x, token, *ours), fast_mode=True)


@pytest.mark.parametrize("padded", [False, True])
def test_hand_written_block_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch, padded: bool) -> None:
    torch.manual_seed(0)
    block = GaussianMixtureBlock(8, 2, [None, 0.5, 3.0], 6, 0.6, 0.3).double().eval()
    found = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(kernels, "fast", lambda _: False)
        torch.manual_seed(1)
        x, token = torch.randn(5, 6, 8).double().requires_grad_(), torch.randn(1, 1, 8).double()
        mask = (torch.arange(6) < torch.tensor([[6], [1], [3], [5], [2]])).double() if padded else None
        output = block(x, token, torch.full((5, 6), 4), mask)
        block.zero_grad()
        (output * torch.randn(5, 6, 8)).sum().backward()
        found.append([output, x.grad, *(p.grad for p in block.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_padding_is_read_by_nothing_and_its_output_is_zero() -> None:
    torch.manual_seed(0)
    block = GaussianMixtureBlock(8, 2, [None, 0.5, 3.0], 6, 0.6, 0.3).eval()
    token, mask = torch.randn(1, 1, 8), (torch.arange(6) < torch.tensor([[6], [1], [3]])).float()
    x = torch.randn(3, 6, 8)
    other = torch.where(mask[..., None] > 0, x, 100 * torch.randn(3, 6, 8))
    output = block(x, token, mask=mask)
    torch.testing.assert_close(output, block(other, token, mask=mask))
    assert (output[mask == 0] == 0).all()
    assert (output[mask == 1] != 0).all()


@pytest.mark.parametrize("recompute", [False, True])
def test_attention_layer_gradients(recompute: bool) -> None:
    torch.manual_seed(0)
    layer = AttentionLayer(8, 2, 0.3).double().train()
    layer.recompute = recompute
    window, bias = torch.rand(6, 6).double(), torch.randn(3, 6).double()

    def run(x: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(5)
        return layer(x, window, bias)

    x = torch.randn(3, 6, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *layer.parameters()), fast_mode=True)


def test_hand_written_attention_layer_equals_the_plain_one() -> None:
    torch.manual_seed(0)
    layer = AttentionLayer(8, 2, 0.3).double().eval()
    x, window, bias = torch.randn(9, 6, 8).double(), torch.rand(6, 6).double(), torch.randn(9, 6).double()
    found = []
    for form in (layer.forward, layer.plain):
        at = x.clone().requires_grad_()
        layer.zero_grad()
        output = form(at, window, bias)
        (output * torch.arange(8)).sum().backward()
        found.append([output, at.grad, *(p.grad for p in layer.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


class LiteralConsolidation(nn.Module):
    """Temporal consolidation word for word (docs/method.md 5.5): the token attends to every branch through full projections."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, outputs: list[Tensor], token: Tensor) -> Tensor:
        part = self.ours
        heads = part.attention.heads
        logits = []
        for output in outputs:
            q, k, v = (
                m(t).unflatten(-1, (heads, -1)).transpose(1, 2)
                for m, t in (
                    (part.attention.query, token.expand(len(output), -1, -1)),
                    (part.attention.key, output),
                    (part.attention.value, output),
                )
            )
            read = ((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v).transpose(1, 2).flatten(2)
            first = part.norm1(token + read)
            second = part.norm2(first + part.feed_forward.contract(part.feed_forward.expand(first).relu()))
            logits.append(part.logits(part.hidden(second).relu())[:, 0])
        weights = (torch.stack(logits) / part.temperature).softmax(0)
        return sum(w[..., None] * o for w, o in zip(weights, outputs, strict=True))


@pytest.mark.parametrize("tokens", [1, 4])
def test_folded_consolidation_equals_the_literal_one(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = GaussianMixtureBlock(8, 2, [None, 0.5, 3.0], 6, 0.6, 0.0).double()
    outputs = [torch.randn(4, 6, 8).double().requires_grad_() for _ in range(3)]
    token = torch.randn(tokens, 1, 8).double().requires_grad_()
    theirs = LiteralConsolidation(block.consolidation)(outputs, token)
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(kernels, "fast", lambda _: False)
        ours = block.consolidation(list(outputs), token)
        torch.testing.assert_close(ours, theirs)
        inputs = [*outputs, token, block.consolidation.attention.key.weight]
        for a, b in zip(*(torch.autograd.grad(out.square().sum(), inputs, retain_graph=True) for out in (ours, theirs)), strict=True):
            torch.testing.assert_close(a, b)


def seen(frames: torch.Tensor, clips: torch.Tensor, sizes: torch.Tensor) -> Videos:
    """Videos whose contexts nobody reads."""
    return Videos(frames, clips, sizes, torch.zeros(0), torch.zeros(0))


def pooled(model: DualBranch, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return model.encode_queries(Words(words, mask))["pooled"]


def test_uniform_sizes_change_nothing() -> None:
    model = DualBranch(TINY, Dims(5, 4, 8, 4)).eval()
    frames, clips = torch.randn(3, 8, 5), torch.randn(3, 4, 5)
    one, four = (model.encode_videos(seen(frames, clips, torch.full((3, 4), size))) for size in (1.0, 4.0))
    torch.testing.assert_close(one["clips"], four["clips"])
    sized = model.encode_videos(seen(frames, clips, torch.tensor([[1.0, 2.0, 3.0, 2.0]] * 3)))
    assert not torch.allclose(sized["clips"], four["clips"])
    torch.testing.assert_close(sized["frames"], four["frames"])


def test_padding_does_not_change_a_query() -> None:
    model = DualBranch(TINY, Dims(5, 4, 8, 4)).eval()
    words = torch.randn(2, 3, 4)
    padded = torch.cat([words, torch.zeros(2, 3, 4)], 1)
    mask = torch.tensor([[1.0, 1, 1, 0, 0, 0]] * 2)
    torch.testing.assert_close(pooled(model, padded, mask), pooled(model, words, torch.ones(2, 3)))


def test_one_video_and_one_query() -> None:
    model = DualBranch(TINY, Dims(5, 4, 8, 4)).train()
    tokens = model.encode_videos(seen(torch.randn(1, 8, 5), torch.randn(1, 4, 5), torch.ones(1, 4)))
    assert tokens["frames"].shape == (1, 8, 8)
    assert tokens["clips"].shape == (1, 4, 8)
    assert pooled(model, torch.randn(1, 1, 4), torch.ones(1, 1)).shape == (1, 8)


def test_windows() -> None:
    assert (gaussian_window(7, None) == 1).all()
    assert (gaussian_window(32, 0.5).amax(1) == 1).all()
    with pytest.raises(ValueError, match="2 positions"):
        gaussian_window(1, 0.5)
    assert gaussian_window(1, None).shape == (1, 1)


def test_dropout_keeps_the_mean_and_the_rate() -> None:
    torch.manual_seed(0)
    values = torch.ones(1000, 1000, requires_grad=True)
    dropped = kernels.dropout(values, 0.2, True)
    assert abs((dropped == 0).float().mean().item() - 0.2) < 2e-3
    assert abs(dropped.mean().item() - 1) < 2e-3
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())
    assert kernels.dropout(values, 0.2, False) is values
    assert kernels.dropout(values, 1.0, True).abs().max() == 0


def test_masks_repeat_from_their_seed() -> None:
    first = Masks(0.3, True)
    again = Masks(0.3, True, first.seed)
    assert torch.equal(first.draw(3, 5), again.draw(3, 5))
    assert torch.equal(first.draw(7), again.draw(7))
    assert Masks(0.0, True).draw(3) is None
    assert Masks(0.3, False).draw(3) is None


@pytest.mark.parametrize("plain", [False, True])
def test_bfloat16_is_near(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if plain:
        monkeypatch.setattr(kernels, "fast", lambda _: False)
    torch.manual_seed(0)
    model = DualBranch(TINY, Dims(5, 4, 8, 4)).eval()
    inputs = seen(torch.randn(3, 8, 5), torch.randn(3, 4, 5), torch.ones(3, 4))
    exact = model.encode_videos(inputs)["frames"]
    with torch.autocast("cpu", torch.bfloat16):
        near = model.encode_videos(inputs)["frames"]
        near.float().square().sum().backward()
    assert near.dtype == torch.float32
    assert (near - exact).norm() / exact.norm() < 0.03
    assert all(p.grad.dtype == torch.float32 for p in model.frame.parameters() if p.grad is not None)


def test_released_names_are_complete() -> None:
    model = DualBranch(TINY, Dims(5, 4, 8, 4))
    released = to_released(model.state_dict(), 2)
    assert set(from_released(released, 2)) == set(model.state_dict())
    with pytest.raises(WeightsError, match="belong to no part"):
        from_released({**released, "stranger.weight": torch.zeros(1)}, 2)
    missing = dict(released)
    del missing["weight_token"], missing["vproj_clip.bias"]
    with pytest.raises(WeightsError, match=r"alignment\.bias, token"):
        from_released(missing, 2)


def test_a_hidden_size_the_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="not divisible by 3 heads"):
        DualBranch(Model(hidden=8, heads=3), Dims(5, 4))


@pytest.mark.parametrize("kind", [EncoderLayer, AttentionLayer])
def test_no_sequence_at_all_gives_none_and_gradients_of_zero(kind: type) -> None:
    layer = kind(8, 2, 0.3).train()
    output = layer(torch.zeros(0, 6, 8, requires_grad=True))
    assert output.shape == (0, 6, 8)
    output.sum().backward()
    assert all((parameter.grad == 0).all() for parameter in layer.parameters())
