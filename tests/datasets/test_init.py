"""`prvr init`: what a folder holds, the configuration and manifest written for it, and that nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config_io import load
from pipeline.datasets.sources import videos
from pipeline.errors import ConfigError, DatasetError
from pipeline.init import init, look
from pipeline.layout import Layout
from tests.datasets.miniature import KINDS, build, encode


@pytest.mark.parametrize("kind", KINDS)
def test_a_benchmark_is_recognised_and_its_preset_filled_in(kind: str, tmp_path: Path, root: Path) -> None:
    mini = build(kind, tmp_path / "data")
    (tmp_path / "data" / f"{kind}-invented").rename(tmp_path / "away")
    lines = init(tmp_path / "data", tmp_path / "made")
    config = load(tmp_path / "made" / f"{kind}.yaml")
    assert (config.dataset.kind, config.dataset.name) == (kind, kind)
    assert len(videos(config, Layout.of(config))) == 10
    assert "10 of 10 annotated videos are here" in lines
    written, preset = (path.read_text() for path in (tmp_path / "made" / f"{kind}.yaml", root / "config" / f"{kind}.yaml"))
    assert written.count("#") == preset.count("#")
    manifest = (tmp_path / "made" / f"{kind}.manifest.tsv").read_text().splitlines()
    assert manifest[0].split("\t") == ["video_id", "split", "queries", "seconds", "bytes", "files"]
    assert len(manifest) == 11
    assert str(mini.videos) in manifest[1]


def test_own_videos_with_queries(tmp_path: Path) -> None:
    folder = tmp_path / "my videos"
    encode(folder / "clips" / "a b.mp4", 1, 0)
    (folder / "list.csv").write_text("path,query,split\na b.mp4,a thing,test\n")
    lines = init(folder, tmp_path)
    config = load(tmp_path / "my-videos.yaml")
    assert config.dataset.kind == "own"
    assert [source.video_id for source in videos(config, Layout.of(config))] == ["a b"]
    assert any("list.csv" in line for line in lines)


def test_own_videos_without_queries_get_a_csv_to_fill_in(tmp_path: Path) -> None:
    for name in ("one.mp4", "deep/two.mkv"):
        encode(tmp_path / "v" / name, 1, 0)
    lines = init(tmp_path / "v", tmp_path)
    assert (tmp_path / "v.queries.csv").read_text().splitlines() == ["path,query,split,start,end", "deep/two.mkv,,,,", "one.mp4,,,,"]
    config = load(tmp_path / "v.yaml")
    assert config.dataset.annotations == ""
    assert len(videos(config, Layout.of(config))) == 2
    assert any("fill in the queries" in line for line in lines)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    encode(tmp_path / "v" / "one.mp4", 1, 0)
    (tmp_path / "v.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"already there: .*v\.yaml"):
        init(tmp_path / "v", tmp_path)
    assert (tmp_path / "v.yaml").read_text() == "mine"
    assert not (tmp_path / "v.queries.csv").exists()


def test_several_datasets_and_none_are_said_so(tmp_path: Path) -> None:
    build("charades", tmp_path / "data")
    build("tvr", tmp_path / "data")
    with pytest.raises(ConfigError, match=r"several datasets fit: (charades, tvr|tvr, charades)"):
        init(tmp_path / "data", tmp_path / "made")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no video and no annotation file"):
        init(tmp_path / "empty", tmp_path / "made")
    with pytest.raises(DatasetError, match="does not exist"):
        init(tmp_path / "nowhere", tmp_path / "made")


def test_missing_videos_are_counted_and_shown_in_the_manifest(tmp_path: Path) -> None:
    mini = build("activitynet", tmp_path / "data")
    (tmp_path / "data" / "activitynet-invented").rename(tmp_path / "away")
    next(mini.videos.rglob("*.mp4")).unlink()
    lines = init(tmp_path / "data", tmp_path / "made")
    assert "9 of 10 annotated videos are here" in lines
    rows = [line.split("\t") for line in (tmp_path / "made" / "activitynet.manifest.tsv").read_text().splitlines()[1:]]
    assert sum(row[5] == "" for row in rows) == 1


def test_bundles_are_named(tmp_path: Path) -> None:
    for path in (
        "mssl/tvr/FeatureData/i3d_resnet/feature.bin",
        "mssl/tvr/FeatureData/i3d_resnet/shape.txt",
        "msc/tvr/FeatureData/tvr_clip_L14.h5",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert look(tmp_path).bundles == {tmp_path / "msc/tvr": "MSC", tmp_path / "mssl/tvr": "MS-SL"}
