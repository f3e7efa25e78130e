"""Python's collector of reference cycles, left out while a large list is read that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No search for cycles meanwhile: it looks at all that was read, again and again, which was 40 % of a plan of 200,000 videos.

    What is used on the way must lie in no cycle, or it stays until the next search.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
