"""Bundles come in whole, go out as they came, and every fault of one is listed at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import Config
from pipeline.core.errors import BundleError, DatasetError, GridError, StoreDamaged
from pipeline.core.layout import Layout
from pipeline.core.store import create, create_foreign, open_foreign, open_store
from pipeline.datasets import table
from pipeline.datasets.rows import Query, Rows, Video
from pipeline.interchange.bundle import BigFile
from pipeline.interchange.captioned import open_captioned
from pipeline.interchange.checks import check
from pipeline.interchange.exporting import export_captioned, export_npz, features
from pipeline.interchange.importing import import_bundle
from pipeline.interchange.npz import open_npz

from .conftest import Made


def tokens_of(layout: Layout) -> Any:
    with open_store(layout.text("clip"), stage="text") as store:
        return store.ragged("tokens")


def test_an_msc_bundle_is_stored_unchanged_under_the_caption_lists_ids(made: Made, config: Config, layout: Layout) -> None:
    with open_captioned(made.msc()) as bundle:
        findings = import_bundle(bundle, config, layout, video="clip", text="clip")
    stored = dict(features(layout, ["clip"]))
    assert set(stored) == set(made.features)
    for name, rows in stored.items():
        np.testing.assert_array_equal(rows, made.features[name])
        assert rows.dtype == np.float32
    tokens = tokens_of(layout)
    for i, name in enumerate(tokens.ids):
        np.testing.assert_array_equal(tokens[name], made.tokens[name])
        # The released code cuts to the word limit and takes the last row for [EOS].
        np.testing.assert_array_equal(tokens.items["sentence"][i], made.tokens[name][min(len(made.tokens[name]), 5) - 1])
    assert tokens.items["truncated"].sum() == sum(len(t) > 5 for t in made.tokens.values())
    assert any("4 videos are stored under another key, e.g. v_a_b as a_b" in note for note in findings.notes)
    annotations = table.load(layout.annotations)
    assert list(annotations.queries["query_id"]) == [c for captions in made.captions.values() for c, _ in captions]
    assert annotations.videos["split"].tolist() == ["train", "train", "val", "val"]
    assert findings.facts["video_rows"]["of_one_row"] == 1


def test_an_mssl_bundle_reads_its_big_file_and_has_no_sentence(made: Made, config: Config, layout: Layout) -> None:
    with open_captioned(made.mssl()) as bundle:
        import_bundle(bundle, config, layout, video="clip", text="clip")
    for name, rows in features(layout, ["clip"]):
        np.testing.assert_array_equal(rows, made.features[name])
    tokens = tokens_of(layout)
    np.testing.assert_array_equal(tokens["v_d#enc#1"], made.tokens["v_d#enc#1"])
    assert "sentence" not in tokens.items


@pytest.mark.parametrize("kind", ["msc", "mssl"])
def test_out_and_in_again_changes_nothing(made: Made, config: Config, layout: Layout, tmp_path: Path, kind: str) -> None:
    with open_captioned(made.msc()) as bundle:
        import_bundle(bundle, config, layout, video="clip", text="clip")
    target = tmp_path / "out"
    export_captioned(layout, target, video=["clip"], text="clip", collection="activitynet", kind=kind)
    if kind == "msc":
        with open_foreign(target / "FeatureData" / "activitynet_clip_L14.h5") as file:
            assert set(file) == {name.removeprefix("v_") for name in made.features}
    for split in ("train", "val"):
        name = f"activitynet{split}.caption.txt"
        assert (target / "TextData" / name).read_text() == (made.root / "TextData" / name).read_text()
    again = Layout(tmp_path / "again")
    with open_captioned(target) as bundle:
        import_bundle(bundle, config, again, video="clip", text="clip", teacher="last_token")
    for shard in ("000", "001"):
        with open_store(layout.features("clip", shard)) as a, open_store(again.features("clip", shard)) as b:
            assert a.ragged("features").ids == b.ragged("features").ids
            np.testing.assert_array_equal(a.ragged("features").values, b.ragged("features").values)
    np.testing.assert_array_equal(tokens_of(layout).items["sentence"], tokens_of(again).items["sentence"])


def test_release_files_give_durations_moments_and_row_times(made: Made, config: Config, layout: Layout, tmp_path: Path) -> None:
    root = made.msc()
    rows = [
        '{"vid_name": "v_d", "duration": 8.0, "ts": [1, 3], "desc": "caption 1 of v_d"}',
        '{"vid_name": "v_d", "duration": 8.0, "ts": [5, 6], "desc": "caption 1 of v_d"}',
    ]
    (root / "activitynet_val_release.jsonl").write_text("\n".join(rows))
    with open_captioned(root) as bundle:
        import_bundle(bundle, config, layout, video="clip", text="clip")
    annotations = table.load(layout.annotations)
    assert annotations.moments["v_d#enc#1"].tolist() == [[1, 3], [5, 6]]
    assert annotations.moments["v_d#enc#0"].shape == (0, 2)
    times = {}
    for shard in ("000", "001"):
        with open_store(layout.features("clip", shard)) as store:
            data = store.ragged("features")
            times |= {v: data.columns["end"][data.rows(v)].tolist() for v in data.ids}
    assert times["v_d"] == [2, 4, 6, 8]
    assert np.isnan(times["v_e"]).all()
    export_captioned(layout, tmp_path / "out", video=["clip"], text="clip", collection="activitynet")
    again = Layout(tmp_path / "again")
    with open_captioned(tmp_path / "out") as bundle:
        import_bundle(bundle, config, again, video="clip", text="clip")
    assert table.load(again.annotations).moments["v_d#enc#1"].tolist() == [[1, 3], [5, 6]]


def test_npz_folders_are_set_side_by_side_and_merged(made: Made, config: Config, layout: Layout, tmp_path: Path) -> None:
    given = made.npz()
    with open_npz(**given, merge=True) as bundle:
        assert bundle.durations == {"y_t": 14.0, "z": 4.0}
        assert bundle.splits["val"][0].moments == ((8.0, 10.0), (12.0, 14.0))
        import_bundle(bundle, config, layout, video="clip", text="clip")
    stored = dict(features(layout, ["clip"]))
    parts = [
        np.concatenate([np.load(f / f"{vid}.npz")["features"][:n] for f in given["videos"]], 1)
        for vid, n in (("y_t_0.0_8.0", 4), ("y_t_8.0_14.0", 3))
    ]
    np.testing.assert_array_equal(stored["y_t"], np.concatenate(parts))
    assert stored["y_t"].dtype == np.float16
    tokens = tokens_of(layout)
    np.testing.assert_array_equal(tokens.items["sentence"][tokens.index["9"]], np.load(given["text"] / "qid9.npz")["pooler_output"])
    export_npz(layout, tmp_path / "out", video=["clip"], text="clip")
    again = Layout(tmp_path / "again")
    with open_npz({"val": tmp_path / "out" / "val.jsonl"}, [tmp_path / "out" / "clip"], tmp_path / "out" / "text") as bundle:
        import_bundle(bundle, config, again, video="clip", text="clip")
    np.testing.assert_array_equal(dict(features(again, ["clip"]))["y_t"], stored["y_t"])
    assert table.load(again.annotations).moments["7"].tolist() == [[8, 10], [12, 14]]


def test_every_fault_is_listed_at_once_and_nothing_is_written(made: Made, config: Config, layout: Layout) -> None:
    made.features["v_a_b"][2, 1] = np.nan
    made.features["v_-c"] = np.zeros((3, 6), dtype=np.float32)
    made.features["v_e"] = np.ones((1, 7), dtype=np.float32)
    del made.features["v_d"], made.tokens["v_e#enc#1"]
    with open_captioned(made.msc()) as bundle, pytest.raises(BundleError) as caught:
        import_bundle(bundle, config, layout, video="clip", text="clip")
    for line in (
        "videos without features (1):\n  v_d",
        "captions without text features (1):\n  v_e#enc#1",
        "video rows of another width than 6 (1):\n  v_e: (1, 7)",
        "video rows that are not numbers (1):\n  v_a_b: rows 2 of 5",
        "video arrays of zeros only (1):\n  v_-c: 3 rows",
    ):
        assert line in str(caught.value)
    assert not layout.root.exists()


def test_missing_videos_may_be_left_out(made: Made, config: Config, layout: Layout) -> None:
    del made.features["v_d"]
    with open_captioned(made.msc()) as bundle:
        findings = import_bundle(bundle, config, layout, video="clip", text="clip", allow_missing=True)
    assert findings.missing_videos == ["v_d"]
    assert set(dict(features(layout, ["clip"]))) == {"v_a_b", "v_-c", "v_e"}
    assert "v_d" in set(table.load(layout.annotations).videos["video_id"])


def test_identical_lists_are_noted_and_shared_videos_refused(made: Made) -> None:
    root = made.msc()
    text = root / "TextData"
    (text / "activitynettest.caption.txt").write_text((text / "activitynetval.caption.txt").read_text())
    with open_captioned(root) as bundle:
        findings = check(bundle)
    assert not findings.problems
    assert any("val and test lists are identical" in note for note in findings.notes)
    (text / "activitynettest.caption.txt").write_text("v_d#enc#0 caption 0 of v_d\n")
    with open_captioned(root) as bundle:
        assert check(bundle).problems == {"videos in both the val and the test list": ["v_d"]}


def test_annotations_of_the_dataset_decide_and_texts_must_agree(made: Made, config: Config, layout: Layout) -> None:
    root = made.msc()
    with open_captioned(root) as bundle:
        import_bundle(bundle, config, layout, video="clip", text="clip")
    annotations = table.load(layout.annotations)
    annotations.queries["query_id"] = [f"q{i}" for i in range(len(annotations.queries))]
    annotations.moments.update({f"q{i}": np.zeros((0, 2)) for i in range(len(annotations.queries))})
    table.save(layout.annotations, annotations)
    with open_captioned(root) as bundle:
        import_bundle(bundle, config, layout, video="clip", text="clip", annotations=annotations)
    np.testing.assert_array_equal(tokens_of(layout)["q1"], made.tokens["v_a_b#enc#1"])
    annotations.queries.loc[3, "query"] = "something else"
    with open_captioned(root) as bundle, pytest.raises(BundleError, match=r"text differs.*\n.*v_-c#enc#1: 'something else'"):
        import_bundle(bundle, config, layout, video="clip", text="clip", annotations=annotations)


def test_a_big_file_that_disagrees_with_itself_is_refused(made: Made) -> None:
    folder = made.mssl() / "FeatureData" / "i3d"
    (folder / "video2frames.txt").write_text("{'v_d': ['v_d_0', 'nowhere', 'elsewhere']}")
    with pytest.raises(BundleError, match=r"v_d: nowhere\n  v_d: elsewhere"):
        BigFile(folder)
    (folder / "video2frames.txt").write_text("__import__('os').system('true')")
    with pytest.raises(BundleError, match="not a dictionary literal"):
        BigFile(folder)
    (folder / "feature.bin").write_bytes(b"\0" * 12)
    with pytest.raises(BundleError, match="12 bytes"):
        BigFile(folder)
    (folder / "id.txt").unlink()
    with pytest.raises(BundleError, match=r"files missing: id\.txt"):
        BigFile(folder)


def test_choices_and_bad_places_are_named(made: Made, tmp_path: Path) -> None:
    root = made.msc()
    with create_foreign(root / "FeatureData" / "other.h5") as put:
        put("x", np.zeros((1, 2)))
    with pytest.raises(BundleError, match=r"2 video feature files .*activitynet_clip_L14, other"), open_captioned(root):
        pass
    with open_captioned(root, video="activitynet_clip_L14") as bundle:
        assert len(bundle.videos) == 4
    with pytest.raises(BundleError, match="no video features 'nothing'"), open_captioned(root, video="nothing"):
        pass
    with pytest.raises(BundleError, match="no caption list"), open_captioned(tmp_path):
        pass
    (root / "TextData" / "activitynetval.caption.txt").write_text("v_d#enc#0 fine\nno id here\nv_d#enc#1\n")
    with pytest.raises(DatasetError, match=r"(?s)line 2.*line 3"), open_captioned(root, video="other"):
        pass
    (root / "FeatureData" / "other.h5").write_bytes(b"\x89HDF")
    (root / "TextData" / "activitynetval.caption.txt").unlink()
    with pytest.raises(StoreDamaged), open_captioned(root, video="other"):
        pass


def test_export_needs_a_collection_that_names_a_file(made: Made, config: Config, layout: Layout, tmp_path: Path) -> None:
    with open_captioned(made.msc()) as bundle:
        import_bundle(bundle, config, layout, video="clip", text="clip")
    with pytest.raises(BundleError, match="give another --collection"):
        export_captioned(layout, tmp_path / "out", video=["clip"], text="clip", collection="a/b", kind="msc", rename=None)
    export_captioned(layout, tmp_path / "out", video=["clip"], text="clip", collection="ab", kind="msc", rename=None)


def test_export_refuses_different_grids_and_unusable_ids(config: Config, layout: Layout, tmp_path: Path) -> None:
    for encoder, rows in (("clip", 3), ("slow", 4)):
        with create(layout.features(encoder, "000"), stage="features") as writer:
            start = np.arange(rows, dtype=np.float64)
            writer.append("features", "a b", np.zeros((rows, 2)), {"start": start, "end": start + 1}, {"key": "k", "duration": 1.0})
    with pytest.raises(GridError, match="a b: 3 rows of clip and 4 rows of slow"):
        list(features(layout, ["clip", "slow"]))
    with create(layout.text("clip"), stage="text") as writer:
        writer.append("tokens", "q", np.zeros((2, 2)), None, {"truncated": False, "key": "k"})
    annotations = table.of(Rows((Video("a b", "val"),), (Query("q", "a b", "val", "text"),)))
    table.save(layout.annotations, annotations)
    with pytest.raises(DatasetError, match="a b#enc#0"):
        export_captioned(layout, tmp_path / "out", video=["clip"], text="clip", collection="own")


def test_official_qvhighlights_features_read_as_published(shared: Path, config: Config, layout: Layout, tmp_path: Path) -> None:
    """Real moment_detr files of one clip: 75 rows of CLIP and SlowFast, 13 tokens with their pooled vector."""
    oracle, vid, qid = shared / "annotations" / "oracle", "qtyBzFV9yTs_60.0_210.0", 5263
    for folder, name, source in (
        ("clip", vid, f"qvh_clip_{vid}"),
        ("slowfast", vid, f"qvh_slowfast_{vid}"),
        ("text", f"qid{qid}", f"qvh_cliptext_qid{qid}"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.npz").symlink_to(oracle / f"{source}.npz")
    line = {"qid": qid, "query": "Animation of the planet earth", "vid": vid, "duration": 150, "relevant_windows": [[0, 10]]}
    (tmp_path / "train.jsonl").write_text(json.dumps(line) + "\n")
    with open_npz({"train": tmp_path / "train.jsonl"}, [tmp_path / "slowfast", tmp_path / "clip"], tmp_path / "text") as bundle:
        findings = import_bundle(bundle, config, layout, video="clip", text="clip")
    assert (findings.facts["video_width"], findings.facts["text_width"]) == (2816, 512)
    rows = dict(features(layout, ["clip"]))[vid]
    assert rows.shape == (75, 2816)
    np.testing.assert_array_equal(rows[:, 2304:], np.load(oracle / f"qvh_clip_{vid}.npz")["features"])
    assert tokens_of(layout).items["sentence"].shape == (1, 512)


def test_a_benchmarks_own_annotations_decide_where_the_configuration_names_them(made: Made, config: Config, tmp_path: Path) -> None:
    """TVR's validation file as published, and a bundle that lists its captions under the field's ids."""
    folder = tmp_path / "tvr"
    folder.mkdir()
    train, silent = "castle_s01e01_seg02_clip_00", "met_s01e01_seg02_clip_01"
    first, second = "friends_s01e03_seg02_clip_19", "s01e01_seg01_clip_01"
    durations = {"train": {train: [10.0, 0], silent: [12.0, 1]}, "val": {first: [60.0, 2], second: [61.0, 3]}}
    (folder / "tvr_video2dur_idx.json").write_text(json.dumps(durations))
    (folder / "tvrtrain.caption.txt").write_text(f"{train}#enc#0 a caption\n")
    rows = [
        {"vid_name": video, "duration": 60.0, "ts": [1.0 + k, 5.0], "desc": f"caption {k} of {video}", "desc_id": 10 * i + k}
        for i, video in enumerate((first, second))
        for k in range(2)
    ]
    (folder / "tvr_val_release.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made.features = {video: np.full((4, 6), i + 1, np.float32) for i, video in enumerate((train, silent, first, second))}
    listed = [(f"{r['vid_name']}#enc#{i % 2}", r["desc"]) for i, r in enumerate(rows)]
    made.captions = {"train": [(f"{train}#enc#0", "a caption")], "val": listed}
    made.tokens = {cap: np.ones((3, 4), np.float32) for captions in made.captions.values() for cap, _ in captions}
    root = made.msc()
    dataset = {"name": "tvr", "kind": "tvr", "annotations": str(folder)}
    tvr = Config.model_validate({**config.model_dump(exclude_unset=True), "dataset": dataset})
    layout = tvr.layout
    with open_captioned(root) as bundle:
        import_bundle(bundle, tvr, layout, video="clip", text="clip")
    assert not layout.annotations.exists()  # the annotations stage writes them
    assert tokens_of(layout).ids == [f"{train}#enc#0", "0", "1", "10", "11"]
    # A video no query names is there too: the shards are those of the annotations.
    assert set(dict(features(layout, ["clip"]))) == {train, silent, first, second}
