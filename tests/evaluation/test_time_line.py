"""Moments are annotated on one time line and looked for on another: the file's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.datasets import table, time_line
from pipeline.evaluation import inputs, stage
from pipeline.jobs import recipes

from .conftest import World


def test_unknown_lengths_leave_moments_as_they_are() -> None:
    nan = np.nan
    np.testing.assert_array_equal(
        time_line.scale(np.array([10.0, nan, 10.0, 0.0, 20.0]), np.array([20.0, 5.0, nan, 5.0, 5.0])), [2.0, 1.0, 1.0, 1.0, 0.25]
    )
    found = time_line.differences(["a", "b", "c", "d"], np.array([10.0, 10.0, nan, 200.0]), np.array([10.5, 12.0, 3.0, 32.0]))
    assert found == {"videos": 3, "off": 2, "furthest": "d", "seconds": -168.0}
    assert "2 of 3 files" in time_line.words(found)[0]
    assert time_line.words(time_line.differences(["a"], np.array([10.0]), np.array([10.9]))) == []


@pytest.mark.parametrize("factor", [1.0, 0.5, 1.6])
def test_a_file_of_another_length_is_evaluated_on_its_own_time_line(
    world: World, factor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same videos, annotated as if each lasted `factor` times as long: every measure stays what it was."""
    before = _evaluate(world)
    known = table.load(world.layout.annotations)
    known.videos["duration"] *= factor
    moments = {query: spans * factor for query, spans in known.moments.items()}
    table.save(world.layout.annotations, table.Annotations(known.videos, known.queries, moments, known.gallery))
    capsys.readouterr()
    after = _evaluate(world)
    found = after["moments"].pop("time_line")
    assert before["moments"].pop("time_line") == {"videos": 11, "off": 0}
    assert after["moments"]["frame"] == pytest.approx(before["moments"]["frame"])
    assert [row["queries"] for row in after["moments"]["by_ratio"]] == [row["queries"] for row in before["moments"]["by_ratio"]]
    assert (found["off"] > 0) == (factor != 1.0)
    assert ("their moments are scaled to the file" in capsys.readouterr().out) == (factor != 1.0)
    loaded = inputs.load(world.layout, world.config.experiment("main"), "test")
    np.testing.assert_allclose(loaded.scale, 1 / factor)
    # Predictions for the field's scorers are on the annotated line; the table's times are the file's own.
    predicted = [json.loads(line) for line in (world.layout.run("main", 1) / "moments.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (world.layout.run("main", 1) / "queries.jsonl").read_text().splitlines()]
    for line, row in zip(predicted, rows, strict=True):
        np.testing.assert_allclose(
            line["pred_relevant_windows"][0][:2], [row["moment_start"] * factor, row["moment_end"] * factor], atol=1e-3
        )


def _evaluate(world: World) -> dict:
    stage.run(world.config, world.layout, "main", 1, recipes.evaluation(world.config, "main"))
    return json.loads(world.layout.metrics("main", 1).read_text())
