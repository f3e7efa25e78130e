"""Models, objectives, encoders and readers by name: our own by the name of their module, a user's by the dotted path of theirs.

Nothing lists them all, and nothing imports them all: a job's code digest follows what it imports, so a list would make every job depend on
every kind (docs/decisions.md).
"""

from __future__ import annotations

import ast
import importlib
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.core.errors import ConfigError

_SETTINGS_MAY_IMPORT = ("__future__", "typing", "annotated_types", "pydantic", "pipeline.config")


def module_of(room: str, kind: str) -> str:
    """The module of a kind: `pipeline.<room>.<kind>`, or a dotted name as it stands."""
    return kind if "." in kind else f"pipeline.{room}.{kind}"


def load(room: str, kind: str) -> ModuleType:
    """Import the module of a kind; a user's is looked for in the working directory too.

    Errors: ConfigError when there is none, or when it cannot be imported.
    """
    name = module_of(room, kind)
    _search_here()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise unknown(room, kind) from error
        raise ConfigError(f"kind: {kind} cannot be imported: {error}", where=name, fix="install or mend what it imports") from error


def kinds(room: str) -> list[str]:
    """The names of our own modules in a room."""
    folder = Path(__file__).parents[1] / room
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def source(name: str) -> Path | None:
    """The file of a module, found without importing it; None when there is none."""
    _search_here()
    parts = name.split(".")
    path: list[str] | None = None
    origin: str | None = None
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), path)
        if spec is None:
            return None
        path, origin = list(spec.submodule_search_locations or []), spec.origin
    return Path(origin) if origin else None


def settings(room: str, kind: str, base: type) -> type[Any]:
    """The class `Settings` of a user's module, or `base` when it has none; the module itself is not run.

    The workflow and every job of a cluster read the configuration, and should not wait for torch. So only the class and the imports it may
    need (typing, pydantic, pipeline.config) are taken from the file.
    Errors: ConfigError when there is no such file, the class needs more, or is no `base`.
    """
    file = source(kind)
    if file is None:
        raise unknown(room, kind)
    own = _class(kind, file, file.read_text(encoding="utf-8"))
    if own is None:
        return base
    if not issubclass(own, base):
        raise ConfigError("the class Settings has another base", where=file, fix=f"derive it from {base.__module__}.{base.__name__}")
    return own


@cache
def _class(kind: str, file: Path, text: str) -> type[Any] | None:
    tree = ast.parse(text, str(file))
    wanted = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    if not wanted:
        return None
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) and _allowed(node)]
    # pydantic looks the annotations of a class up in its module.
    module = ModuleType(f"{kind}:settings")
    sys.modules[module.__name__] = module
    try:
        exec(compile(ast.Module([*imports, *wanted], []), str(file), "exec"), module.__dict__)
    except NameError as error:
        raise ConfigError(
            f"the class Settings uses {error.name!r}",
            where=file,
            fix="use nothing but typing, pydantic and pipeline.config in it: it is read without the rest of the module",
        ) from error
    made: type[Any] = module.__dict__["Settings"]
    return made


def _allowed(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether a Settings class may use what this imports."""
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return not getattr(node, "level", 0) and all(name.startswith(_SETTINGS_MAY_IMPORT) for name in names)


def unknown(room: str, kind: str) -> ConfigError:
    """What to say of a kind that is not there."""
    if "." in kind:
        file = Path(*kind.split(".")).with_suffix(".py")
        return ConfigError(f"kind: {kind} is no module", where=Path.cwd(), fix=f"put {file} there, or install the package that holds it")
    return ConfigError(
        f"there is no kind {kind!r} in {room}", fix="docs/configuration.md lists the kinds; a file of one's own has a dot in its name"
    )


def _search_here() -> None:
    """Modules beside the configuration are found; last, so that a file called `random.py` there stands for nothing else."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
