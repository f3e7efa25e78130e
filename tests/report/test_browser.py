"""The report in Debian's Chromium with the network cut: it draws, sorts and filters, and asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import NEEDED, chromium, until
from tests.evaluation.conftest import World
from tests.report.conftest import HOSTILE, report, sources

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By

pytestmark = NEEDED
SECTIONS = ("retrieved", "recall", "moments", "won", "failures", "training", "collapse", "aside", "time", "recipes")


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium("--window-size=1280,1000", "--allow-file-access-from-files", performance="ALL") as opened:
        opened.execute_cdp_cmd("Network.enable", {})
        opened.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        )
        yield opened


def column(browser: Any, table: str, place: int) -> list[str]:
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, f"{table} tbody td:nth-child({place})")]


def test_it_opens_sorts_and_filters_without_a_network(made: World, tmp_path: Path, browser: Any) -> None:
    report(made, sources(made, tmp_path / "videos"))
    browser.get(made.layout.report.as_uri())
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "#queries[data-ready=yes]"))
    assert browser.title == "tiny: report"  # no caption's script has changed it
    assert browser.get_log("browser") == []
    for name in SECTIONS:
        section = browser.find_element(By.ID, name)
        assert section.is_displayed()
        assert section.size["height"] > 60
    until(
        lambda: browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0 && i.naturalWidth <= 160)")
    )
    assert browser.execute_script("return document.images.length") >= 20
    sizes = browser.execute_script("return [...document.querySelectorAll('svg.plot')].map(s => s.getBoundingClientRect().height)")
    assert len(sizes) >= 5
    assert min(sizes) > 50
    assert column(browser, "#queries", 1)[0] == HOSTILE
    asked = [entry["message"] for entry in browser.get_log("performance") if '"Network.requestWillBeSent"' in entry["message"]]
    assert not [message for message in asked if '"url":"http' in message]

    # The table of queries: more rows, a head that sorts, a filter by words, a filter by outcome.
    assert len(column(browser, "#queries", 1)) == 12
    browser.find_element(By.ID, "more").click()
    assert len(column(browser, "#queries", 1)) == 33
    heads = [head.text for head in browser.find_elements(By.CSS_SELECTOR, "#queries th")]
    rank = heads.index("rank, main") + 1
    for direction in (-1, 1):
        browser.find_element(By.CSS_SELECTOR, f"#queries th:nth-child({rank})").click()
        ranks = [float(text) for text in column(browser, "#queries", rank)]
        assert ranks == sorted(ranks)[::direction]
    browser.find_element(By.ID, "words").send_keys("07 b")
    until(lambda: set(column(browser, "#queries", 2)) == {"test/07 b"})
    assert browser.find_element(By.ID, "counted").text == "3 of 33 rows"
    browser.find_element(By.ID, "words").clear()
    browser.find_element(By.CSS_SELECTOR, "#outcome option[value=failed]").click()
    until(lambda: len(column(browser, "#queries", 1)) > 3 and min(float(text) for text in column(browser, "#queries", rank)) > 1)

    # Any other table sorts too, numbers as numbers.
    browser.find_element(By.CSS_SELECTOR, "table.results th:nth-child(7)").click()
    sums = [float(text.split(" ")[0]) for text in column(browser, "table.results", 7)]
    assert sums == sorted(sums, reverse=True)
    browser.find_element(By.CSS_SELECTOR, "details summary").click()
    assert "hidden" in browser.find_element(By.CSS_SELECTOR, "details pre").text


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_it_fits_the_window_in_light_and_dark(made: World, tmp_path: Path, browser: Any, width: int, dark: bool) -> None:
    report(made)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(made.layout.report.as_uri())
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    channels = browser.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(channels) < 80) is dark
    browser.save_screenshot(str(tmp_path / "report.png"))
    assert (tmp_path / "report.png").stat().st_size > 10_000
