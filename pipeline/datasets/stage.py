"""The annotations stage: whatever the dataset's own files look like, one canonical table comes out."""

from __future__ import annotations

import sys
from collections import Counter

from pipeline.config.schema import Config
from pipeline.core.atomic import write_text
from pipeline.core.layout import Layout
from pipeline.datasets import splits, table
from pipeline.datasets.readers import read
from pipeline.datasets.rows import Rows


def run(config: Config, layout: Layout) -> None:
    """Write annotations.h5 and print what every split holds; list absent videos in missing-videos.txt where they are allowed.

    Errors: DatasetError, listing every instance.
    """
    rows, missing = read(config, layout)
    lacking = splits.check(config, Counter(query.split for query in rows.queries))
    annotations = table.of(rows)
    report = layout.missing_videos
    if missing:
        report.parent.mkdir(parents=True, exist_ok=True)
        write_text(report, "".join(f"{line}\n" for line in missing))
    else:
        report.unlink(missing_ok=True)
    recipe = config.dataset.model_dump(include={"kind", "gallery", "allow_missing_videos", "include_unlabelled"})
    notes = [*rows.notes, *lacking, *([f"absent videos are listed in {report}"] if missing else [])]
    table.save(
        layout.annotations, annotations, recipe=recipe, dataset=config.dataset.name, kind=config.dataset.kind, notes=list(rows.notes)
    )
    print("\n".join([annotations.counts().to_string(index=False), *_facts(rows), *notes]), file=sys.stderr)


def _facts(rows: Rows) -> list[str]:
    """The gallery, and how many moments had to be mended."""
    flags = Counter(flag for query in rows.queries for flag in query.flags)
    mended = ", ".join(f"{count} {flag.replace('_', ' ')}" for flag, count in sorted(flags.items()))
    return ([f"gallery: {rows.gallery}"] if rows.gallery else []) + ([f"moments: {mended}"] if mended else [])
