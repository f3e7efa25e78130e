"""The house of `pipeline/`: imports run down its floors only, nothing but rooms stands on its ground floor, and tests/ mirrors the rooms.

`python tests/test_rooms.py` prints the rooms, the arrows between them, the longest files and the longest functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room may import from lower floors, never from its own or a higher one.
FLOORS = (
    ("core",),
    ("config",),
    ("datasets", "video", "encoders", "clips", "models"),
    ("objectives", "ranking", "interchange", "demo"),
    ("training", "evaluation", "jobs"),
    ("search", "report", "tools"),
    ("cli",),
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
WHOLE = {"workflow", "golden", "cluster"}  # folders of tests of the whole, which mirror no room

Imports = Iterator[tuple[str, str, str]]


def modules(package: Path) -> Iterator[Path]:
    return (path for path in sorted(package.rglob("*.py")) if "__pycache__" not in path.parts)


def imported(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of everything a file imports of its own package, inside functions and by a relative name too."""
    inside = [package.name, *path.relative_to(package).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == package.name)


def arrows(package: Path) -> Imports:
    """(from room, to room, place) of every import between two rooms of the package."""
    for path in modules(package):
        here = path.relative_to(package).parts
        for line, name in imported(path, package):
            target = name.split(".")[1] if "." in name else ""
            if len(here) > 1 and target != here[0]:
                yield here[0], target, f"{path.relative_to(package)}:{line} imports {name}"


def upward(package: Path) -> list[str]:
    """The imports that do not go to a lower floor; of an unknown room or of the package itself too."""
    return [place for room, target, place in arrows(package) if FLOOR.get(target, len(FLOORS)) >= FLOOR.get(room, -1)]


def circle(package: Path) -> list[str]:
    """Modules that import one another, inside functions too; empty when there are none."""
    names = {".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in modules(package)}
    graph = {
        module: {found for _, name in imported(path, package) for found in (name, name.rpartition(".")[0]) if found in names} - {module}
        for module, path in names.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def functions(package: Path) -> Iterator[tuple[int, str]]:
    """(lines, place) of every function."""
    for path in modules(package):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path.relative_to(package)}:{node.lineno} {node.name}"


def report(package: Path) -> str:
    """The house in a few lines."""
    pairs = {(room, target) for room, target, _ in arrows(package)}
    rooms = sorted(path.name for path in package.iterdir() if (path / "__init__.py").is_file())
    lengths = sorted(((len(path.read_text().splitlines()), str(path.relative_to(package))) for path in modules(package)), reverse=True)
    lines = [f"{len(rooms)} rooms on {len(FLOORS)} floors, {len(pairs)} arrows, {len(upward(package))} imports against them"]
    for floor in reversed(FLOORS):
        lines += [f"  {room:12} -> {' '.join(sorted(t for r, t in pairs if r == room))}".rstrip(" ->") for room in floor if room in rooms]
    lines += ["longest files", *(f"  {count:5} {name}" for count, name in lengths[:8])]
    return "\n".join([*lines, "longest functions", *(f"  {n:5} {place}" for n, place in sorted(functions(package), reverse=True)[:8])])


def test_imports_run_down_the_floors_only() -> None:
    assert upward(ROOT / "pipeline") == []


def test_no_modules_import_one_another() -> None:
    assert circle(ROOT / "pipeline") == []


def test_nothing_but_rooms_stands_on_the_ground_floor() -> None:
    entries = {path for path in (ROOT / "pipeline").iterdir() if path.name != "__pycache__"}
    loose = {path.name for path in entries if path.is_file()} - {"__init__.py"}
    assert loose == set()
    assert {path.name for path in entries if path.is_dir() and any(modules(path))} <= FLOOR.keys()


def test_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(modules(path))}
    rooms = {path.name for path in (ROOT / "pipeline").iterdir() if path.is_dir()}
    assert folders - rooms == WHOLE


@pytest.mark.parametrize(
    ("file", "text", "upwards", "circles"),
    [
        ("core/store.py", "from pipeline.config.schema import Config\n", 1, False),  # up
        ("core/store.py", "def load():\n    import pipeline.jobs.dag\n", 1, False),  # up, within a function
        ("video/probe.py", "from ..clips import stage\n", 1, False),  # beside, by a relative name
        ("video/probe.py", "from pipeline import clips\n", 1, False),  # beside, from the package
        ("attic/junk.py", "from pipeline.core import store\n", 1, False),  # from a room nobody knows
        ("cli/main.py", "from pipeline import __version__\n", 1, False),  # from the ground floor
        ("cli/main.py", "from pipeline.core import store\nimport numpy\n", 0, False),
        ("core/store.py", "from pipeline.core import shards\n", 0, True),
        ("core/store.py", "def load():\n    from .shards import key\n", 0, True),  # a hidden circle is one too
    ],
)
def test_what_goes_against_the_house_is_seen(tmp_path: Path, file: str, text: str, upwards: int, circles: bool) -> None:
    package = tmp_path / "pipeline"
    for name, content in (("core/shards.py", "from pipeline.core.store import SCHEMA\n"), ("core/store.py", ""), (file, text)):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    assert len(upward(package)) == upwards
    assert bool(circle(package)) == circles


if __name__ == "__main__":
    print(report(ROOT / "pipeline"))
