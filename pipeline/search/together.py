"""Calls of many threads at something that one may use at a time: who has it runs all that wait, so that what they share is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Together(Generic[Given, Made]):
    """Calls `each` with what it is called with, one thread at a time.

    Calls that come meanwhile wait, and the first of them then runs all of these: `share`, where there are several, and `each` of every one.
    `share` only makes `each` quicker: where it fails, every call finds out by itself what is wrong. An error of `each` is raised where
    that one was called, and nowhere else.
    """

    def __init__(self, share: Callable[[Sequence[Given]], None], each: Callable[[Given], Made]) -> None:
        self._share, self._each = share, each
        self._lock, self._busy = threading.Lock(), False
        self.waiting: list[_Call[Given, Made]] = []

    def __call__(self, given: Given) -> Made:
        call: _Call[Given, Made] = _Call(given)
        with self._lock:
            self.waiting.append(call)
            first, self._busy = not self._busy, True
        if not first:
            call.turn.wait()
        if not call.made.done():
            self._run()
        return call.made.result()

    def _run(self) -> None:
        """Run all that wait; then it is the turn of the first that came meanwhile."""
        with self._lock:
            calls, self.waiting = self.waiting, []
        try:
            if len(calls) > 1:
                with suppress(Exception):
                    self._share([call.given for call in calls])
            for call in calls:
                call.run(self._each)
        finally:
            for call in calls:  # none left where this thread was not interrupted
                call.give_up()
            with self._lock:
                self._busy = bool(self.waiting)
                if self._busy:
                    self.waiting[0].turn.set()


class _Call(Generic[Given, Made]):
    """What one thread asked for; `turn` is set when it is made, or is that thread's to make."""

    def __init__(self, given: Given) -> None:
        self.given, self.turn = given, threading.Event()
        self.made: Future[Made] = Future()

    def run(self, each: Callable[[Given], Made]) -> None:
        try:
            self.made.set_result(each(self.given))
        except Exception as error:
            self.made.set_exception(error)
        self.turn.set()

    def give_up(self) -> None:
        self.made.cancel()
        self.turn.set()
