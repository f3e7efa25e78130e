"""The blocks of docs/extending.md, put beside a configuration as a user would."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pipeline.config.schema import merge
from tests.workflow.workspace import ROOT, Workspace

PAGE = ROOT / "docs" / "extending.md"


def section(heading: str) -> tuple[str, str, dict]:
    """The file of a section, its text, and the keys its configuration adds."""
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    part = rest.partition("\n## ")[0]
    code = re.search(r"^`(\S+\.py)`[^\n]*\n\n```python\n(.*?)```", part, flags=re.S | re.M)
    keys = re.search(r"```yaml\n(.*?)```", part, flags=re.S)
    assert code is not None, heading
    assert keys is not None, heading
    return code[1], code[2], yaml.safe_load(keys[1])


def add(work: Workspace, heading: str) -> Path:
    """Write the section's file beside the configuration and lay its keys on top; returns the file."""
    name, text, keys = section(heading)
    file = work.folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    work.config = merge(work.config, keys)
    work.write()
    return file
