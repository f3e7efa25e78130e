"""MkDocs' hook: the site holds the repository's pages at their own places, and the files they link to.

A link between README.md, docs/ and benchmarks/ is then the same in a checkout, on a code host and in the site, and is checked as it stands.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "benchmarks/README.md")
LINK = re.compile(r"\]\(([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's own files, every page, and what they link to in turn."""
    chosen = Files([file for file in files if file.src_dir != config.docs_dir])
    waiting = [str(path.relative_to(ROOT)) for pattern in PAGES for path in sorted(ROOT.glob(pattern))] + list(config.extra_css)
    while waiting:
        name = waiting.pop()
        path = ROOT / name
        if chosen.get_file_from_path(name) or not path.is_file():  # a link to nothing stays one, for MkDocs to refuse
            continue
        chosen.append(File.generated(config, name, abs_src_path=str(path), inclusion=_inclusion(name)))
        if path.suffix == ".md":
            links = LINK.findall(path.read_text(encoding="utf-8"))
            waiting += [posixpath.normpath(posixpath.join(posixpath.dirname(name), link)) for link in links if "://" not in link]
    return chosen


def _inclusion(name: str) -> InclusionLevel:
    """The printed results are reached from the page of what was measured, and are not in the navigation."""
    return InclusionLevel.NOT_IN_NAV if name.startswith("benchmarks/results/") else InclusionLevel.INCLUDED
