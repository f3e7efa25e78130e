"""Everything that can be wrong with a bundle, found in one pass and reported at once (docs/datasets.md, bundle layouts)."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.core.errors import BundleError
from pipeline.core.progress import track
from pipeline.interchange.bundle import Bundle, Rows, as_rows, leaves, shape_of, text_key, unusable, video_key

LISTED = 200  # instances printed per problem; all of them are counted and kept


@dataclass
class Findings:
    """What a bundle holds and what is wrong with it.

    `problems` heading -> every instance (they stop the import); `notes` are sentences worth reading; `missing_videos` and
    `missing_captions` are ids without stored rows; `facts` the numbers printed and kept with the imported files.
    """

    problems: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing_videos: list[str] = field(default_factory=list)
    missing_captions: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, heading: str, instances: list[str]) -> None:
        if instances:
            self.problems[heading] = instances

    def text(self) -> str:
        """The facts, the notes and the problems as lines."""
        lines = [f"{key.replace('_', ' ')}: {value}" for key, value in self.facts.items()] + [f"note: {note}" for note in self.notes]
        for heading, instances in self.problems.items():
            lines.append(f"{heading} ({len(instances)}):")
            lines += [f"  {item}" for item in instances[:LISTED]]
            if len(instances) > LISTED:
                lines.append(f"  and {len(instances) - LISTED} more")
        return "\n".join(lines)


def _quantiles(lengths: list[int]) -> dict[str, float]:
    values = np.asarray(lengths)
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "mean": round(float(values.mean()), 2),
        "max": int(values.max()),
        "of_one_row": int((values == 1).sum()),
    }


def _rows(rows: Rows, keys: dict[str, str], kind: str, findings: Findings, width: int | None) -> None:
    """Widths, lengths, NaN and zero rows of the stored arrays; `keys` is id -> stored key."""
    odd = {name: reason for name, key in keys.items() if (reason := unusable(rows, key))}
    findings.add(f"{kind} arrays that cannot be rows", [f"{name}: {reason}" for name, reason in odd.items()])
    keys = {name: key for name, key in keys.items() if name not in odd}
    shapes = {name: shape_of(rows, key) for name, key in keys.items()}
    widths = Counter(shape[-1] for shape in shapes.values())
    if not widths:
        return
    expected = width or widths.most_common(1)[0][0]
    findings.add(
        f"{kind} rows of another width than {expected}", [f"{name}: {shape}" for name, shape in shapes.items() if shape[-1] != expected]
    )
    findings.add(f"{kind} arrays without rows", [name for name, shape in shapes.items() if shape[0] == 0])
    not_numbers, zero, partly = [], [], 0
    for name, key in track(keys.items(), total=len(keys), label=f"checking {kind} rows"):
        with np.errstate(over="ignore"):  # a value too large for what is stored becomes infinite, which is a problem below
            array = as_rows(rows[key]).astype(np.float32, copy=False)
        finite = np.isfinite(array).all(axis=-1)
        if not finite.all():
            not_numbers.append(f"{name}: rows {', '.join(map(str, np.flatnonzero(~finite)[:10]))} of {len(array)}")
        empty = ~array.any(axis=-1)
        if len(array) and empty.all():
            zero.append(f"{name}: {len(array)} rows")
        elif empty.any():
            partly += 1
    findings.add(f"{kind} rows that are not numbers", not_numbers)
    findings.add(f"{kind} arrays of zeros only", zero)
    if partly:
        findings.notes.append(f"{partly} {kind} arrays hold rows of zeros beside others")
    findings.facts[f"{kind}_width"] = expected
    findings.facts[f"{kind}_rows"] = _quantiles([shape[0] for shape in shapes.values()])


def _repeated(bundle: Bundle) -> list[str]:
    counters = [Counter(c.query_id for c in captions) for captions in bundle.splits.values()]
    return [query_id for counter in counters for query_id, n in counter.items() if n > 1]


def _overlaps(bundle: Bundle, findings: Findings) -> None:
    """Identical lists are noted (val = test is common, and says where the epoch is chosen); other lists must not share videos."""
    for a, b in itertools.combinations(bundle.splits, 2):
        if {c.query_id for c in bundle.splits[a]} == {c.query_id for c in bundle.splits[b]}:
            findings.notes.append(f"the {a} and {b} lists are identical; they are kept as {a}, so the epoch is chosen on what is reported")
        else:
            shared = {c.video_id for c in bundle.splits[a]} & {c.video_id for c in bundle.splits[b]}
            findings.add(f"videos in both the {a} and the {b} list", sorted(shared))


def check(bundle: Bundle, *, allow_missing: bool = False, video_width: int | None = None, text_width: int | None = None) -> Findings:
    """Look at everything in a bundle once.

    Args: `allow_missing` turns videos and captions without rows from problems into notes (they are left out); `video_width`, `text_width`
    the widths a model or configuration expects, otherwise the commonest one.
    Source: docs/datasets.md, bundle layouts (1-7).
    """
    findings = Findings()
    captions = list(bundle.captions())
    findings.add("caption ids given twice in one list", _repeated(bundle))
    ids = dict.fromkeys([*bundle.video_ids(), *(caption.query_id for caption in captions)])
    findings.add("ids that lead out of a folder when they name a file", [name for name in ids if leaves(name)])
    _overlaps(bundle, findings)
    videos = {video_id: video_key(video_id, bundle.videos) for video_id in bundle.video_ids()}
    texts = {caption.query_id: text_key(caption, bundle.texts) for caption in captions}
    findings.missing_videos = [name for name, key in videos.items() if key is None]
    findings.missing_captions = [name for name, key in texts.items() if key is None]
    if allow_missing:
        if findings.missing_videos or findings.missing_captions:
            left_out = f"{len(findings.missing_videos)} videos and {len(findings.missing_captions)} captions have no rows and are left out"
            findings.notes.append(left_out)
    else:
        findings.add("videos without features", findings.missing_videos)
        findings.add("captions without text features", findings.missing_captions)
    for kind, keys in (("videos", videos), ("captions", texts)):
        aliased = [f"{name} as {key}" for name, key in keys.items() if key not in (None, name)]
        if aliased:
            findings.notes.append(f"{len(aliased)} {kind} are stored under another key, e.g. {aliased[0]}")

    findings.facts["collection"], findings.facts["layout"] = bundle.collection, bundle.layout
    for split, listed in bundle.splits.items():
        findings.facts[split] = f"{len({c.video_id for c in listed})} videos, {len(listed)} captions"
    per_video = Counter(Counter(c.video_id for c in captions).values())
    findings.facts["captions_per_video"] = {str(n): per_video[n] for n in sorted(per_video)}
    _rows(bundle.videos, {n: k for n, k in videos.items() if k is not None}, "video", findings, video_width)
    _rows(bundle.texts, {n: k for n, k in texts.items() if k is not None}, "text", findings, text_width)
    if bundle.every is None and (unknown := [v for v in videos if v not in bundle.durations]):
        findings.notes.append(
            f"{len(unknown)} of {len(videos)} videos have no known duration: their rows carry no times, no moment is measured"
        )
    return findings


def require(findings: Findings, where: Any) -> None:
    """BundleError with every problem, when there is one."""
    if findings.problems:
        raise BundleError(
            "the bundle cannot be used as it is:\n" + findings.text(),
            where=where,
            fix="correct the bundle; videos or captions that are only missing may be left out with `--allow-missing`",
        )
