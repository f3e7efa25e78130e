"""Signals to a process are noticed at once, whichever of its threads the kernel gives them to.

The kernel may deliver a signal to any thread. Python then only notes it, and runs the handler once the main thread runs Python again: when
that sits in a lock or in `poll`, not before something else wakes it. Source: docs of `signal.set_wakeup_fd`, signal(7).
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # `kill`, Ctrl-C, a closed terminal
_POKE = signal.SIGURG  # nobody sends it, and a process without a handler ignores it
_PR_SET_PDEATHSIG = 1
_AGAIN = 0.05  # seconds between two pokes: one that comes just before the main thread goes to sleep wakes nobody


def attend(numbers: Collection[int], handler: Callable[[int], None], at_once: Callable[[int], None] | None = None) -> None:
    """Within moments of a signal run `at_once(number)` in a thread of our own, and `handler(number)` in the main thread.

    What the process was told to ignore stays ignored (`nohup`). Call it in the main thread; a second call replaces the first.
    """
    heard = {number for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    due: list[int] = []  # what the main thread has still to answer
    poked = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def watch(descriptor: int) -> None:
        while True:
            for number in heard.intersection(os.read(descriptor, 4096)):
                if at_once is not None:
                    at_once(number)
                poked.clear()
                while not poked.is_set():
                    signal.pthread_kill(main, _POKE)
                    poked.wait(_AGAIN)

    def answer(number: int, frame: FrameType | None) -> None:
        if number != _POKE:
            due.append(number)
        if _logs(frame):
            return  # the next poke comes when the line is written
        if number == _POKE:
            poked.set()
        while due:
            handler(due.pop(0))

    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    # Python runs the handlers of lower numbers first, so once a poke is answered, so is the signal it was sent for.
    for number in {*heard, _POKE}:
        signal.signal(number, answer)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget)  # a child's signals are not its parent's
    threading.Thread(target=watch, args=(readable,), name="signals", daemon=True).start()


def _logs(frame: FrameType | None) -> bool:
    """Whether the code at work was called to write a line of the log."""
    while frame is not None:
        if frame.f_globals.get("__name__") == logging.__name__:
            return True
        frame = frame.f_back
    return False


def _forget() -> None:
    signal.set_wakeup_fd(-1)


def leave(number: int) -> None:
    """A handler: an exception instead of sudden death, so that temporary files and locks are removed and child processes ended."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def end_with(parent: int) -> None:
    """End this process with the one that started it: a killed parent cannot tell it, and what waits for work would wait for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it died before this line
