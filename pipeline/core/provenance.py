"""What a result was made from: content fingerprints of files and digests of the code that computes a stage."""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import plugins
from pipeline.core.atomic import write_json
from pipeline.core.errors import DiskError

UNUSABLE = "unusable-"  # begins the fingerprint of a video that cannot be looked at; the decoding says why, in the quarantine
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # what this process lacks says nothing about a file
WHOLE = 8 << 20  # bytes of a video that are read for its fingerprint at most: the whole of most
SAMPLES = 64
PACKAGE = Path(__file__).parents[1]
# Values in the configuration reach a job through its recipe, and the videos through the digest of their contents; these rooms only carry
# them, word messages, or draw progress. The store is versioned by SCHEMA instead, and with it what puts its files on disk: an edit
# that keeps the schema keeps every cached file, a raised one makes all of them again.
NOT_DIGESTED = ("core", "config", "jobs", "cli", "evaluation.plot", "training.plot")

SCHEMA = 3  # of the files in pipeline/core/store


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """The first 12 hex digits of the sha256 of a recipe's canonical JSON."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()[:12]


def canonical(value: Any) -> str:
    """A value as JSON that is equal for equal values, read back from JSON or not."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


class FileCache:
    """Digests of files by path, remembered while size, times and place on the disk stay; kept as one JSON file.

    Asking it costs one `stat` per file. A touched file is read again, and an unchanged content gives the same digest. The time of the last
    change cannot be set by a program: a file that was replaced under an old time (`cp -p`, `rsync -t`) is read again too.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._changed = path, False
        self._known: dict[str, list] = {}
        if path is not None and path.exists():
            try:
                self._known = json.loads(path.read_text())
            except json.JSONDecodeError:
                self._known = {}  # a cache: rebuilt from the files themselves

    def get(self, path: str | Path, digest: Callable[[Path], str], status: os.stat_result | None = None) -> str:
        """`digest(path)`, or the remembered value; `status` where the caller has it. FileNotFoundError when there is no such file."""
        status = status or os.stat(path)
        key, state = f"{digest.__name__}:{path}", _state(status)
        known = self._known.get(key)
        if known is None or known[:-1] != state:
            known = [*state, digest(Path(path))]
            self._known[key] = known
            self._changed = True
        return str(known[-1])

    def seen(self, path: str) -> str:
        """The `file_state` of a video when its fingerprint was made; empty where none is remembered."""
        known = self._known.get(f"{content.__name__}:{path}") or self._known.get(f"{listing.__name__}:{path}") or [""]
        return " ".join(map(str, known[:-1]))

    def save(self) -> None:
        """Keep what is known now; where that cannot be written (a home that is read-only, or is none) it costs time alone."""
        if self._changed and self._path is not None:
            with contextlib.suppress(DiskError, OSError):
                write_json(self._path, self._known)
            self._changed = False


def _state(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def file_state(path: str) -> str:
    """What changes with a file's content: its size, its times and its place on the disk. Errors: OSError."""
    return " ".join(map(str, _state(os.stat(path))))


def content(path: Path) -> str:
    """Fingerprint of a video's content: sha256 over its size and all of it, or of a large file 64 blocks spread evenly; 16 hex digits.

    The blocks hold 8 MiB together, the first and the last byte among them. A change that keeps the size of a larger file, and lies between
    two blocks, is not seen. Source of the numbers, and what they cost: docs/decisions.md.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in spread(size - WHOLE // SAMPLES, SAMPLES) if size > WHOLE else range(0, size, WHOLE // SAMPLES):
            file.seek(start)
            digest.update(file.read(WHOLE // SAMPLES))
    return digest.hexdigest()[:16]


def spread(last: int, count: int) -> list[int]:
    """`count` whole numbers from 0 to `last`, evenly spread; all of them where there are fewer."""
    return sorted({last * i // (count - 1) for i in range(count)}) if last >= 0 else []


def sha256(path: Path) -> str:
    """The whole file's sha256 (weights)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def listing(folder: Path) -> str:
    """Fingerprint of a folder of extracted frames: its sorted names and sizes, and 64 of its pictures spread evenly, 16 hex digits."""
    pictures = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file())
    seen = [sha256(folder / pictures[i][0]) for i in spread(len(pictures) - 1, SAMPLES)]
    return hashlib.sha256(json.dumps([pictures, seen]).encode()).hexdigest()[:16]


def fingerprint(path: str | Path, cache: FileCache) -> str:
    """A file's content fingerprint; a folder's (extracted frames) `listing`, looked at again when a name in it appears or goes.

    A pipe, a socket or a device is never opened: that may wait for ever. It, and what cannot be read, has a constant (UNUSABLE).
    """
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return cache.get(path, listing if stat.S_ISDIR(status.st_mode) else content, status)
    except OSError as error:
        if error.errno in _OURS:
            raise
        return f"{UNUSABLE}{errno.errorcode.get(error.errno or 0, 'unreadable')}"
    return f"{UNUSABLE}special"


@functools.cache
def _imports(module: str) -> tuple[str, frozenset[str]]:
    """A module's syntax tree without docstrings, hashed, and what it imports anywhere in it, of its own package and of this project."""
    path = _file(module)
    assert path is not None, module
    tree = ast.parse(path.read_text())
    statements = list(_statements(tree))
    for node in statements:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    imported: set[str] = set()
    inside = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in statements:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) + 1 - node.level] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            imported |= {name} | {f"{name}.{alias.name}" for alias in node.names}
    packages = {"pipeline", module.partition(".")[0]}
    own = frozenset(name for name in imported if name.partition(".")[0] in packages and name != "pipeline" and _file(name) is not None)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), own


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """A module and every statement in it: a tenth of its nodes, and none of the others documents or imports."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        todo += (below for name in ("body", "orelse", "finalbody", "handlers", "cases") for below in getattr(node, name, ()))


def _file(module: str) -> Path | None:
    """The source of a module of this project, or of a user's (pipeline/core/plugins.py); None when the name is not a module."""
    if module.partition(".")[0] != "pipeline":
        return plugins.source(module)
    path = PACKAGE.parent / Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def code_digest(*modules: str) -> str:
    """Digest of the code of `modules` and of every project module they import, 12 hex digits.

    Snakemake does not see edits of imported modules; rules carry this in their params. Comments, docstrings and formatting do not count.
    """
    seen: dict[str, str] = {}
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module in seen or not _counts(module):
            continue
        seen[module], imported = _imports(module)
        todo += imported
    return hashlib.sha256(json.dumps([SCHEMA, sorted(seen.items())]).encode()).hexdigest()[:12]


def _counts(module: str) -> bool:
    """Whether a module's code decides results."""
    name = module.removeprefix("pipeline.")
    return name not in NOT_DIGESTED and name.partition(".")[0] not in NOT_DIGESTED
