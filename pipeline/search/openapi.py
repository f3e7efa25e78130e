"""The description of the search page's interface, in the OpenAPI form."""

from __future__ import annotations

from typing import Any


def _parameter(name: str, what: str, kind: str = "string", *, required: bool = False, place: str = "query") -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "description": what, "schema": {"type": kind}}


_MODEL = _parameter("model", "Who answers: one of /api/about's models; by default the first.")
_K = _parameter("k", "How many videos, at most 1,000.", "integer")
_WANTED = (
    _MODEL,
    _parameter("split", "Only videos of this split."),
    _parameter("group", "Only videos with a query of this group."),
    _parameter("shortest", "Only videos at least so many seconds long.", "number"),
    _parameter("longest", "Only videos at most so many seconds long.", "number"),
    _K,
    _parameter("first", "Answers from this rank on, counted from 0.", "integer"),
)
_NUMBER = _parameter("video", "The video's number in the answers.", "integer", required=True, place="path")


def _operation(summary: str, content: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    shapes: dict[str, Any] = {content: {}} if content != "json" else {"application/json": {"schema": {"type": "object"}}}
    refused = {"400": {"description": "The request is refused: `error` says why."}, "404": {"description": "There is no such video."}}
    responses = {"200": {"description": "OK", "content": shapes}, **refused}
    return {"summary": summary, "parameters": list(parameters), "responses": responses}


def _get(summary: str, content: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    return {"get": _operation(summary, content, *parameters)}


def _post(summary: str, body: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    shape = {"required": True, "description": body, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
    return {"post": {**_operation(summary, "json", *parameters), "requestBody": shape}}


DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "prvr search", "version": "1", "description": "Typed queries to videos and moments. Nothing here changes anything."},
    "paths": {
        "/api/about": _get("Models, splits, groups, number of videos and seconds of the longest.", "json"),
        "/api/search": _get(
            "The videos that answer a sentence, best first, with their moments and the scores along them.",
            "json",
            _parameter("q", "The sentence.", required=True),
            *_WANTED,
        ),
        "/api/similar": _get(
            "Videos that look like a moment of one.",
            "json",
            _parameter("video", "Its number in the answers of this model.", "integer"),
            _parameter("id", "Or its id, which is the same for every model."),
            _parameter("time", "The instant, in seconds.", "number"),
            *_WANTED,
        ),
        "/api/picture": _post(
            "Videos that look like a picture; the frozen encoder answers.",
            "A JPEG, PNG, WebP, GIF or BMP file, at most 10 MB. It is kept nowhere.",
            *_WANTED,
        ),
        "/still/{video}": _get("The picture at an instant.", "image/webp", _NUMBER, _parameter("t", "The instant, in seconds.", "number")),
        "/video/{video}": _get("The file; a Range header may ask for one stretch.", "video/*", _NUMBER),
    },
}
