"""Which videos answer a query beside its own: TREC qrels, or one JSON object a line. Standard library only: read before any job.

Source of the second form: the multi-positive labels of prvr-ea, `{"query_id": ..., "gt_video_ids": [...]}` (docs/datasets.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from pipeline.core.errors import DatasetError
from pipeline.datasets.rows import refuse

Relevance = dict[str, list[str]]  # query id -> ids of the videos that answer it


def read(path: str | Path) -> Relevance:
    """The relevant videos of each query of a file, as its ids stand there; a query none of whose videos is relevant has none.

    TREC: `query iteration video relevance`, relevant above 0. Errors: DatasetError naming every line that is neither form.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the relevance file cannot be read: {error}", where=path, fix="name a readable UTF-8 file") from error
    parse = _object if next((line for line in lines if line.strip()), "").lstrip().startswith("{") else _judgement
    found: Relevance = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            query, videos = parse(line)
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"line {number}: {error}")
            continue
        known = found.setdefault(query, [])
        known += [video for video in dict.fromkeys(videos) if video not in known]
    form = 'each line is `query 0 video relevance`, or {"query_id": "...", "gt_video_ids": ["..."]}'
    refuse(problems, what="lines that are no relevance judgement", where=path, fix=form)
    if not found:
        raise DatasetError("the relevance file names no query", where=path, fix=form)
    return found


def _judgement(line: str) -> tuple[str, list[str]]:
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"{len(fields)} fields instead of 4")
    query, _, video, relevance = fields
    return query, [video] if float(relevance) > 0 else []


def _object(line: str) -> tuple[str, list[str]]:
    value = json.loads(line)
    if not isinstance(value, dict) or not {"query_id", "gt_video_ids"} <= value.keys():
        raise ValueError("no object with query_id and gt_video_ids")
    if not isinstance(value["gt_video_ids"], list):
        raise ValueError("gt_video_ids is no list")
    return str(value["query_id"]), [str(video) for video in value["gt_video_ids"]]


def resolve(read_in: Mapping[str, list[str]], queries: Iterable[tuple[str, str]], videos: Collection[str], where: str | Path) -> Relevance:
    """The same with the dataset's ids: a query by its id or its caption id (`queries`: pairs of both), a video by its id.

    Ids that hold white space may be percent-encoded, as in the runs we write. Errors: DatasetError listing every unknown id.
    """
    names = {caption: query for query, caption in queries if caption}
    names |= {query: query for query in [*names.values(), *(query for query, _ in queries)]}
    known, problems = set(videos), []
    resolved: Relevance = {}
    for query, answers in read_in.items():
        name = names.get(query, names.get(unquote(query)))
        if name is None:
            problems.append(f"query {query}: no query of the dataset")
        chosen = [video if video in known else unquote(video) for video in answers]
        problems += [f"query {query}: no video {given}" for given, video in zip(answers, chosen, strict=True) if video not in known]
        if name is not None:
            resolved[name] = chosen
    refuse(problems, what="unknown ids in the relevance file", where=where, fix="name queries and videos as the annotations do")
    return resolved
