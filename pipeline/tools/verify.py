"""Whether everything stored is still what was written: every file of a dataset's results read once, and which job makes a bad one again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import PrvrError
from pipeline.core.store import open_store
from pipeline.jobs.dag import Dag
from pipeline.jobs.products import Product, products


@dataclass(frozen=True)
class Verdict:
    """One file: what is wrong with it (empty: nothing), and what makes it again."""

    path: Path
    problem: str
    maker: str
    product: Product | None = None


def verify(dag: Dag) -> Iterator[Verdict]:
    """A verdict on every stored file below the dataset's results, in order, those that jobs keep for themselves too.

    Files that a manifest names and that are gone or of another size are bad as well.
    """
    makers = {file: product for product in products(dag) for file in (*product.files, product.manifest)}
    stored = [path for path in dag.layout.root.rglob("*") if path.suffix in (".h5", ".json") and path.is_file()]
    named = [file for file, product in makers.items() if file != product.manifest and product.manifest.exists()]
    for path in sorted({*stored, *named}):
        if path.is_relative_to(dag.layout.root / "logs") or path.is_relative_to(dag.layout.world / "videos"):
            continue
        product = makers.get(path)
        yield Verdict(path, _problem(path, product), _maker(dag, path, product), product)


def _problem(path: Path, product: Product | None) -> str:
    try:
        if path.suffix == ".h5":
            with open_store(path, **(_expected(product) if product else {})) as store:
                store.verify()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    except PrvrError as error:
        return f"[{error.code}] {error.what}"
    except (OSError, ValueError) as error:
        return str(error)
    if product and path != product.manifest:
        manifest = product.read()
        size = None if manifest is None else manifest.get("files", {}).get(path.name)
        if size not in (None, path.stat().st_size):
            return f"{path.stat().st_size} bytes, {size} when it was made"
    return ""


def _expected(product: Product) -> dict[str, Any]:
    """What a file must say of itself to be the one of this place."""
    stages = {"train": "checkpoint", "evaluate": "evaluation"}
    named = {k: int(v) if k == "seed" else v for k, v in product.of.items() if k in ("encoder", "shard", "experiment", "seed")}
    return {"stage": stages.get(product.stage, product.stage), **named}


def _maker(dag: Dag, path: Path, product: Product | None) -> str:
    if product is not None:
        return " ".join([f"the job {product.stage}", *(f"{name}={value}" for name, value in product.of.items())])
    if path.is_relative_to(dag.layout.root / "frames"):
        return f"the job frames shard={path.stem}, when features need them: delete it"
    imported = [name for name in dag.config.encoders if dag.imported(name)]
    if any(path == dag.layout.text(name) or path.parent == dag.layout.features(name, "*").parent for name in imported):
        return "`prvr import`"
    if any(part.endswith((".parts", ".spool")) for part in path.parts) or path.name == "last.h5":
        return "the job that keeps its unfinished work there: delete it"
    return "`prvr search`: delete it" if path.parent.name in ("index", "faiss") else "no job of this configuration: delete it"


def report(verdicts: list[Verdict]) -> str:
    """The bad files, what is wrong, and what makes each again; or that all are whole."""
    bad = [verdict for verdict in verdicts if verdict.problem]
    lines = [line for v in bad for line in (f"✗ {v.path}: {v.problem}", f"    made again by {v.maker}")]
    total = sum(verdict.path.stat().st_size for verdict in verdicts if verdict.path.exists())
    return "\n".join([*lines, f"{len(verdicts) - len(bad)} of {len(verdicts)} files are what was written ({total / 1e6:.1f} MB read)"])


def forget(verdicts: list[Verdict]) -> list[Path]:
    """Delete the bad files and their manifests, so that the workflow makes them again; returns what was deleted.

    Features and text stay, without their manifest: what is still whole in them is kept by the job.
    """
    gone = []
    for verdict in verdicts:
        keeps = verdict.product is not None and verdict.product.stage in ("features", "text")
        for file in [*([] if keeps else [verdict.path]), *([verdict.product.manifest] if verdict.product else [])]:
            if verdict.problem and file.exists():
                file.unlink()
                gone.append(file)
    return gone
