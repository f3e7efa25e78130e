"""`prvr serve`: the search page and its JSON interface, for this machine alone.

Nothing a client sends names a file: videos are asked for by their number in the collection. No request changes anything.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError, PrvrError, VideoError
from pipeline.search import media
from pipeline.search.answers import Answer, verdict
from pipeline.search.engine import Engine
from pipeline.search.openapi import DESCRIPTION

STATIC = Path(__file__).parent / "static"
HOSTS = ["127.0.0.1", "localhost"]
MOST_HITS, MOST_WORDS, STRIP = 1000, 2000, 160
RANGE = 64  # characters of a Range header that asks for one stretch
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Catalogue:
    """The engines of a configuration, each opened when it is first asked, one query at a time."""

    def __init__(self, config: Config, engines: dict[str, Callable[[], Engine]]) -> None:
        self.config, self._open = config, engines
        self._opened: dict[str, Engine] = {}
        self._locks = {name: threading.Lock() for name in engines}

    @property
    def models(self) -> list[str]:
        """Their names, the default first."""
        return list(self._open)

    def ask(self, model: str, work: Callable[[Engine], Any]) -> Any:
        """What `work` makes of an engine, which it has for itself meanwhile. Errors: ConfigError when there is no such model."""
        model = model or self.models[0]
        if model not in self._open:
            raise ConfigError(f"there is no model {model!r}", where="model", fix=f"one of {', '.join(self.models)}")
        with self._locks[model]:
            if model not in self._opened:
                self._opened[model] = self._open[model]()
            return work(self._opened[model])

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """The folders whose files may be shown."""
        given = self.config.dataset.videos
        return (Path(given) if given else self.config.layout.world / "videos",)


def application(config: Config, engines: dict[str, Callable[[], Engine]], hosts: list[str] | None = None) -> Starlette:
    """The page and its interface. `engines`: name -> how it is opened, the default first."""
    catalogue = Catalogue(config, engines)
    pages = [
        Route("/", _page),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/openapi.json", lambda _: JSONResponse(DESCRIPTION)),
    ]
    answers = [Route("/api/about", _about), Route("/api/search", _search), Route("/api/similar", _similar)]
    shown = [Route("/still/{video:int}", _still), Route("/video/{video:int}", _video)]
    app = Starlette(
        routes=[*pages, *answers, *shown],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts or HOSTS), Middleware(_Headers)],
        exception_handlers={PrvrError: _refused, media.Outside: _outside, ValueError: _refused},  # type: ignore[dict-item]
    )
    app.state.catalogue = catalogue
    return app


class _Headers:
    """Every answer forbids what the page does not need, whatever a file of the dataset may contain."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
            await send(message)

        await self.app(scope, receive, sending)


async def _page(_: Request) -> Response:
    return FileResponse(STATIC / "page.html")


async def _about(request: Request) -> Response:
    """Models, splits, groups and the number of videos."""

    def describe(engine: Engine) -> dict[str, Any]:
        return {"splits": engine.known.split_names, "groups": engine.known.group_names, "videos": len(engine.ids)}

    catalogue: Catalogue = request.app.state.catalogue
    about = await run_in_threadpool(catalogue.ask, "", describe)
    return JSONResponse({"dataset": catalogue.config.dataset.name, "models": catalogue.models, **about})


async def _search(request: Request) -> Response:
    """The answer to `q`: its hits with their strips, stills and files."""
    given = request.query_params
    query = given.get("q", "")[:MOST_WORDS]
    k = min(MOST_HITS, max(1, int(given.get("k", "20"))))

    def work(engine: Engine) -> dict[str, Any]:
        answer, asked = engine.ask(query, k, split=given.get("split", ""), group=given.get("group", ""))
        return _plain(engine, answer, asked, given.get("model", ""))

    return JSONResponse(await run_in_threadpool(request.app.state.catalogue.ask, given.get("model", ""), work))


async def _similar(request: Request) -> Response:
    """Videos that look like a moment: `video` by number, `time` in seconds."""
    given = request.query_params
    video, time = int(given["video"]) if "video" in given else -1, float(given.get("time", "0"))

    def work(engine: Engine) -> dict[str, Any]:
        if not 0 <= video < len(engine.ids):
            raise ConfigError(f"there is no video {video}", where="video", fix=f"0 to {len(engine.ids) - 1}")
        answer, asked = engine.like(video, time, min(MOST_HITS, max(1, int(given.get("k", "20")))))
        return _plain(engine, answer, asked, given.get("model", ""))

    return JSONResponse(await run_in_threadpool(request.app.state.catalogue.ask, given.get("model", ""), work))


async def _still(request: Request) -> Response:
    """The picture at `t` seconds of a video."""
    path = await run_in_threadpool(_file, request)
    picture = await run_in_threadpool(media.still, str(path), round(float(request.query_params.get("t", "0")), 2))
    return Response(picture, media_type="image/webp", headers={"cache-control": "private, max-age=3600"})


async def _video(request: Request) -> Response:
    """The file, one stretch of it where a browser asks for one."""
    asked = request.headers.get("range", "")
    if len(asked) > RANGE or "," in asked:
        return JSONResponse({"error": "one range at a time"}, status_code=416)
    path = await run_in_threadpool(_file, request)
    return FileResponse(path, media_type=media.PLAYABLE.get(path.suffix.lower(), "application/octet-stream"))


def _file(request: Request) -> Path:
    """The file of the video of that number. Errors: Outside when there is none that may be shown."""
    catalogue: Catalogue = request.app.state.catalogue
    number, part = request.path_params["video"], int(request.query_params.get("part", "0"))

    def paths(engine: Engine) -> tuple[str, ...]:
        return engine.known.paths.get(engine.ids[number], ()) if number < len(engine.ids) else ()

    found = catalogue.ask(request.query_params.get("model", ""), paths)
    if not 0 <= part < len(found):
        raise media.Outside(str(number))
    return media.inside(found[part], catalogue.roots)


def _plain(engine: Engine, answer: Answer, asked: Any, model: str) -> dict[str, Any]:
    """An answer as the page reads it."""
    number = {video: i for i, video in enumerate(engine.ids)}
    hits = []
    strips = _strips(engine, asked, [number[hit.video_id] for hit in answer.hits])
    for hit, (length, strip) in zip(answer.hits, strips, strict=True):
        path = hit.paths[0] if hit.paths else ""
        moments = [{**asdict(moment), "cut": media.cut_command(path, moment.start, moment.end) if path else ""} for moment in hit.moments]
        plain = {"video": number[hit.video_id], "id": hit.video_id, "score": hit.score, "split": hit.split, "captions": hit.captions}
        best = None if math.isnan(hit.best) else hit.best
        file = Path(path).name if path else ""
        hits.append({**plain, "best": best, "moments": moments, "file": file, "duration": length, "strip": strip})
    about = {"query": answer.query, "model": model or answer.model, "matches": answer.matches, "standing": answer.standing}
    return {**about, "verdict": verdict(answer), "hits": hits}


def _strips(engine: Engine, asked: Any, videos: list[int]) -> list[tuple[float | None, list[float]]]:
    """Of each video its length in seconds, and the scores along it as at most `STRIP` numbers from 0 to 1; empty without times."""
    if not videos:
        return []
    made: list[tuple[float | None, list[float]]] = []
    rows, _, ends = engine.rows(asked, videos)
    for similarity, end in zip(rows, ends, strict=True):
        real = np.isfinite(similarity) & np.isfinite(end)
        if not real.any():
            made.append((None, []))
            continue
        values, length = similarity[real], float(end[real].max())
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
        parts = np.array_split(scaled, min(STRIP, len(scaled)))
        made.append((length, [round(float(part.max()), 3) for part in parts]))
    return made


def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, VideoError):
        return JSONResponse({"error": error.what, "code": error.code}, status_code=404)
    what = error.what if isinstance(error, PrvrError) else "a number is expected"
    return JSONResponse({"error": what, "fix": getattr(error, "fix", "")}, status_code=400)


def _outside(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "this video's file cannot be shown from here"}, status_code=404)
