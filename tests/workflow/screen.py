"""A terminal of a test's own: what a program draws on it, kept as the screen a user would see."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Callable

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)|(\x1b)")


class Screen:
    """Everything printed, line by line, as it stands after cursor movements. As much of a terminal as the display uses, and colours."""

    def __init__(self, columns: int = 100) -> None:
        self.lines, self.row, self.column, self.columns = [""], 0, 0, columns

    def feed(self, text: str) -> None:
        for arguments, command, back, feed, plain, _ in _TOKEN.findall(text):
            if command == "J":
                self.lines[self.row] = self.lines[self.row][: self.column]
                del self.lines[self.row + 1 :]
            elif command == "A":
                self.row = max(0, self.row - int(arguments or 1))
            elif command not in ("", "m"):
                raise AssertionError(f"the screen knows no {command!r}")
            elif back:
                self.column = 0
            elif feed:
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
                self.column += len(plain)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


class Terminal:
    """The master side of a pseudo-terminal, read into a screen; `drawn` is every byte that came."""

    def __init__(self, master: int) -> None:
        self.master, self.screen, self.drawn, self.seen = master, Screen(), "", list[str]()

    def read(self, seconds: float = 0.05) -> bool:
        """Take what comes within that time; whether anything did."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            text = os.read(self.master, 1 << 16).decode(errors="replace")
        except OSError:  # the other side is closed
            return False
        self.drawn += text
        self.screen.feed(text)
        self.seen.append(self.screen.text)
        return bool(text)

    def ends(self, run: subprocess.Popen, seconds: float = 120) -> None:
        """Wait for the end of a program, and for what it said last."""
        self.until(lambda: run.poll() is not None, seconds)
        while self.read(0.3):
            pass

    def until(self, holds: Callable[[], object], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"not within {seconds} s; the screen:\n{self.screen.text[-3000:]}"
            self.read()
