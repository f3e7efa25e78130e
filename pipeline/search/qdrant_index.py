"""Tokens as points of a Qdrant server, a collection a branch, grouped by video: where one machine is not enough."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.search.tokens import Query, Tokens

KEY = "PRVR_QDRANT_API_KEY"
POINTS = 512  # sent at once
SPACE = uuid.UUID("8f4c1f0e-3c58-4bd0-9a53-0c1f2f7a6f10")  # of the ids of points


def client(url: str) -> Any:
    """A client of the server at `url`; `:memory:` or `file:FOLDER` for its local mode, which is for tests.

    Errors: ConfigError when the library is not installed or no server answers.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise ConfigError(
            "the engine qdrant needs the library qdrant-client", where="search.engine", fix="pip install 'prvr[qdrant]'"
        ) from error
    if url == ":memory:":
        return QdrantClient(location=url)
    if url.startswith("file:"):
        return QdrantClient(path=url.removeprefix("file:"))
    made = QdrantClient(url=url, api_key=os.environ.get(KEY), timeout=60, check_compatibility=False)
    _asked(made.get_collections, url)
    return made


def _asked(question: Any, url: str) -> Any:
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        return question()
    except (ResponseHandlingException, UnexpectedResponse, OSError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"no Qdrant answers: {said}",
            where=url,
            fix=f"start the server, mend search.url, or set its key in {KEY}; or search.engine: auto",
        ) from error


class QdrantNearest:
    """A collection for each branch, named `<name>-<branch>`. What is in it is asked of the server, so that several machines may share it.

    `reason` says why the collections were made anew; empty: they were there. Errors: ConfigError when the server does not answer.
    """

    name = "qdrant"

    def __init__(self, made: Any, name: str, tokens: Tokens, url: str = "") -> None:
        self._client, self._url = made, url
        self._collections = {branch: f"{name}-{branch}" for branch in tokens.branches}
        self.reason = ""
        for branch in tokens.branches:
            self._open(branch, tokens.width(branch))

    def _open(self, branch: str, width: int) -> None:
        from qdrant_client import models

        name = self._collections[branch]
        if self._ask(lambda: self._client.collection_exists(name)):
            there = self._ask(lambda: self._client.get_collection(name)).config.params.vectors
            if getattr(there, "size", None) == width:
                return
            self._ask(lambda: self._client.delete_collection(name))
            self.reason = "its tokens are of another width"
        else:
            self.reason = "none is there yet"
        self._ask(
            lambda: self._client.create_collection(
                name,
                vectors_config=models.VectorParams(
                    size=width, distance=models.Distance.DOT, on_disk=True, datatype=models.Datatype.FLOAT16
                ),
                quantization_config=models.ScalarQuantization(
                    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
                ),
            )
        )
        if self._url.startswith("http"):
            for field in ("video", "first"):  # local mode has no payload indices
                kind = models.PayloadSchemaType.KEYWORD if field == "video" else models.PayloadSchemaType.BOOL
                self._ask(partial(self._client.create_payload_index, name, field, kind))

    def known(self) -> Mapping[str, str]:
        """The digest of every video all of whose branches are in it, by id; a video that is half there has an empty one."""
        each = [dict(self._firsts(name)) for name in self._collections.values()]
        videos = set().union(*each) if each else set()
        return {video: digest.pop() if len(digest := {there.get(video, "") for there in each}) == 1 else "" for video in sorted(videos)}

    def _firsts(self, name: str) -> Iterator[tuple[str, str]]:
        from qdrant_client import models

        only = models.Filter(must=[models.FieldCondition(key="first", match=models.MatchValue(value=True))])
        asked = {"scroll_filter": only, "limit": 1000, "with_payload": ["video", "digest"]}
        offset = None
        while True:
            points, offset = self._ask(partial(self._client.scroll, name, offset=offset, **asked))
            yield from ((point.payload["video"], point.payload["digest"]) for point in points)
            if offset is None:
                return

    def add(self, videos: Sequence[tuple[str, str, Mapping[str, np.ndarray]]]) -> None:
        """Add the tokens of some videos. The first of each, which says that the video is there, is sent last."""
        from qdrant_client import models

        for branch, name in self._collections.items():
            points = []
            for video, digest, tokens in videos:
                for i in reversed(range(len(tokens[branch]))):
                    about = {"video": video, "first": True, "digest": digest} if i == 0 else {"video": video}
                    place = str(uuid.uuid5(SPACE, f"{video}\0{i}"))
                    points.append(models.PointStruct(id=place, vector=tokens[branch][i].tolist(), payload=about))
            for start in range(0, len(points), POINTS):
                some = points[start : start + POINTS]
                self._ask(partial(self._client.upsert, name, points=some, wait=True))

    def remove(self, videos: Sequence[str]) -> None:
        """Remove the tokens of some videos."""
        from qdrant_client import models

        for name in self._collections.values():
            for start in range(0, len(videos), POINTS):
                some = models.FilterSelector(filter=_of(videos[start : start + POINTS]))
                self._ask(partial(self._client.delete, name, points_selector=some, wait=True))

    def keep(self) -> None:
        """The server keeps what it was sent."""

    def near(self, query: Query, count: int, among: Sequence[str] | None) -> list[str]:
        """The `count` videos whose best tokens fuse to the most; one that is not near in a branch counts there as the last that is."""
        asked = {"group_by": "video", "limit": count, "group_size": 1, "with_payload": False}
        only = None if among is None else _of(among)
        fused: dict[str, float] = {}
        for branch, name in self._collections.items():
            if query.weights[branch] > 0:
                vector = query.unit(branch).tolist()
                groups = self._ask(partial(self._client.query_points_groups, name, query=vector, query_filter=only, **asked)).groups
                best = {str(group.id): float(group.hits[0].score) for group in groups}
                base = min(best.values(), default=0.0)
                for video, product in best.items():
                    fused[video] = fused.get(video, 0.0) + query.weights[branch] * (product - base)
        return sorted(fused, key=lambda video: (-fused[video], video))[:count]

    def _ask(self, question: Any) -> Any:
        return _asked(question, self._url)


def _of(videos: Sequence[str]) -> Any:
    """The points of some videos."""
    from qdrant_client import models

    return models.Filter(must=[models.FieldCondition(key="video", match=models.MatchAny(any=list(videos)))])
