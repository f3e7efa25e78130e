"""Random queries of a generated world as one picture: what was asked, the moment it was asked about, and the first answers of a run.

python -m benchmarks.world_queries [--configfile config/world.yaml] [--experiment msc] [--seed 1] [--output FILE.png]
"""

from __future__ import annotations

import argparse
import random
import textwrap
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.world import evaluated
from pipeline.config.reading import load
from pipeline.config.schema import Config
from pipeline.core.store import open_store
from pipeline.demo.render import HEIGHT, WIDTH
from pipeline.demo.scenes import Query
from pipeline.demo.world import relevant, world
from pipeline.report.pick import Ranking, read
from pipeline.video.still import still

QUERIES, ANSWERS, COLUMNS = 12, 3, 2
INK, FAINT, PAPER = (32, 35, 42), (110, 116, 128), (255, 255, 255)
MARKS = {"asked": (80, 90, 110), "right": (34, 130, 60), "also true": (30, 100, 190), "wrong": (196, 52, 40)}
WIDE, HIGH = WIDTH * 3 // 2, HEIGHT * 3 // 2  # a frame, px
EDGE, GAP, MARGIN, LINE, CHARACTERS = 4, 12, 24, 20, 74
TEXT, NOTE = 16, 13  # px
CELL = (4 * (WIDE + 2 * EDGE) + 3 * GAP, 2 * LINE + HIGH + 2 * EDGE + 34)


@dataclass(frozen=True)
class Shot:
    """One frame: what it is (a key of MARKS), its title, its video and the instant in s."""

    kind: str
    title: str
    video: str
    seconds: float


def some_queries(config: Config, asked: Container[str], draw: int) -> list[Query]:
    """Twelve of the queries that were asked, by chance."""
    queries = [query for video in world(config.demo) for query in video.queries if query.query_id in asked]
    return random.Random(draw).sample(queries, min(QUERIES, len(queries)))


def shots(config: Config, query: Query, row: int, ranking: Ranking) -> list[Shot]:
    """The middle of the moment, and the frame with which each of the first answers answers best."""
    own, truth = ranking.videos[ranking.own[row]], relevant(config.demo)[query.query_id]
    found = [Shot("asked", "asked about", own, (query.start + query.end) / 2)]
    for place in range(min(ANSWERS, ranking.top.shape[1])):
        video = ranking.videos[ranking.top[row, place]]
        kind = "right" if video == own else "also true" if video in truth else "wrong"
        found.append(Shot(kind, f"{place + 1}. {kind}", video, ranking.best_time(row, place)))
    return found


def picture(config: Config, experiment: str, seed: int, draw: int = 0) -> Image.Image:
    """The picture of a finished run. Errors: StoreMissing without one; VideoError where a video cannot be shown."""
    with open_store(config.layout.evaluation(experiment, seed), stage="evaluation") as store:
        ranking = read(store)
        rows = {str(query): row for row, query in enumerate(store.array("queries/query_id"))}
    queries = some_queries(config, rows, draw)
    lines = -(-len(queries) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * CELL[0] + (COLUMNS - 1) * 2 * MARGIN
    page = Image.new("RGB", (width, 2 * MARGIN + lines * CELL[1] + (lines - 1) * MARGIN), PAPER)
    for number, query in enumerate(queries):
        column, line = number % COLUMNS, number // COLUMNS
        corner = MARGIN + column * (CELL[0] + 2 * MARGIN), MARGIN + line * (CELL[1] + MARGIN)
        _cell(page, corner, query.query, shots(config, query, rows[query.query_id], ranking), config.layout.world / "videos")
    return page


def _cell(page: Image.Image, corner: tuple[int, int], text: str, row: list[Shot], folder: Path) -> None:
    """A query and its frames, each in an edge of its kind's colour with a line below."""
    pen, (left, top) = ImageDraw.Draw(page), corner
    for i, line in enumerate(textwrap.wrap(f"“{text}”", CHARACTERS, max_lines=2, placeholder=" ...”")):
        pen.text((left, top + i * LINE), line, INK, ImageFont.load_default(TEXT))
    top += 2 * LINE + 4
    for i, shot in enumerate(row):
        x = left + i * (WIDE + 2 * EDGE + GAP)
        pen.rectangle((x, top, x + WIDE + 2 * EDGE - 1, top + HIGH + 2 * EDGE - 1), MARKS[shot.kind])
        frame = still(str(folder / f"{shot.video}.mp4"), shot.seconds).resize((WIDE, HIGH), Image.Resampling.BICUBIC)
        page.paste(frame, (x + EDGE, top + EDGE))
        where = f"{shot.video}, {int(shot.seconds) // 60}:{int(shot.seconds) % 60:02d}"
        pen.text((x, top + HIGH + 2 * EDGE + 1), shot.title, MARKS[shot.kind], ImageFont.load_default(NOTE))
        pen.text((x, top + HIGH + 2 * EDGE + 15), where, FAINT, ImageFont.load_default(NOTE))


def save(page: Image.Image, path: Path) -> None:
    """As a PNG of few colours, for a repository."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", default="config/world.yaml")
    parser.add_argument("--experiment", help="by default the first that was evaluated")
    parser.add_argument("--seed", type=int, help="of its runs; by default the first")
    parser.add_argument("--draw", type=int, default=0, help="another number draws other queries")
    parser.add_argument("--output", type=Path, help="by default docs/images/<world>-queries.png")
    given = parser.parse_args()
    config = load(given.configfile)
    output = given.output or Path(f"docs/images/{config.demo.world}-queries.png")
    seed = config.seeds[0] if given.seed is None else given.seed
    save(picture(config, given.experiment or evaluated(config, [seed])[0], seed, given.draw), output)


if __name__ == "__main__":
    main()
