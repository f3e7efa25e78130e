"""oneDNN's internal linear operator is called only where it is there and has the type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline.core import onednn
from pipeline.models.cpu import kernels

OPERATORS = torch.ops.mkldnn


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    onednn.available.cache_clear()
    yield
    onednn.available.cache_clear()


def _works(dtype: torch.dtype) -> None:
    rows, weight, bias = torch.randn(5, 8).to(dtype), torch.randn(3, 8).to(dtype), torch.randn(3).to(dtype)
    for relu in (False, True):
        expected = F.linear(rows, weight, bias)
        found = kernels.multiply(rows, weight, bias, relu=relu)
        coarse = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype, 1e-5)
        torch.testing.assert_close(found, expected.relu() if relu else expected, rtol=coarse, atol=coarse)


def _refusing(*arguments: Any) -> Any:
    raise RuntimeError("mkldnn_linear: bf16 path needs the cpu support avx_ne_convert or avx512bw")


def test_bfloat16_without_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without them: the operator raises, and training in bf16 must take torch's own product."""
    monkeypatch.setattr(OPERATORS, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(OPERATORS, "_linear_pointwise", _refusing)
    assert not onednn.available(torch.bfloat16)
    _works(torch.bfloat16)
    linear = torch.nn.Linear(8, 3)
    rows = torch.randn(5, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kernels.linear(rows, linear.weight, linear.bias).float().sum().backward()
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad, linear.weight.detach().sum(0).expand(5, 8), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_build_without_the_operator(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(OPERATORS, "_linear_pointwise", _refusing)
    assert not onednn.available(dtype)
    _works(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_go_torchs_way(dtype: torch.dtype) -> None:
    assert not onednn.available(dtype)
    _works(dtype)


@pytest.mark.skipif(not onednn.available(), reason="this build of torch has no oneDNN linear operator")
def test_float32_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _works(torch.float32)
    monkeypatch.setattr(OPERATORS, "_linear_pointwise", _refusing)
    with pytest.raises(RuntimeError, match="bf16 path"):
        _works(torch.float32)
