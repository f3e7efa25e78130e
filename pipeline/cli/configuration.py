"""The commands about the configuration and what is made from its model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import load

configuration = typer.Typer(help="The configuration: check it, show it, regenerate what is made from its model.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add them."""
    app.add_typer(configuration, name="config")


@configuration.command()
def check(config: Config = "config.yaml") -> None:
    """Check a configuration and name its experiments."""
    loaded = load(config)
    print(
        f"{config}: dataset {loaded.dataset.name}, experiments {', '.join(loaded.experiments)}, seeds {', '.join(map(str, loaded.seeds))}"
    )


@configuration.command()
def show(
    config: Config = "config.yaml",
    experiment: Annotated[str, typer.Option("--experiment", help="Only this one; it may be an ablation's or a sweep's.")] = "",
) -> None:
    """Print the configuration with every default written out, as YAML; a comment says where each value comes from."""
    from pipeline.config import show as whole

    print(whole.show(load(config), experiment))


@configuration.command()
def docs(root: Annotated[Path, typer.Option("--root", help="The project's folder.")] = Path()) -> None:
    """Write workflow/schemas/config.schema.json and docs/configuration.md from the model."""
    from pipeline.config import docs as config_docs

    for path, text in ((config_docs.SCHEMA_FILE, config_docs.schema()), (config_docs.REFERENCE_FILE, config_docs.reference())):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        print(root / path)
