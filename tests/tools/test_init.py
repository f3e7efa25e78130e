"""`prvr init`: what a folder holds, the configuration and manifest written for it, and that nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.reading import load
from pipeline.core.errors import ConfigError, DatasetError
from pipeline.jobs.videos import listing
from pipeline.tools.init import init, init_demo
from pipeline.tools.recognise import look
from tests.datasets.miniature import KINDS, build, encode


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, which the configurations name by a relative path, are written away from the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_benchmark_is_recognised_and_its_preset_filled_in(kind: str, tmp_path: Path, root: Path) -> None:
    mini = build(kind, tmp_path / "data")
    (tmp_path / "data" / f"{kind}-invented").rename(tmp_path / "away")
    lines = init(tmp_path / "data", tmp_path / "made")
    config = load(tmp_path / "made" / f"{kind}.yaml")
    assert (config.dataset.kind, config.dataset.name) == (kind, kind)
    assert len(listing(config, config.layout).videos) == 10
    assert "10 of 10 annotated videos are here" in lines
    written, preset = (path.read_text() for path in (tmp_path / "made" / f"{kind}.yaml", root / "config" / f"{kind}.yaml"))
    assert written.count("#") == preset.count("#")
    manifest = (tmp_path / "made" / f"{kind}.manifest.tsv").read_text().splitlines()
    assert manifest[0].split("\t") == ["video_id", "split", "queries", "seconds", "bytes", "files"]
    assert len(manifest) == 11
    assert str(mini.videos) in manifest[1]


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    encode(tmp_path / "disk" / "a.mp4", 1, 0)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "videos").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(folder)
    assert look(folder).videos == {folder / "videos": 1}


def test_own_videos_with_queries(tmp_path: Path) -> None:
    folder = tmp_path / "my videos"
    encode(folder / "clips" / "a b.mp4", 1, 0)
    (folder / "list.csv").write_text("path,query,split\na b.mp4,a thing,test\n")
    lines = init(folder, tmp_path)
    config = load(tmp_path / "my-videos.yaml")
    assert config.dataset.kind == "own"
    assert [source.video_id for source in listing(config, config.layout).videos] == ["a b"]
    assert any("list.csv" in line for line in lines)
    assert lines[lines.index("next:") + 1].startswith("  # no query is of split val")


def test_own_videos_without_queries_get_a_csv_to_fill_in(tmp_path: Path) -> None:
    for name in ("one.mp4", "deep/two.mkv"):
        encode(tmp_path / "v" / name, 1, 0)
    lines = init(tmp_path / "v", tmp_path)
    assert (tmp_path / "v.queries.csv").read_text().splitlines() == ["path,query,split,start,end", "deep/two.mkv,,,,", "one.mp4,,,,"]
    config = load(tmp_path / "v.yaml")
    assert config.dataset.annotations == str(tmp_path / "v.queries.csv")
    assert len(listing(config, config.layout).videos) == 2
    assert listing(config, config.layout).queries == {}
    assert any("fill in the queries" in line for line in lines)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    encode(tmp_path / "v" / "one.mp4", 1, 0)
    (tmp_path / "v.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"already there: .*v\.yaml"):
        init(tmp_path / "v", tmp_path)
    assert (tmp_path / "v.yaml").read_text() == "mine"
    assert not (tmp_path / "v.queries.csv").exists()
    init(tmp_path / "v", tmp_path / "other")  # what the message says
    assert load(tmp_path / "other" / "v.yaml").dataset.kind == "own"
    init_demo(tmp_path / "other")
    with pytest.raises(ConfigError, match="move it away, or choose another folder with --to"):
        init_demo(tmp_path / "other")
    init_demo(tmp_path / "third")


def test_several_datasets_and_none_are_said_so(tmp_path: Path) -> None:
    build("charades", tmp_path / "data")
    build("tvr", tmp_path / "data")
    with pytest.raises(ConfigError, match=r"several datasets fit: (charades, tvr|tvr, charades)"):
        init(tmp_path / "data", tmp_path / "made")
    init(tmp_path / "data", tmp_path / "made", kind="tvr")  # what the message says
    with pytest.raises(ConfigError, match=r"no kind of dataset 'charade'\n.*\n.*did you mean charades\?"):
        init(tmp_path / "data", tmp_path / "made", kind="charade")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no video and no annotation file(.|\n)*videos end in .*\.mp4"):
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
    assert {bundle.folder: bundle.layout for bundle in look(tmp_path).bundles} == {
        tmp_path / "msc/tvr": "MSC",
        tmp_path / "mssl/tvr": "MS-SL",
    }
    with pytest.raises(DatasetError, match="feature bundles and nothing else"):
        init(tmp_path, tmp_path / "made")


def msc_bundle(folder: Path, *, test: bool = False) -> Path:
    """The files of a bundle of ActivityNet by name; its features are not looked at here."""
    for path in ("FeatureData/activitynet_clip_L14.h5", "TextData/activitynet_clip_L14.h5"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    lists = {"train": "v_b#enc#0 One.\nv_a#enc#0 Two.\n", "val": "v_c#enc#0 Three.\nv_c#enc#1 Four.\n"}
    for split, text in {**lists, **({"test": lists["val"]} if test else {})}.items():
        (folder / "TextData" / f"activitynet{split}.caption.txt").write_text(text)
    return folder


@pytest.mark.parametrize("test", [False, True])
def test_a_bundle_alone_gets_the_preset_on_its_own_lists(tmp_path: Path, test: bool) -> None:
    folder = msc_bundle(tmp_path / "bundle", test=test)
    lines = init(folder, tmp_path)
    text = (tmp_path / "activitynet-msc.yaml").read_text()
    config = load(tmp_path / "activitynet-msc.yaml")
    main = config.experiment("main")
    assert (config.dataset.kind, config.dataset.gallery, config.dataset.videos) == ("bundle", None, "")
    assert (main.features, main.text, {encoder.kind for encoder in config.encoders.values()}) == (["msc-video"], "msc-text", {"imported"})
    assert (main.training.selection_split, main.evaluation.split, main.training.learning_rate) == ("val", "val", 2.5e-4)
    assert "4,917" not in text.split("encoders:")[0].split("dataset:")[1]
    assert {"  train: 2 videos, 2 queries", "  val: 1 videos, 2 queries"} < set(lines)
    assert f"  prvr import {folder} --config {tmp_path / 'activitynet-msc.yaml'} --video msc-video --text msc-text" in lines
    rows = [line.split("\t")[:3] for line in (tmp_path / "activitynet-msc.manifest.tsv").read_text().splitlines()]
    assert rows[1:] == [["v_b", "train", "1"], ["v_a", "train", "1"], ["v_c", "val", "2"]]


def test_a_bundle_stands_in_for_absent_videos(tmp_path: Path) -> None:
    mini = build("activitynet", tmp_path / "data")
    (tmp_path / "data" / "activitynet-invented").rename(tmp_path / "away")
    folder = msc_bundle(tmp_path / "data" / "msc")
    assert "clip-l14" in (init(tmp_path / "data", tmp_path / "with"), (tmp_path / "with" / "activitynet.yaml").read_text())[1]
    mini.videos.rename(tmp_path / "videos")
    lines = init(tmp_path / "data", tmp_path / "without")
    config = load(tmp_path / "without" / "activitynet.yaml")
    assert (config.dataset.kind, config.dataset.gallery, set(config.encoders)) == ("activitynet", "val_1", {"msc-video", "msc-text"})
    assert f"no videos here: features from {folder}" in lines
    assert any(line.startswith("  prvr import ") for line in lines)


def test_a_benchmark_without_videos_says_what_comes_first(tmp_path: Path) -> None:
    mini = build("charades", tmp_path / "data")
    mini.videos.rename(tmp_path / "videos")
    lines = init(mini.annotations, tmp_path / "made")
    assert lines[lines.index("next:") + 1].startswith("  # name their folder as dataset.videos")
    assert "  test: 4 videos, 8 queries" in lines


def test_values_that_need_quotes_have_them(tmp_path: Path) -> None:
    for name in ("2024", "a 'b' #1"):
        folder = tmp_path / name
        encode(folder / "one.mp4", 1, 0)
        (folder / "q.csv").write_text("path,query,split\none.mp4,x,test\n")
        init(folder, tmp_path / "made" / name)
        (written,) = (tmp_path / "made" / name).glob("*.yaml")
        config = load(written)
        assert config.dataset.videos == str(folder)
        assert config.dataset.name == written.stem
