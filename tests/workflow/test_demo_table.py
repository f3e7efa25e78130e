"""The README's demo table against a whole run of the demo: `make demo`, not cut."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.workspace import Workspace, demo_config

COLUMNS = ("R@1", "R@5", "R@10", "R@100", "SumR")
TRAINED = ("main", "no-motion")

Table = dict[str, list[float]]


def demo_text(root: Path) -> str:
    """The part of the README that shows the demo's output."""
    found = re.search(r"<!-- demo:begin -->(.*?)<!-- demo:end -->", (root / "README.md").read_text(), flags=re.S)
    assert found is not None
    return found[1]


def tables(text: str) -> list[Table]:
    """Every table of recalls in a text, in order: model -> its numbers."""
    found: list[Table] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[0] == "model" and cells[-len(COLUMNS) :] == list(COLUMNS):
            found.append({})
        elif found and len(cells) > len(COLUMNS) and re.fullmatch(r"[\d.]+", cells[-1]):
            found[-1][cells[0]] = [float(cell) for cell in cells[-len(COLUMNS) :]]
    return found


def band(text: str) -> float:
    """How far SumR of a trained row may be from the shown one on another processor, as the README says it: three deviations over seeds."""
    deviation = re.search(r"SumR [\d.]+ ± ([\d.]+)", text)
    said = re.search(r"within ([\d.]+) points of SumR", " ".join(text.split()))
    assert deviation is not None
    assert said is not None
    assert float(said[1]) <= 3.2 * float(deviation[1])
    return float(said[1])


@pytest.mark.long
@pytest.mark.timeout(1800)  # the whole demo beside another test: three minutes for each core it has alone
def test_the_readme_shows_what_the_demo_prints(root: Path, tmp_path: Path) -> None:
    work = Workspace(tmp_path, demo_config())
    work.snakemake()
    text = demo_text(root)
    ours, shown = tables((work.results / "table.md").read_text()), tables(text)
    assert len(shown) == 2
    for printed, readme in zip(ours, shown, strict=False):
        assert printed.keys() == readme.keys()
        for name in readme.keys() - set(TRAINED):
            assert printed[name] == readme[name], name
    for name in TRAINED:
        assert abs(ours[0][name][-1] - shown[0][name][-1]) <= band(text), (name, ours[0][name], shown[0][name])
    check_the_search(work, text)
    # What the README concludes from the table: what moves is told apart with SlowFast, and is lost without it.
    for table in ours[:2]:
        assert table["main"][-1] - table["zero-shot max-sim"][-1] > 40
        assert abs(table["no-motion"][-1] - table["zero-shot max-sim"][-1]) < 15


def check_the_search(work: Workspace, text: str) -> None:
    """The README's example answers with the video the sentence is about, at its moment; scores are a training's, and differ as it does."""
    command, shown = re.search(r"prvr (search .*?)\n```\n\n```text\n(.*?)```", text, flags=re.S).groups()  # type: ignore[union-attr]
    printed = work.prvr(*shlex.split(command)).stdout
    (ours, seconds), (theirs, their_seconds) = map(first_hit, (printed, shown))
    assert ours == theirs
    assert seconds == pytest.approx(their_seconds, abs=2)
    assert "the best answer stands out" in printed
    assert "the best answer stands out" in shown
    queries = pd.read_csv(work.results / "world" / "queries.csv")
    said = queries[(queries["path"] == ours) & (queries["start"] <= seconds) & (queries["end"] >= seconds)]["query"]
    assert list(said) == re.findall(r'^ +"(.*)"$', shown, flags=re.M)[:1], "what is shown of the video is said of that moment"
    times = [f"{value:.1f}" for value in queries.loc[said.index[0], ["start", "end"]]]
    assert "in the first the ball turns from 0:0{} to 0:0{}".format(*times) in " ".join(text.split())


def first_hit(printed: str) -> tuple[str, float]:
    """Of the first answer the file below the videos' folder, and its best instant in seconds."""
    line = next(line for line in printed.splitlines() if line.startswith("  1  "))
    minutes, seconds = re.search(r"\(best +(\d+):([\d.]+)\)", line).groups()  # type: ignore[union-attr]
    return re.search(r"videos/(\S+)$", line)[1], 60 * int(minutes) + float(seconds)  # type: ignore[index]
