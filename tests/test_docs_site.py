"""The documentation as a site: it builds strictly, needs no other host, and its links hold in a checkout too."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tests.test_docs_commands import pages

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


def built(root: Path, folder: Path, **over: Any) -> Path:
    build(load_config(str(root / "mkdocs.yml"), site_dir=str(folder), **over))
    return folder


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strictly built: any link or anchor that leads nowhere, and any page out of the navigation, ends it."""
    return built(root, tmp_path_factory.mktemp("site"))


class Loaded(HTMLParser):
    """The files a page loads by itself; comments for browsers that are gone do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == LOADED.get(tag) and value]


def test_every_page_is_built_and_loads_only_files_of_the_site(root: Path, site: Path) -> None:
    made = sorted(site.rglob("*.html"))
    assert len(made) > len(pages(root))
    for page in made:
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert len(parser.found) > 3, page
        if page.name != "404.html":  # a server shows it at any depth, so it names its files from the root
            assert [name for name in parser.found if not (page.parent / name.split("?")[0]).is_file()] == [], page
    styles = "".join(style.read_text(encoding="utf-8", errors="replace") for style in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]+", styles) == []


@pytest.mark.parametrize(
    "wrong", ["[a](docs/nothing.md)", "[a](docs/demo.md#nothing)", "[a](/docs/demo.md)", "![a](docs/images/nothing.png)"]
)
def test_a_wrong_link_ends_the_build(root: Path, tmp_path: Path, wrong: str) -> None:
    """Of a site of one page, with the settings of ours."""
    front, other = tmp_path / "pages" / "index.md", tmp_path / "pages" / "docs" / "demo.md"
    other.parent.mkdir(parents=True)
    other.write_text("# Demo\n")
    front.write_text(f"# One\n\n{wrong}\n")
    settings = {"docs_dir": str(tmp_path / "pages"), "nav": ["index.md", "docs/demo.md"], "hooks": [], "extra_css": []}
    with pytest.raises(Abort):
        built(root, tmp_path / "site", **settings)
    front.write_text("# One\n\n[a](docs/demo.md#demo)\n")
    built(root, tmp_path / "site", **settings)


def anchors(text: str) -> set[str]:
    """Of a page's headings as code hosts make them: without marks, blanks as dashes."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, flags=re.M)}


def test_the_anchors_hold_on_a_code_host_too(root: Path) -> None:
    for page in pages(root):
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
            if "://" not in target:
                other = (page.parent / target).resolve() if target else page
                assert anchor in anchors(other.read_text()), f"{page.name}: {target}#{anchor}"
