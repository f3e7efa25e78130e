"""Which video rows correlation preservation compares, and that it is TCPL on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.config.objectives import Cbva, Nce, Objectives, Tcpl, Triplet, Vcp
from pipeline.config.reading import load
from pipeline.core.errors import ConfigError
from pipeline.objectives import tcpl, vcp
from pipeline.objectives.total import Total
from tests.objectives.test_total import fields

LABELS = torch.tensor([0, 0, 1, 2, 2, 2])


def test_the_row_a_query_retrieves_is_its_own_videos_best() -> None:
    frames = torch.randn(3, 16, 8, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([3, 15, 0, 7, 7, 9])
    query = 5 * frames[LABELS, wanted]
    assert torch.equal(vcp.retrieved(query, frames, LABELS, torch.ones(3, 16)), wanted)
    real = (torch.arange(16) < torch.tensor([[16], [16], [8]])).float()
    assert vcp.retrieved(query, frames, LABELS, real).tolist()[:5] == wanted.tolist()[:5]
    assert vcp.retrieved(query, frames, LABELS, real)[5] < 8, "padding was retrieved"


def test_spread_rows_are_the_middles_of_equal_parts() -> None:
    twelve = torch.full((6,), 12)
    assert vcp.spread(LABELS, twelve).tolist() == [3, 9, 6, 2, 6, 10]
    shuffled = torch.tensor([2, 0, 2, 1, 0, 2])
    assert vcp.spread(shuffled, twelve).tolist() == [2, 3, 6, 6, 9, 10]
    assert vcp.spread(LABELS, torch.tensor([12, 12, 1, 6, 6, 6])).tolist() == [3, 9, 0, 1, 3, 5]


@pytest.mark.parametrize("rows", ["retrieved", "uniform"])
def test_it_is_tcpl_between_rows(rows: str) -> None:
    noise = torch.Generator().manual_seed(1)
    query, frames = torch.randn(6, 8, generator=noise).double(), torch.randn(3, 16, 8, generator=noise).double().requires_grad_()
    frozen = torch.randn(3, 16, 5, generator=noise).double()
    settings = Objectives(
        nce=Nce(clip=0, frame=0),
        triplet=Triplet(weight=0),
        cbva=Cbva(weight=0),
        tcpl=Tcpl(distance=2, angle=3),
        vcp=Vcp(weight=0.5, rows=rows),
    )
    step = fields()._replace(labels=LABELS, query={"pooled": query}, video={"frames": frames}, scores={})
    step = step._replace(videos=step.videos._replace(frames=frozen))
    terms = Total(settings).objectives["vcp"](step)
    chosen = vcp.retrieved(query, frames, LABELS, torch.ones(3, 16)) if rows == "retrieved" else vcp.spread(LABELS, torch.full((6,), 16))
    student, taught = frames[LABELS, chosen], frozen[LABELS, chosen]
    torch.testing.assert_close(terms["vcp_distance"], tcpl.distance(student, taught))
    torch.testing.assert_close(terms["vcp_angle"], 1.5 * tcpl.angle(student, taught))
    with pytest.raises(ConfigError, match="both 0"):
        Total(settings.model_copy(update={"tcpl": Tcpl(distance=0, angle=0)}))


def test_table_2_exchanges_cbva_for_it(root: Path) -> None:
    config = load(root / "config.yaml")
    for rows in ("retrieved", "uniform"):
        settings = config.experiment(f"vcp-{rows}")
        assert settings.objectives.vcp.rows == rows
        assert settings.objectives.vcp.weight == 1
        assert settings.objectives.cbva.weight == 0
        assert settings.clips == config.experiment("adaptive").clips
