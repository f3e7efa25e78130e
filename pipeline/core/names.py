"""Names that are not there, with the one that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.errors import ConfigError

_SHOWN = 12  # names a message lists


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelt most like this one, whatever its capitals; empty when none is."""
    plain = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), plain, n=1, cutoff=0.5)
    return plain[near[0]] if near else ""


def choice(name: str, known: Iterable[str]) -> str:
    """What to type instead: `did you mean main? there are: main, no-motion`; the nearest first, no more than a line holds."""
    listed = list(known)
    if not listed:
        return "there are none"
    near = nearest(name, listed)
    more = f", and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{f'did you mean {near}? ' if near else ''}there are: {', '.join(listed[:_SHOWN])}{more}"


def unknown(what: str, name: str, known: Iterable[str], *, where: str | Path) -> ConfigError:
    """The error for a name that is none of the known ones: what it should name, where it was given."""
    return ConfigError(f"there is no {what} {name!r}", where=where, fix=choice(name, known))
