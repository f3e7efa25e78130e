"""When a collection outgrows its number of shards, or shrinks: what is stored goes along with its videos, not computed again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.atomic import replacing, write_json
from pipeline.shards import names, parts


def recorded(record: Path) -> int | None:
    """The number of shards that the files on disk are of; None before the first run."""
    return int(json.loads(record.read_text())["shards"]) if record.exists() else None


def donors(folder: Path, shard: int, count: int, before: int) -> list[Path]:
    """The files in which `before` shards kept what belongs to this one of `count` now; both counts are powers of two."""
    if before == count:
        return []
    found = []
    for index in [shard % before] if before < count else range(shard, before, count):
        final = folder / f"{names(before)[index]}.h5"
        found += [final, *sorted(parts(final).glob("*.h5"))]
    own = folder / f"{names(count)[shard]}.h5"
    return [file for file in found if file.exists() and file not in (own, *parts(own).glob("*.h5"))]


def reshard(record: Path, stores: Iterable[Path], derived: Iterable[Path], count: int) -> None:
    """Bring the shards on disk to their new number; nothing happens while it stays.

    `stores` are folders of `ShardStore` files: each shard gets those that may hold its videos as part files (hard links: no bytes are
    copied), which its next job adopts. Files of shards there are no more are removed, in the folders of `derived` files too, so that no
    video is met twice. Killed in between it does the rest when called again. `record` remembers the number.
    """
    known = recorded(record)
    before = known or count
    if before != count:
        stores = list(stores)
        for folder in stores:
            for shard, name in enumerate(names(count)):
                place = parts(folder / f"{name}.h5")
                for donor in donors(folder, shard, count, before):
                    _link(donor, place / f"former-{donor.parent.name.strip('.')}-{donor.name}")
        for folder in [*stores, *derived]:
            for name in set(names(before)) - set(names(count)):
                for file in (folder / f"{name}.json", folder / f"{name}.h5"):
                    file.unlink(missing_ok=True)
                shutil.rmtree(parts(folder / f"{name}.h5"), ignore_errors=True)
    if known != count:
        write_json(record, {"shards": count})


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # not on every file system
            shutil.copyfile(source, temporary)
