"""From plain values to one HTML file that asks for nothing: everything is escaped, scripts and pictures are inside."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

STATIC = Path(__file__).with_name("static")


def render(values: Mapping[str, Any]) -> str:
    """The page. The same values give the same text."""
    style, script = ((STATIC / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # No address can be asked for, and no script runs but this one: a caption that got through as markup would still do nothing.
    rules = ("default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'", "base-uri 'none'")
    environment = Environment(
        loader=FileSystemLoader(STATIC), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"clock": clock, "link": link, "count": "{:,}".format}
    template = environment.get_template("report.html")
    return template.render(policy="; ".join([*rules, "form-action 'none'"]), style=Markup(style), script=Markup(script), **values) + "\n"


def packed(value: Any) -> str:
    """A value as compressed JSON in base64, which holds nothing that HTML could mistake for its own."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 9, mtime=0)).decode()


def clock(seconds: float) -> str:
    """0:07.5, 12:30, 1:02:03; empty where it is unknown."""
    if seconds != seconds:
        return ""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    tenths = f".{int(10 * (seconds - whole))}" if seconds < 60 else ""
    return f"{minutes}:{whole % 60:02d}{tenths}"


def link(path: str) -> str:
    """A relative address of a file beside the page."""
    return quote(path)
