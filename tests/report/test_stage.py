"""The report of a tiny dataset: what it says, what it must not let through, and what it says where something is not there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.store import create, open_store
from pipeline.report import page, pick, pictures
from tests.evaluation.conftest import World
from tests.report.conftest import HOSTILE, evaluated, report, reworded, sources

ADDRESSES = ("src", "href", "srcset", "data", "poster", "action", "formaction", "xlink:href")


class Page(HTMLParser):
    """Every element of the page, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open = tag

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open in self.inside:
            self.inside[self.open].append(data)

    def rows(self) -> dict[str, Any]:
        """The packed table of queries."""
        packed = next(attrs["data-rows"] for tag, attrs in self.elements if attrs.get("id") == "queries")
        return json.loads(gzip.decompress(base64.b64decode(packed or "")))


def words(text: str) -> str:
    """What a reader sees, without markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(script|style)>.*?</\1>", "", text)))


def test_numbers_pictures_and_a_hostile_caption(made: World, tmp_path: Path) -> None:
    text = report(made, sources(made, tmp_path / "videos"))
    parsed = Page(text)
    metrics = json.loads(made.layout.metrics("main", 1).read_text())
    assert f"zero-shot {metrics['recalls']['zero_shot']['R@1']:.1f}" in words(text)
    assert "mean of 2 seeds" in words(text)
    assert "Not evaluated yet: second seed 2." in words(text)
    # Nothing of the caption became markup, a formula or a template.
    assert len(parsed.inside["script"]) == 1
    assert "<img src=x" not in text
    assert not any("onerror" in attrs for _, attrs in parsed.elements)
    assert "$x_1$ {{ 7 * 6 }}" in words(text)
    assert parsed.rows()["rows"][0]["query"] == HOSTILE
    assert {row["group"] for row in parsed.rows()["rows"]} == {pick.cut(HOSTILE, 40)}
    # Nothing is asked of the network, and only the page's own script may run.
    for _, attrs in parsed.elements:
        for name in ADDRESSES:
            assert re.match(r"(data:image/webp;base64,|#|runs/|[\w.-]+$)", attrs.get(name) or "#"), (name, attrs)
    assert "url(" not in "".join(parsed.inside["style"])
    assert "@import" not in text
    policy = next(attrs["content"] or "" for tag, attrs in parsed.elements if attrs.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(parsed.inside["script"][0].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"script-src 'sha256-{digest}';" in policy
    stills = {attrs["src"] or "" for tag, attrs in parsed.elements if tag == "img"}
    assert len(stills) >= 20
    for still in stills:
        shown = Image.open(io.BytesIO(base64.b64decode(still.partition(",")[2])))
        assert (shown.format, shown.width <= 160) == ("WEBP", True)
    assert "1 of the videos shown could not be read" in words(text)
    assert report(made, sources(made, tmp_path / "videos")) == text


def test_a_dataset_with_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = words(report(world))
    assert "nothing has been trained and evaluated" in made
    assert "Nothing was ranked" in made
    assert "The quarantine is empty" in made
    assert "No job has been measured." in made
    world.layout.annotations.unlink()
    assert "There are no queries." in words(report(world))


def test_no_moments_one_seed_no_checkpoint_no_zero_shot_and_rows_of_before(tmp_path: Path) -> None:
    world = World(tmp_path)
    reworded(world, "text", moments=False)
    evaluated(world, ("main", 1))
    path, metrics = world.layout.evaluation("main", 1), json.loads(world.layout.metrics("main", 1).read_text())
    metrics["recalls"].pop("zero_shot")
    world.layout.metrics("main", 1).write_text(json.dumps(metrics))
    with open_store(path) as store:  # what it would be without the rows of the report
        table, top = (
            store.table("queries").drop(columns=["rank_zero_shot"]),
            {n: store.array(n) for n in ("videos", "top/videos", "top/scores")},
        )
    with create(path, stage="evaluation") as writer:
        writer.table("queries", table)
        for name, values in top.items():
            writer.array(name, values)
    world.layout.checkpoint("main", 1).unlink()
    made = words(report(world))
    assert "The annotations have no moments" in made
    assert "One seed: there is no band." in made
    assert "these checkpoints hold no course" in made.lower()
    assert "there is nothing to compare with" in made
    assert "nothing is won or lost" in made
    assert "evaluated before moments of its hits were kept" in made
    assert "There are no videos here to show" in made


def test_quarantine_times_and_other_runs(made: World) -> None:
    layout = made.layout
    lines = [f"v{i}\t<b>{i}</b>.mp4\tTRUNCATED\tcut <off>\tpyav\t1\tnow" for i in range(pick.ROWS + 7)]
    layout.quarantine.write_text("\n".join(["id\tpath\tcode\tmessage\tdecoder\tbytes\twhen", *lines]))
    (layout.benchmarks / "table").mkdir(parents=True)
    (layout.benchmarks / "table" / "table.tsv").write_text("s\tcpu_time\tmax_rss\n3.5\t2\t80\n")
    shutil.rmtree(layout.run("second", 1))
    for seed in (1, 2):  # as where no zero-shot reference could be had
        metrics = json.loads(layout.metrics("main", seed).read_text())
        metrics["moments"].pop("zero_shot")
        layout.metrics("main", seed).write_text(json.dumps(metrics))
    text = report(made)
    assert "a random instant would for" in words(text)
    assert "507 videos could not be used: TRUNCATED 507" in words(text)
    assert "v499" in text
    assert "v500" not in text
    assert "<b>1</b>" not in text
    assert re.search(r"<td class=\"text\">table</td><td>1</td><td>3.5</td><td>2.0</td><td>80</td>", text)


def test_the_sample_is_even_and_the_worst_are_wrong() -> None:
    ranks, own = np.array([1, 9, 1, 4, 2, 7, 1]), np.array([0, 1, 2, 3, 4, 1, 5])
    assert pick.sample(ranks, own, 3) == [0, 6, 5]  # the fifth and the first are of one video
    assert pick.worst(ranks, own, 3) == [1, 3, 4]
    assert pick.worst(np.array([1, 1]), [0, 1]) == []


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "0:00.0"), (7.55, "0:07.5"), (750.9, "12:30"), (3723, "1:02:03"), (float("nan"), "")])
def test_times_are_written_as_clocks(seconds: float, shown: str) -> None:
    assert page.clock(seconds) == shown


def test_stills_stay_within_their_share_of_the_page(tmp_path: Path, made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "BYTES", 1000)
    album = pictures.Album(sources(made, tmp_path / "videos"), 3.0)
    first, *others = album.stills(made.ids[1], [0.1, 1.1, 2.1, 3.1])
    assert len(first) > 200
    assert others[-1] == ""
    assert album.still(made.ids[0], 1.0) == ""  # its file is gone
    assert album.still(made.ids[1], 0.1) == first
