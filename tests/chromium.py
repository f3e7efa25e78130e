"""Debian's Chromium for the tests of pages; `make browser` installs it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver")

NEEDED = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium here: `make browser` installs it"
    ),
]


@contextmanager
def chromium(*words: str, **logs: str) -> Iterator[Any]:
    """A browser without a screen, with further options; `logs` are kinds of its log and their levels, beside its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", *words):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", **logs})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


def until(holds: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for what a person would wait for. Errors: AssertionError when it does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except Exception:
            pass
        time.sleep(0.05)
    raise AssertionError("it never came to that")
