"""Reading configurations from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.base import merge
from pipeline.config.messages import explain
from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.core.store import recipe_hash

PUBLISHED = ".config"  # the folder in which the workflow leaves the configuration its jobs read, each named by its hash
FIX = "correct the keys above; docs/configuration.md lists them all"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen and name != "<<":
                raise yaml.YAMLError(f"line {line}: the key `{name}` is given twice (first on line {seen[name]})")
            seen[name] = line
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> dict[str, Any]:
    """One YAML or JSON file as a dictionary; ConfigError when it cannot be read."""
    path = Path(path)
    if not path.exists():
        others = sorted(str(file) for file in Path().glob("*.yaml"))
        here = f" (here: {', '.join(others)})" if others else ""
        raise ConfigError(
            "no such configuration file", where=path.absolute(), fix=f"give an existing file{here}, or write one with `prvr init`"
        )
    try:
        values = yaml.load(path.read_text(), _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=path, fix="correct the syntax at the line named") from error
    if not isinstance(values, dict):
        raise ConfigError("the file holds no keys", where=path, fix="see config.yaml for an example")
    if path.parent.name == PUBLISHED and recipe_hash(values) != path.stem:
        raise ConfigError(
            "the configuration of the running workflow was changed", where=path, fix="run the workflow again: it is written anew"
        )
    return values


def load(*paths: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """The configuration of one file, or of several laid on top of one another."""
    values: dict[str, Any] = {}
    for path in paths:
        values = merge(values, read(path))
    return validate(merge(values, overrides or {}), source=" + ".join(str(p) for p in paths))


def validate(values: dict[str, Any], *, source: str) -> Config:
    """A checked Config; ConfigError listing every wrong key, type and value with the nearest right spelling."""
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, Config, values), where=source, fix=FIX) from error
    config._source = source
    only_compared = config.compared.keys() - {*config.experiments, *config.ablations, *config.sweeps}
    for name in config.models:
        fix = f"correct that, or leave {name} out of compare.methods" if name in only_compared else FIX
        problem = _wrong(config, name, values, fix)
        if problem is not None and name not in only_compared:
            raise problem
        if problem is not None:
            config._unfit[name] = problem
    return config


def _wrong(config: Config, name: str, values: dict[str, Any], fix: str) -> ConfigError | None:
    """What keeps a named model from being one of this configuration."""
    source = config.source
    try:
        config.check_encoders(name)
    except ConfigError as error:
        return error
    except ValidationError as error:
        over = merge(values, config.models[name])
        return ConfigError(explain(error, Experiment, over, prefix=f"{_place(config, name)}.{name}."), where=source, fix=fix)
    except ValueError as error:
        return ConfigError(str(error), where=source, fix=fix)
    return None


def _place(config: Config, name: str) -> str:
    return next((key for key in ("experiments", "ablations", "sweeps") if name in getattr(config, key)), "compare.methods")
