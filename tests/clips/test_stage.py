"""The clips stage: from stored features to a stored shard."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.clips import stage
from pipeline.clips.recipe import recipe_name
from pipeline.config.reading import validate
from pipeline.config.schema import Config, merge
from pipeline.core.errors import ConfigError, EncoderError, GridError, StoreSchema
from pipeline.core.layout import Layout
from pipeline.core.store import create, open_store
from pipeline.jobs import recipes

LENGTHS = {"short": 5, "exact": 128, "long": 300, "one": 1}
BASE: dict[str, Any] = {
    "encoders": {"clip": {"kind": "open_clip"}, "motion": {"kind": "slowfast"}},
    "features": ["clip", "motion"],
    "text": "clip",
}


def _features(
    layout: Layout, encoder: str, dim: int, lengths: dict[str, int], every: float = 2.0, bad: bool = False, recipe: dict | None = None
) -> None:
    with create(layout.features(encoder, "000"), stage="features", recipe=recipe or {}, dim=dim) as writer:
        for place, (video_id, rows) in enumerate(lengths.items()):
            values = np.random.default_rng([place, dim]).standard_normal((rows, dim)).astype(np.float16)
            if bad:
                values[-1, 0] = np.nan
            start = np.arange(rows) * every
            writer.append("features", video_id, values, {"start": start, "end": start + every}, {"duration": rows * every, "key": "k"})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    _features(layout, "clip", 8, LENGTHS)
    _features(layout, "motion", 4, LENGTHS)
    return layout


def _config(**values: Any) -> Config:
    return validate(merge(BASE, values), source="test")


def _run(layout: Layout, **values: Any) -> Path:
    capped = values.get("clips", {}).get("frame_rows") == "capped"
    config = _config(**values, **({"model": {"kind": "ms_sl"}} if capped else {}))
    stage.run(config, layout, config.experiment("main"), "000")
    return layout.clips(recipe_name(config.experiment("main")), "000")


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("method", ["op_tome", "uniform"])
def test_what_is_stored(layout: Layout, variant: str, method: str) -> None:
    with open_store(_run(layout, variant=variant, clips={"method": method}), stage="clips") as store:
        videos = store.table("videos")
        arrays = {name: store.array(name) for name in store.names() if "/" not in name}
        assert store.attrs["dims"] == {"clip": 8, "motion": 4}
        assert store.attrs["recipe"]["method"] == method
    assert videos.video_id.tolist() == list(LENGTHS)
    assert videos.duration.tolist() == [10, 256, 600, 2]
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "frames": ((4, 128, 12), "float16"),
        "frame_count": ((4,), "int32"),
        "clips": ((4, 32, 12), "float16"),
        "sizes": ((4, 32), "float32"),
        "frame_to_clip": ((4, 128), "uint8"),
        "context": ((4, 32), "uint8"),
        "context_count": ((4,), "uint16"),
        "context_ratio": ((4,), "float32"),
        "start": ((4, 128), "float32"),
        "end": ((4, 128), "float32"),
    }
    assert all(np.isfinite(array).all() for array in arrays.values())
    mass = 128 if variant == "released" else np.array(list(LENGTHS.values()))
    np.testing.assert_allclose(arrays["sizes"].sum(axis=1), mass, rtol=1e-5)
    assert (np.diff(arrays["frame_to_clip"].astype(int), axis=1) >= 0).all()
    assert (arrays["context"].max(axis=1) + 1 == arrays["context_count"]).all()
    assert arrays["context_ratio"][3] == 1
    assert arrays["context_count"][3] == 5
    assert arrays["end"][0, -1] == 10
    assert (arrays["start"] < arrays["end"]).all()


def test_features_of_another_recipe_are_refused(layout: Layout) -> None:
    """Right encoder, right shard, other weights or sampling: by what the file says of itself. Other code alone changes nothing."""
    config = _config()
    made_by = {name: recipes.configured(recipes.features(config, name)) for name in ("clip", "motion")}
    for name, dim in (("clip", 8), ("motion", 4)):
        _features(layout, name, dim, LENGTHS, recipe={**recipes.features(config, name), "code": "of yesterday"})
    stage.run(config, layout, config.experiment("main"), "000", made_by)
    other = _config(encoders={"clip": {"kind": "open_clip", "architecture": "ViT-L-14"}, "motion": {"kind": "slowfast"}})
    _features(layout, "clip", 8, LENGTHS, recipe=recipes.features(other, "clip"))
    with pytest.raises(StoreSchema, match="made by another recipe than expected: encoder"):
        stage.run(config, layout, config.experiment("main"), "000", made_by)


def test_the_same_features_give_the_same_bytes(layout: Layout) -> None:
    path = _run(layout)
    before = path.read_bytes()
    assert _run(layout).read_bytes() == before


def test_a_video_does_not_depend_on_its_shard(layout: Layout, tmp_path: Path) -> None:
    with open_store(_run(layout)) as store:
        together = store.array("clips")[2], store.array("context")[2]
    alone = Layout(tmp_path / "alone")
    for encoder, dim in (("clip", 8), ("motion", 4)):
        with open_store(layout.features(encoder, "000")) as store:
            data = store.ragged("features")
        with create(alone.features(encoder, "000"), stage="features", dim=dim) as writer:
            place = data.rows("long")
            writer.append("features", "long", data["long"], {k: v[place] for k, v in data.columns.items()}, {"duration": 600.0, "key": "k"})
    with open_store(_run(alone)) as store:
        assert np.array_equal(store.array("clips")[0], together[0])
        assert np.array_equal(store.array("context")[0], together[1])


def test_unit_joining_gives_every_encoder_the_same_length(layout: Layout) -> None:
    with open_store(_run(layout, clips={"join": "unit", "dtype": "float32"})) as store:
        frames = store.array("frames")[1]
    np.testing.assert_allclose(np.linalg.norm(frames[:, :8], axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(frames[:, 8:], axis=1), 1, atol=1e-3)


def test_other_grids_are_refused(layout: Layout) -> None:
    _features(layout, "motion", 4, LENGTHS, every=1.5)
    with pytest.raises(GridError, match=r"clip and motion look at different times: row 0 is 0-2 s against 0-1\.5 s") as error:
        _run(layout)
    assert "video short" in str(error.value)
    _features(layout, "motion", 4, {**LENGTHS, "long": 299})
    with pytest.raises(GridError, match="300 rows against 299"):
        _run(layout)
    _features(layout, "motion", 4, {k: v for k, v in LENGTHS.items() if k != "exact"})
    with pytest.raises(GridError, match="clip has features of exact, motion has not"):
        _run(layout)


def test_imported_features_of_videos_that_are_not_computed_are_left_out(layout: Layout) -> None:
    published = {"encoders": {"motion": {"kind": "imported"}}}
    _features(layout, "clip", 8, {k: v for k, v in LENGTHS.items() if k != "exact"})  # in quarantine
    with open_store(_run(layout, **published), stage="clips") as store:
        assert store.table("videos")["video_id"].tolist() == ["short", "long", "one"]
    _features(layout, "clip", 8, LENGTHS)
    _features(layout, "motion", 4, {k: v for k, v in LENGTHS.items() if k != "exact"})
    with pytest.raises(GridError, match="clip has features of exact, motion has not"):
        _run(layout, **published)


def test_features_that_are_not_numbers_are_refused(layout: Layout) -> None:
    _features(layout, "motion", 4, LENGTHS, bad=True)
    with pytest.raises(EncoderError, match="motion hold values that are not numbers"):
        _run(layout)


def test_an_empty_shard(layout: Layout) -> None:
    for encoder, dim in (("clip", 8), ("motion", 4)):
        _features(layout, encoder, dim, {})
    with open_store(_run(layout), stage="clips") as store:
        assert store.array("frames").shape == (0, 128, 12)
        assert len(store.table("videos")) == 0


CAPPED = {"frame_rows": "capped", "method": "rows", "dtype": "float32"}


def test_capped_frames_are_a_short_videos_own_rows(layout: Layout) -> None:
    with open_store(_run(layout, clips=CAPPED), stage="clips") as store:
        arrays = {name: store.array(name) for name in store.names() if "/" not in name}
    with open_store(_run(layout, clips={"dtype": "float32"}), stage="clips") as store:
        fixed = store.array("frames")
    assert arrays["frame_count"].tolist() == [min(rows, 128) for rows in LENGTHS.values()]
    for video, count in enumerate(arrays["frame_count"]):
        assert not arrays["frames"][video, count:].any()
        assert (arrays["frame_to_clip"][video, count:] == 31).all()
        assert (arrays["start"][video, count:] == arrays["end"][video, count - 1]).all()
        assert (arrays["end"][video, count:] == arrays["end"][video, count - 1]).all()
    with open_store(layout.features("clip", "000"), stage="features") as store:
        own = store.ragged("features")["short"]
    assert np.array_equal(arrays["frames"][0, :5, :8], own.astype(np.float32))
    assert arrays["start"][0, :5].tolist() == [0, 2, 4, 6, 8]
    assert arrays["end"][0, :5].tolist() == [2, 4, 6, 8, 10]
    assert np.array_equal(arrays["frames"][1:3], fixed[1:3]), "videos of 128 rows and more are pooled alike"
    np.testing.assert_allclose(arrays["sizes"].sum(axis=1), arrays["frame_count"], rtol=1e-5)


def test_clips_of_rows_are_means_of_the_features_themselves(layout: Layout) -> None:
    with open_store(_run(layout, clips=CAPPED), stage="clips") as store:
        clips = store.array("clips")
    with open_store(layout.features("clip", "000"), stage="features") as store:
        rows = store.ragged("features")["long"].astype(np.float64)
    edges = [min(round(i * 300 / 32), 299) for i in range(33)]
    means = [rows[a:b].mean(0) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(clips[2, :, :8], means, rtol=1e-5, atol=1e-6)
    with open_store(_run(layout, clips={**CAPPED, "size_unit": "rows", "last_row": "keep"}), stage="clips") as store:
        np.testing.assert_allclose(store.array("sizes").sum(axis=1), list(LENGTHS.values()), rtol=1e-5)


@pytest.mark.parametrize("clips", [{"frame_rows": "capped"}, {"frame_rows": "capped", "method": "uniform"}])
def test_merging_needs_a_fixed_number_of_frames(clips: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="frame_rows: capped goes with method: rows"):
        _config(clips=clips)


def test_a_model_that_takes_padding_for_frames_gets_none() -> None:
    with pytest.raises(ConfigError, match="a model of kind msc takes for frames"):
        _config(clips=CAPPED, model={"kind": "msc"})
