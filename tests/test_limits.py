"""The limits table: what it counts is what arithmetic says, its shares follow from that, and an impossible one is shown."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmarks import decode, limits, parts, peaks
from benchmarks.limits import Found
from benchmarks.parts import Part
from benchmarks.peaks import Peaks, operations
from pipeline.models.cpu import kernels
from pipeline.video.specimens import SPECIMENS, make
from tests.encoders.conftest import clip_entry, clip_folder, tiny_clip

CPU = torch.device("cpu")
MACHINE = Peaks({"fp32": 1e9, "bf16": 4e9}, copied=1e8, read=2e8)
SMALL = "--videos=6 --dim=32 --hidden=16 --queries=50 --gallery=40 --asked=20 --copied=4096 --repeats=1"


def product(m: int, n: int, k: int) -> Part:
    a, b = torch.ones(m, k), torch.ones(k, n)
    return Part("product", f"{m} {n} {k}", lambda: a @ b, lambda: operations(lambda: a @ b), 4 * (m * k + k * n + m * n), "all")


def found(part: Part, taken: tuple[float, float], threads: int = 1, floor: tuple[float, float] | None = None) -> Found:
    return Found(part, threads, part.count(), taken, floor)


@pytest.mark.parametrize("multiply", [torch.mm, lambda a, b: kernels.multiply(a, b.T), lambda a, b: torch.stack([a @ c for c in b.T])])
def test_a_product_is_2mnk_operations_by_every_library(multiply) -> None:
    a, b = torch.ones(7, 5), torch.ones(5, 3)
    assert operations(lambda: multiply(a, b)) == 2 * 7 * 5 * 3


def test_it_counts_what_the_other_threads_would_do() -> None:
    """The angle term hands its anchors to threads of its own, which a counter does not see."""
    from pipeline.objectives.tcpl import ANCHORS_PER_WORKER, angle

    rows = torch.randn(2 * ANCHORS_PER_WORKER, 8, generator=torch.Generator().manual_seed(0))
    counts, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        counts.append(operations(lambda: angle(rows, rows * rows)))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert counts[0] == counts[1] > len(rows) ** 3


def test_the_share_is_the_larger_bound_over_the_time() -> None:
    """100 x 100 x 100: 2e6 operations take 2 ms at the peak, 1.2e5 bytes 0.6 ms at the better bandwidth."""
    part = product(100, 100, 100)
    assert found(part, (0.004, 0.008)).share(MACHINE, "wall") == pytest.approx(0.5)
    assert found(part, (0.004, 0.01), threads=2).share(MACHINE, "cpu") == pytest.approx(0.4)
    assert found(product(100, 100, 1), (1.0, 1.0)).bounds(MACHINE, "wall") == pytest.approx({"operations": 2e-5, "bytes": 2.04e-4})
    part.precision = "bf16"
    assert found(part, (0.001, 0.001)).row(MACHINE, "wall").endswith("| bytes | 0.0006 | 0.001 | 0.001 | 0.6 |")
    assert found(part, (2.0, 2.0), floor=(0.5, 1.0)).bounds(MACHINE, "wall") == {"decoder": 0.5}


def test_what_cannot_be_is_shown() -> None:
    part = product(100, 100, 100)
    rows = [found(part, (0.001, 0.004)), found(part, (0.004, 0.004))]
    assert rows[0].row(MACHINE, "wall").endswith("| 2 |")
    assert limits.impossible(rows, {1: MACHINE}, "wall") == ["product (1)"]
    assert limits.impossible(rows, {1: MACHINE}, "cpu") == []


def test_the_better_of_two_measurements() -> None:
    other = Peaks({"fp32": 2e9, "bf16": 1e9}, copied=3e8, read=1e8)
    assert MACHINE.or_better(other) == Peaks({"fp32": 2e9, "bf16": 4e9}, copied=3e8, read=2e8)
    assert (MACHINE.bandwidth, other.bandwidth) == (2e8, 3e8)


def test_an_encoder_is_counted_whole(tmp_path: Path) -> None:
    """Of 32 pixels in patches of 16, 64 wide, 2 layers: linear layers and attention, whichever library multiplies them."""
    part = parts.encoding("tiny", clip_entry(clip_folder(tmp_path / "clip", tiny_clip())), 3, CPU)
    tokens, width = 5, 64
    layer = 2 * tokens * width * (3 + 1 + 4 + 4) * width + 2 * 2 * tokens * tokens * width
    assert part.count() == 3 * (2 * 4 * 3 * 16 * 16 * width + 2 * layer + 2 * width * 24)
    tower = tiny_clip().visual
    assert part.bytes == 3 * 32 * 32 * 3 + 4 * sum(parameter.numel() for parameter in tower.parameters()) + 4 * 3 * 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A video under one of the names that are decoded."""
    (specimen,) = [one for one in SPECIMENS if one.file == "late.mkv"]
    make(specimen, tmp_path).rename(tmp_path / parts.NAMES[0])
    return tmp_path


def test_the_whole_table(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(peaks, "SIDES", (64,))
    wanted = ["--parts", "step,op-tome,scores,ranks,decoding", "--profile", "op-tome", "--threads", "1", "--folder", str(folder)]
    limits.report(limits.arguments().parse_args([*SMALL.split(), *wanted]))
    said = capsys.readouterr().out
    rows = {cells[1].strip(): cells for line in said.splitlines() if len(cells := line.split("|")) == 13}
    for name in ("step", "op-tome", "scores", "ranks", "stills, pyav", "windows, pyav"):
        least, wall, processor, share = (float(cell) for cell in rows[name][8:12])
        assert min(least, wall, processor, share) > 0, name
        assert math.isfinite(share), name
        assert f"\n- {name}: " in said
    assert rows["scores"][5].strip() == f"{2 * 20 * 40 * 160 * 16 / 1e9:,.3g} G"
    assert rows["stills, pyav"][7].strip() == "decoder"
    assert "op-tome: aten::" in said


def test_a_wrong_part_or_folder_is_refused(tmp_path: Path) -> None:
    for wrong in (["--parts", "ranks,speed"], ["--parts", "decoding", "--folder", str(tmp_path)]):
        with pytest.raises(SystemExit, match=r"no part|none of the videos"):
            list(parts.parts(limits.arguments().parse_args(wrong), CPU, tmp_path))


def test_rates_of_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A row a file that is large enough; one that is no video is passed over."""
    (folder / "broken.mp4").write_bytes(b"no video")
    for lines, rows in ((1, 1), (10_000, 0)):
        monkeypatch.setattr(decode, "LINES", lines)
        decode.rates(folder, 1)
        found = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
        assert len(found) == rows
        for file, *_, seconds, stills, both in found:
            assert file.strip() == parts.NAMES[0]
            assert float(seconds) == pytest.approx(2, abs=0.1)
            assert min(float(stills), float(both)) > 0


@pytest.mark.slow
def test_files_are_divided_among_processes(folder: Path) -> None:
    wall, processor = parts.spread(parts.bare, [str(folder / parts.NAMES[0])] * 2, options=limits.arguments().parse_args(["--repeats=1"]))(
        2
    )
    assert wall > 0
    assert processor > 0
