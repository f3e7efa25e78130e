"""The search page in Debian's Chromium: typing, keys, seeking, playing, what cannot be played, and the address as the whole state."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.search.server import application  # noqa: F401 - what is driven
from tests.datasets.miniature import FPS
from tests.search.served import Typed, config, serving, videos

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium here: `make browser` installs it"
    ),
]
SECONDS = 6


def mpeg4(path: Path) -> str:
    """A file every decoder of ours reads and no browser plays."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(SECONDS * FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 3 * i % 256, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return str(path)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browser")
    paths = videos(folder, seconds=SECONDS)
    paths["mpeg"] = mpeg4(folder / "videos" / "mpeg.mp4")
    made = config(folder)
    with serving(made, {"typed": lambda: Typed(made, paths, SECONDS), "zero-shot": lambda: Typed(made, paths, SECONDS)}) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1200,1000",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield browser
    browser.quit()


@pytest.fixture
def browser(opened: Any, address: str) -> Any:
    opened.get(address)
    until(lambda: "served" in opened.find_element(By.ID, "dataset").text)
    return opened


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


def shown(browser: Any) -> list[str]:
    return [name.text for name in browser.find_elements(By.CSS_SELECTOR, ".hit .name")]


def search(browser: Any, query: str, first: str) -> None:
    field = browser.find_element(By.ID, "query")
    field.clear()
    field.send_keys(query, Keys.ENTER)
    until(lambda: shown(browser)[0] == first)


def video(browser: Any, what: str) -> Any:
    return browser.execute_script(f"return document.getElementById('video').{what}")


def test_a_typed_query_shows_stills_moments_and_a_verdict(browser: Any) -> None:
    search(browser, "garden 3", "garden.mp4")
    assert len(shown(browser)) == 4
    assert "the best answer stands out" in browser.find_element(By.CSS_SELECTOR, ".verdict").text
    assert browser.find_element(By.CSS_SELECTOR, ".hit .moment").text == "▶ 0:02.3 – 0:03.0"
    # A caption is text, whatever is in it.
    assert browser.find_element(By.CSS_SELECTOR, ".hit .caption").text == "<b>garden</b> & more"
    until(lambda: browser.execute_script("return [...document.querySelectorAll('.hit img')].every(i => i.complete && i.naturalWidth > 0)"))
    search(browser, "unheard of", "mpeg.mp4")
    assert browser.find_element(By.CSS_SELECTOR, ".verdict").text.startswith("nothing matches well")


@pytest.mark.parametrize(("query", "name"), [("door 4", "door.mp4"), ("sea 4", "sea.webm")])
def test_h264_and_vp9_play_from_the_moment(browser: Any, query: str, name: str) -> None:
    search(browser, query, name)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ENTER)
    until(lambda: not video(browser, "paused") and video(browser, "currentTime") > 3.0)
    assert video(browser, "error") is None
    browser.find_element(By.TAG_NAME, "body").send_keys(" ")
    until(lambda: video(browser, "paused"))


def test_keys_move_and_the_strip_seeks(browser: Any) -> None:
    search(browser, "door 1", "door.mp4")
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_DOWN)
    hits = browser.find_elements(By.CSS_SELECTOR, ".hit")
    assert ["chosen" in hit.get_attribute("class") for hit in hits] == [False, True, False, False]
    body.send_keys(Keys.ARROW_UP)
    strip = hits[0].find_element(By.CLASS_NAME, "strip")
    webdriver.ActionChains(browser).move_to_element_with_offset(strip, int(strip.size["width"] * 0.3), 0).click().perform()
    until(lambda: abs(video(browser, "currentTime") - 0.8 * SECONDS) < 1.0)
    body.send_keys("/")
    assert browser.switch_to.active_element.get_attribute("id") == "query"


def test_what_cannot_be_played_is_said_beside_its_picture(browser: Any) -> None:
    search(browser, "mpeg 2", "mpeg.mp4")
    browser.find_element(By.CSS_SELECTOR, ".hit .moment").click()
    until(lambda: browser.find_element(By.ID, "unplayable").is_displayed())
    assert "cannot play" in browser.find_element(By.ID, "unplayable").text
    assert "/still/3" in video(browser, "poster")


def test_the_address_is_the_whole_state(browser: Any, address: str) -> None:
    search(browser, "sea 5", "sea.webm")
    browser.execute_script("const s = document.getElementById('beside'); s.value = 'zero-shot'; s.dispatchEvent(new Event('change'))")
    until(lambda: len(browser.find_elements(By.CLASS_NAME, "column")) == 2)
    browser.find_element(By.CSS_SELECTOR, ".hit .moment").click()
    until(lambda: "hit=0" in browser.current_url)
    link = browser.current_url
    browser.get("about:blank")
    browser.get(link)
    until(lambda: len(browser.find_elements(By.CLASS_NAME, "column")) == 2)
    assert browser.find_element(By.ID, "query").get_attribute("value") == "sea 5"
    until(lambda: abs(video(browser, "currentTime") - 3.75) < 0.3)
    search(browser, "door", "door.mp4")
    browser.back()
    until(lambda: shown(browser)[0] == "sea.webm")


def test_more_like_this_and_filters(browser: Any) -> None:
    search(browser, "sea 5", "sea.webm")
    browser.find_element(By.CSS_SELECTOR, ".hit .like").click()
    until(lambda: "like=2" in browser.current_url and shown(browser)[0] == "sea.webm")
    browser.get(browser.current_url.split("?")[0] + "?q=x&split=test")
    until(lambda: sorted(shown(browser)) == ["garden.mp4", "mpeg.mp4"])


def test_nothing_was_refused_by_the_policy_or_broke_on_the_way(browser: Any) -> None:
    search(browser, "door 1", "door.mp4")
    complaints = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in complaints if "/video/3" not in line] == []
    if target := os.environ.get("PRVR_SCREENSHOT"):
        browser.save_screenshot(target)
