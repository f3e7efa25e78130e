"""The commands about the embedded demo world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import load
from pipeline.core.errors import ConfigError

demo = typer.Typer(help="The embedded demo world.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add them."""
    app.add_typer(demo, name="demo")


@demo.command()
def pretrain(
    folder: Annotated[Path | None, typer.Option("--folder", help="Where the weights go; by default into the package.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this encoder; repeat.")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that draw the lessons.", min=1)] = 2,
) -> None:
    """Train the demo's tiny encoders on frames, captions and motions independent of the demo videos (an hour on 2 cores)."""
    from pipeline.demo import pretrain as lessons

    lessons.run(folder or lessons.WEIGHTS, only or lessons.NAMES, workers=workers)


@demo.command()
def sheet(
    path: Annotated[Path, typer.Argument(help="The PNG to write.")],
    video: Annotated[str, typer.Option("--video", help="Its id; by default the first test video.")] = "",
    config: Config = "config.yaml",
) -> None:
    """Draw the contact sheet of one demo video: its events over time, with their captions."""
    from pipeline.demo.sheet import save
    from pipeline.demo.world import world

    specs = world(load(config).demo)
    named = {spec.video_id: spec for spec in specs}
    if video and video not in named:
        raise ConfigError(f"the demo has no video {video!r}", where=config, fix=f"one of {specs[0].video_id} ... {specs[-1].video_id}")
    save(named[video] if video else next(spec for spec in specs if spec.split == "test"), path)
    print(path)
