"""When videos get other shards (a collection outgrows their number, say): what is stored goes along, it is not computed again."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.atomic import replacing, write_json
from pipeline.core.errors import StoreError
from pipeline.core.shards import names, parts
from pipeline.core.store import open_store


def recorded(record: Path) -> dict[str, Any] | None:
    """How the files on disk are divided, as `DividedVideos.division` says; None before the first run."""
    return dict(json.loads(record.read_text())) if record.exists() else None


def stay(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether every video has the shard it had: shards were added, if anything."""
    return before["shards"] <= now["shards"] and {"hashed": before["shards"], **before, "shards": now["shards"]}.items() <= now.items()


def donors(folder: Path, place: Mapping[str, str]) -> dict[str, list[Path]]:
    """shard -> the files of other shards, finished and not, that hold videos of it now. `place`: video id -> shard."""
    files: dict[str, list[Path]] = defaultdict(list)
    for file in [*sorted(folder.glob("*.h5")), *sorted(folder.glob(".*.parts/*.h5"))]:
        try:
            with open_store(file, stage="features") as store:
                ids = store.ragged("features", lazy=True).ids if "features" in store else []
        except StoreError:
            continue  # its videos are computed again, as in any job that meets it
        for shard in sorted({place[video] for video in ids if video in place}):
            final = folder / f"{shard}.h5"
            if file != final and file.parent != parts(final):
                files[shard].append(file)
    return dict(files)


def reshard(record: Path, now: Mapping[str, Any], stores: Iterable[Path], derived: Iterable[Path], place: Mapping[str, str]) -> None:
    """Bring the files on disk to the division `now` (as `recorded` gives it); nothing happens while it stays.

    `stores` are folders of `ShardStore` files: each shard gets those that hold its videos as part files (hard links: no bytes are
    copied), which its next job adopts. Files of shards there are no more are removed, in the folders of `derived` files too, so that no
    video is met twice. Killed in between it does the rest when called again.
    """
    before, stores = recorded(record), list(stores)
    if before == now:
        return
    if before is not None and not stay(before, now):
        for folder in stores:
            for shard, files in donors(folder, place).items():
                for file in files:
                    _link(file, parts(folder / f"{shard}.h5") / f"former-{file.stat().st_ino}.h5")
        shards = set(names(now["shards"], now.get("hashed")))
        for folder in [*stores, *derived]:
            for file in folder.glob("*"):
                if file.name.strip(".").split(".")[0] not in shards and file.suffix in (".h5", ".json", ".tsv", ".parts", ".spool"):
                    shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
    write_json(record, dict(now))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:  # not on every file system
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
