"""Miniatures of the benchmarks' real layouts: every preset finds every video, and absent ones are listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.encoders import Imported
from pipeline.config.reading import read, validate
from pipeline.config.schema import Config, merge
from pipeline.core.errors import DatasetError
from pipeline.datasets import stage, table
from pipeline.jobs.videos import listing
from tests.datasets.miniature import KINDS, Miniature, build


@pytest.fixture(scope="module", params=["invented", "real"])
def annotations(request: pytest.FixtureRequest) -> Path | None:
    """The folder the rows are cut from; None: invented rows."""
    return request.getfixturevalue("shared") / "annotations" if request.param == "real" else None


@pytest.fixture(scope="module", params=KINDS)
def miniature(request: pytest.FixtureRequest, annotations: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    original = annotations / request.param if annotations else None
    return build(request.param, tmp_path_factory.mktemp("miniature"), original)


def preset(root: Path, miniature: Miniature, results: Path, **dataset) -> Config:
    values = merge(read(root / "config" / f"{miniature.kind}.yaml"), {"results": str(results), "dataset": {**miniature.values, **dataset}})
    return validate(values, source=f"config/{miniature.kind}.yaml")


def test_the_preset_finds_every_video_and_writes_the_table(root: Path, miniature: Miniature, tmp_path: Path, capsys) -> None:
    config = preset(root, miniature, tmp_path)
    layout = config.layout
    sources = listing(config, layout).videos
    assert len(sources) == 10
    assert all(Path(path).exists() for source in sources for path in source.paths)
    assert len({source.fingerprint for source in sources}) == 10
    stage.run(config, layout)
    written = table.load(layout.annotations)
    assert written.counts().set_index("split")["videos"].to_dict() == {"train": 6, "test": 4}
    assert [source.video_id for source in sources] == list(written.videos["video_id"])
    assert f"gallery: {config.dataset.gallery}" in capsys.readouterr().err
    first = layout.annotations.read_bytes()
    stage.run(config, layout)
    assert layout.annotations.read_bytes() == first


def test_several_clips_of_one_source_are_one_video(root: Path, miniature: Miniature, tmp_path: Path) -> None:
    config = preset(root, miniature, tmp_path)
    parts = [len(source.paths) for source in listing(config, config.layout).videos]
    assert (max(parts) > 1) == (miniature.kind == "qvhighlights")


def test_missing_videos_are_all_listed_and_left_out_on_request(root: Path, miniature: Miniature, tmp_path: Path) -> None:
    config = preset(root, miniature, tmp_path)
    sources = listing(config, config.layout).videos
    gone = [Path(sources[0].paths[0]), Path(sources[-1].paths[0])]
    for path in gone:
        path.rename(path.with_name(f"away-{path.name}"))
    try:
        with pytest.raises(DatasetError) as error:
            listing(config, config.layout)
        assert "missing video files (2)" in error.value.what
        assert all(path.stem.removeprefix("v_") in error.value.what for path in gone)
        config = preset(root, miniature, tmp_path, allow_missing_videos=True)
        layout = config.layout
        stage.run(config, layout)
        written = table.load(layout.annotations)
        assert len(written.videos) == 8
        assert not {sources[0].video_id, sources[-1].video_id} & set(written.queries["video_id"])
        assert len(layout.missing_videos.read_text().splitlines()) == 2
    finally:
        for path in gone:
            path.with_name(f"away-{path.name}").rename(path)


def test_one_name_in_two_files_is_refused(root: Path, miniature: Miniature, tmp_path: Path) -> None:
    config = preset(root, miniature, tmp_path)
    path = next(Path(path) for source in listing(config, config.layout).videos for path in source.paths if Path(path).is_file())
    twin = path.with_suffix(".webm")
    twin.write_bytes(b"again")
    try:
        with pytest.raises(DatasetError, match=r"videos with several files \(1\)"):
            listing(config, config.layout)
    finally:
        twin.unlink()


def test_annotations_alone_are_enough_for_bundles(root: Path, miniature: Miniature, tmp_path: Path) -> None:
    config = preset(root, miniature, tmp_path, videos="")
    layout = config.layout
    stage.run(config, layout)
    assert len(table.load(layout.annotations).videos) == 10
    with pytest.raises(DatasetError, match=r"dataset\.videos is empty, but clip-"):
        listing(config, layout)
    config = config.model_copy(update={"encoders": dict.fromkeys(config.encoders, Imported())})
    assert [source.paths for source in listing(config, layout).videos] == [()] * 10


def test_a_long_list_of_missing_videos_goes_to_a_file(root: Path, shared: Path, tmp_path: Path) -> None:
    mini = build("charades", tmp_path / "mini", shared / "annotations" / "charades")
    config = preset(root, mini, tmp_path, annotations=str(shared / "annotations" / "charades"))
    with pytest.raises(DatasetError) as error:
        listing(config, config.layout)
    assert "missing video files (6662)" in error.value.what
    assert "6562 more" in error.value.what
    assert len(config.layout.missing_videos.read_text().splitlines()) == 6662


def test_real_videos_meet_their_real_annotations(root: Path, shared: Path, tmp_path: Path) -> None:
    clips = shared / "videos"
    real = {"v_GGSY1Qvo990": clips / "v_GGSY1Qvo990.mp4", "v_ZNVhz7ctTq0": clips / "v_ZNVhz7ctTq0.mp4"}
    mini = build("activitynet", tmp_path / "a", shared / "annotations" / "activitynet", train=2, test=2, real=real)
    config = preset(root, mini, tmp_path)
    stage.run(config, config.layout)
    written = table.load(config.layout.annotations)
    queries = written.queries.set_index("query_id")
    assert queries.loc["v_GGSY1Qvo990#enc#0", "query"] == "A female weight lifter bends at the knees."
    assert queries.loc["v_ZNVhz7ctTq0#enc#1", "split"] == "train"
    assert written.moments["v_GGSY1Qvo990#enc#2"].tolist() == [[8.08, 18.16]]
    found = {source.video_id: source for source in listing(config, config.layout).videos}
    assert Path(found["v_GGSY1Qvo990"].paths[0]).read_bytes() == real["v_GGSY1Qvo990"].read_bytes()
    assert found["v_GGSY1Qvo990"].duration == 18.16

    mini = build(
        "charades", tmp_path / "c", shared / "annotations" / "charades", train=2, test=2, real={"Y1HGC": clips / "univtg_charades.mp4"}
    )
    config = preset(root, mini, tmp_path)
    stage.run(config, config.layout)
    mine = table.load(config.layout.annotations).queries
    assert "a person walks in a doorway drinking some coffee." in set(mine.loc[mine["video_id"] == "Y1HGC", "query"])
