"""Another number of shards: nothing stored is computed again, no file of a former shard stays, a kill in between loses nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.shards import ShardStore, assign, names
from pipeline.core.store import create, open_store
from pipeline.jobs import resharding
from pipeline.jobs.resharding import reshard
from pipeline.jobs.upkeep import move_to_shards

IDS = [f"video{i}" for i in range(60)]
CONTENT = {i: f"content of {i}" for i in IDS}


def _store(folder: Path, shard: str) -> ShardStore:
    return ShardStore(folder / f"{shard}.h5", stage="features", recipe={"v": 1}, group="features")


def _divide(folder: Path, record: Path, size: int, by: str = "id") -> None:
    shards = assign(IDS, size, CONTENT if by == "content" else None)
    place = {video: shard for shard, videos in shards.items() for video in videos}
    reshard(record, {"shards": len(shards), "by": by}, [folder], [], place)


def _compute(folder: Path, size: int, until: int | None = None, by: str = "id") -> int:
    """What the jobs do: every shard (the first ones only, when cut off) is brought up to date; returns how many items were computed."""
    computed = 0
    for shard, ids in list(assign(IDS, size, CONTENT if by == "content" else None).items())[:until]:
        store, keys = _store(folder, shard), {i: CONTENT[i] for i in ids}
        for item in store.missing(keys):
            store.add(item, keys[item], np.full((2, 4), IDS.index(item), np.float16))
            computed += 1
        store.finish(keys)
    return computed


def _whole(folder: Path, size: int) -> None:
    found = {}
    assert sorted(path.stem for path in folder.glob("*.h5")) == names(len(assign(IDS, size)))
    for path in folder.glob("*.h5"):
        with open_store(path) as file:
            if "features" in file:
                data = file.ragged("features")
                found |= {item: float(data[item][0, 0]) for item in data.ids}
    assert found == {item: i for i, item in enumerate(IDS)}
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("before", [2, 8, 100])
@pytest.mark.parametrize("after", [4, 30, 100])
def test_nothing_is_computed_again(tmp_path: Path, before: int, after: int) -> None:
    folder, record = tmp_path / "features", tmp_path / "shards.json"
    _divide(folder, record, before)
    assert _compute(folder, before) == 60
    _divide(folder, record, after)
    assert _compute(folder, after) == 0
    _whole(folder, after)


def test_names_of_another_width(tmp_path: Path) -> None:
    folder, record = tmp_path / "features", tmp_path / "shards.json"
    for count, computed in ((512, 1), (1024, 0), (512, 0)):
        shard = names(count)[7]
        reshard(record, {"shards": count, "by": "id"}, [folder], [], {"a": shard})
        store, keys = _store(folder, shard), {"a": "content of a"}
        assert len(store.missing(keys)) == computed
        for item in store.missing(keys):
            store.add(item, keys[item], np.zeros((1, 4), np.float16))
        store.finish(keys)
    assert [path.name for path in folder.glob("*.h5")] == ["007.h5"]


def test_divided_by_ids_instead_of_contents(tmp_path: Path) -> None:
    folder, record = tmp_path / "features", tmp_path / "shards.json"
    for by, computed in (("content", 60), ("id", 0), ("content", 0)):
        _divide(folder, record, 8, by)
        assert _compute(folder, 8, by=by) == computed
    _whole(folder, 8)


def test_changed_again_before_the_jobs_were_done(tmp_path: Path) -> None:
    folder, record = tmp_path / "features", tmp_path / "shards.json"
    _divide(folder, record, 30)
    assert _compute(folder, 30) == 60
    for size, until in ((8, 3), (4, 5), (100, 0), (15, 1)):
        _divide(folder, record, size)
        assert _compute(folder, size, until) == 0
    _divide(folder, record, 8)
    assert _compute(folder, 8) == 0
    _whole(folder, 8)


def test_cut_off_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, record = tmp_path / "features", tmp_path / "shards.json"
    _divide(folder, record, 8)
    _compute(folder, 8)
    link, allowed = resharding._link, 0

    def some(source: Path, target: Path) -> None:
        nonlocal allowed
        allowed -= 1
        if allowed < 0:
            raise KeyboardInterrupt
        link(source, target)

    monkeypatch.setattr(resharding, "_link", some)
    for allowed in (0, 1, 3, 5):  # noqa: B007  (counted down by `some`; there are 7)
        with pytest.raises(KeyboardInterrupt):
            _divide(folder, record, 30)
    allowed = 100
    _divide(folder, record, 30)
    assert _compute(folder, 30) == 0
    _whole(folder, 30)


def test_what_is_derived_is_not_met_twice(tmp_path: Path) -> None:
    record, clips = tmp_path / "shards.json", tmp_path / "clips"
    clips.mkdir()
    for name in names(4):
        (clips / f"{name}.h5").touch()
    (clips / ".003.spool").mkdir()
    (clips / "still-every0.5s").mkdir()
    reshard(record, {"shards": 4, "by": "id"}, [], [clips], {})
    reshard(record, {"shards": 2, "by": "id"}, [], [clips], {})
    assert sorted(path.name for path in clips.iterdir()) == ["000.h5", "001.h5", "still-every0.5s"]


def test_an_import_that_todays_configuration_leaves_out_is_not_touched(tmp_path: Path) -> None:
    layout, record = Layout(tmp_path), {"shards": 1, "by": "content"}
    write_json(layout.shards, {"shards": 4, "by": "id"})
    for name in names(4):
        for encoder in ("published", "own"):
            with create(layout.features(encoder, name), stage="features", recipe={}) as writer:
                writer.append("features", f"video{name}", np.zeros((1, 4), np.float16), {}, {"key": name})
        write_json(layout.features_manifest("own", name), {})
    place = {f"video{name}": "000" for name in names(4)}
    move_to_shards(SimpleNamespace(layout=layout, computed=[], division=record, place=place))  # type: ignore[arg-type]
    kept = {encoder: sorted(path.name for path in (tmp_path / "features" / encoder).iterdir()) for encoder in ("published", "own")}
    assert kept == {"published": [f"{name}.h5" for name in names(4)], "own": [".000.parts", "000.h5", "000.json"]}
    assert len(list((tmp_path / "features" / "own" / ".000.parts").iterdir())) == 3
