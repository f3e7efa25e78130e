"""`prvr serve`: the search page and its JSON interface, for this machine alone.

Nothing a client sends names a file: videos are asked for by their number in the collection. No request changes anything; the one that is
posted brings a picture to search with, which is read within bounds and kept nowhere.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import jinja2
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError, PrvrError, VideoError
from pipeline.search import media, pictures, shown
from pipeline.search.answers import Answer, Filter
from pipeline.search.catalogue import Catalogue
from pipeline.search.engine import Engine
from pipeline.search.openapi import DESCRIPTION

STATIC = Path(__file__).parent / "static"
HOSTS = ["127.0.0.1", "localhost"]
MOST_HITS, MOST_CHARACTERS = 1000, 2000
RANGE = 64  # characters of a Range header that asks for one stretch
BODY_SECONDS = 20.0  # for a picture to arrive
STILLS = 4  # decoded at once: a page of hits asks for dozens, and a query does not wait for them
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def application(config: Config, engines: dict[str, Callable[[], Engine]], hosts: list[str] | None = None) -> Starlette:
    """The page and its interface. `engines`: name -> how it is opened, the default first."""
    catalogue = Catalogue(config, engines)
    pages = [
        Route("/", _page),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/openapi.json", lambda _: JSONResponse(DESCRIPTION)),
        Route("/api", _interface),
    ]
    answers = [
        Route("/api/about", _about),
        Route("/api/search", _search),
        Route("/api/similar", _similar),
        Route("/api/picture", _picture, methods=["POST"]),
    ]
    files = [Route("/still/{video:int}", _still), Route("/video/{video:int}", _video)]
    app = Starlette(
        routes=[*pages, *answers, *files],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts or HOSTS), Middleware(_Headers)],
        exception_handlers={PrvrError: _refused, media.Outside: _outside, HTTPException: _denied},  # type: ignore[dict-item]
    )
    app.state.catalogue, app.state.stills = catalogue, anyio.CapacityLimiter(STILLS)
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


async def _interface(_: Request) -> Response:
    """The description of the interface, for people."""
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(STATIC), autoescape=True, undefined=jinja2.StrictUndefined)
    return HTMLResponse(pages.get_template("interface.html").render(api=DESCRIPTION))


async def _about(request: Request) -> Response:
    """Models, splits, groups, the lengths and the number of videos."""

    def describe(engine: Engine) -> dict[str, Any]:
        lengths = engine.durations[np.isfinite(engine.durations)]
        longest = float(lengths.max()) if len(lengths) else None
        return {"splits": engine.known.split_names, "groups": engine.known.group_names, "videos": len(engine.ids), "longest": longest}

    catalogue: Catalogue = request.app.state.catalogue
    about = await run_in_threadpool(catalogue.ask, "", describe)
    return JSONResponse({"dataset": catalogue.config.dataset.name, "models": catalogue.models, **about})


async def _search(request: Request) -> Response:
    """The answer to `q`: its hits with their strips, stills and files."""
    query = request.query_params.get("q", "")
    if len(query) > MOST_CHARACTERS:
        raise ConfigError("the query is too long", where="q", fix=f"at most {MOST_CHARACTERS:,} characters")
    return await _asked(request, lambda engine, wanted: engine.ask(query, **wanted), query)


async def _similar(request: Request) -> Response:
    """Videos that look like a moment: `video` by number, or `id`, which is the same for every model; `time` in seconds."""
    number, name, seconds = _whole(request, "video", -1), request.query_params.get("id", ""), _number(request, "time", 0.0)

    def work(engine: Engine, wanted: dict[str, Any]) -> tuple[Answer, Any]:
        video = engine.ids.index(name) if name in engine.ids else number
        if not 0 <= video < len(engine.ids):
            raise ConfigError(f"there is no video {name or number}", where="video", fix=f"0 to {len(engine.ids) - 1}, or the id of one")
        return engine.like(video, seconds, **wanted)

    return await _asked(request, work)


async def _picture(request: Request) -> Response:
    """Videos that look like the picture in the body; asked by this page, or by a program, never by a page of another place."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        raise HTTPException(403, "a page of another place may not ask")
    rgb = await run_in_threadpool(pictures.decoded, await _body(request))
    return await _asked(request, lambda engine, wanted: engine.picture(rgb, **wanted))


# The rest of a refused body is not read: the connection ends.
_CLOSE = {"connection": "close"}
_TOO_LARGE = HTTPException(413, f"at most {pictures.MOST_BYTES:,} bytes", headers=_CLOSE)


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is too large or too slow. Errors: HTTPException."""
    declared, read = request.headers.get("content-length", "0"), bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            if declared.isdecimal() and int(declared[:20]) > pictures.MOST_BYTES:
                raise _TOO_LARGE
            async for part in request.stream():
                read += part
                if len(read) > pictures.MOST_BYTES:
                    raise _TOO_LARGE
    except TimeoutError:
        raise HTTPException(408, "the picture took too long to arrive", headers=_CLOSE) from None
    return bytes(read)


async def _asked(request: Request, work: Callable[[Engine, dict[str, Any]], tuple[Answer, Any]], query: str = "") -> Response:
    """What an engine answers, asked for the sentence `query` if any, with the filters and the stretch of ranks that the request names."""
    given = request.query_params
    wanted = {
        "wanted": Filter(
            given.get("split", ""), given.get("group", ""), _number(request, "shortest", 0.0), _number(request, "longest", math.inf)
        ),
        "k": min(MOST_HITS, max(1, _whole(request, "k", 20))),
        "first": min(MOST_HITS, max(0, _whole(request, "first", 0))),
    }
    model = given.get("model", "")

    def plain(engine: Engine) -> dict[str, Any]:
        return shown.plain(engine, *work(engine, wanted), model, MOST_HITS)

    return JSONResponse(await run_in_threadpool(request.app.state.catalogue.ask, model, plain, query))


def _number(request: Request, name: str, otherwise: float) -> float:
    """A finite number of the query string. Errors: ConfigError."""
    given = request.query_params.get(name, "")
    try:
        number = float(given) if given else otherwise
    except ValueError:
        number = math.nan
    if given and not math.isfinite(number):
        raise ConfigError(f"{name} is no number", where=name, fix="give a number")
    return number


def _whole(request: Request, name: str, otherwise: int) -> int:
    """A whole number of the query string. Errors: ConfigError."""
    return int(_number(request, name, float(otherwise)))


async def _still(request: Request) -> Response:
    """The picture at `t` seconds of a video."""
    path = await run_in_threadpool(_file, request)
    seconds = round(_number(request, "t", 0.0), 2)
    picture = await anyio.to_thread.run_sync(media.still, str(path), seconds, limiter=request.app.state.stills)
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
    number, part = request.path_params["video"], _whole(request, "part", 0)

    def paths(engine: Engine) -> tuple[str, ...]:
        return engine.known.paths.get(engine.ids[number], ()) if number < len(engine.ids) else ()

    found = catalogue.ask(request.query_params.get("model", ""), paths)
    if not 0 <= part < len(found):
        raise media.Outside(str(number))
    return media.inside(found[part], catalogue.roots)


def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, VideoError):
        return JSONResponse({"error": error.what, "code": error.code}, status_code=404)
    assert isinstance(error, PrvrError)
    return JSONResponse({"error": error.what, "fix": error.fix}, status_code=400)


def _denied(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


def _outside(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "this video's file cannot be shown from here"}, status_code=404)
