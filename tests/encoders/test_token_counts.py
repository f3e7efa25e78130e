"""Tokens counted without torch are those the encoder's own tokenizer gives, of odd captions too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from pipeline.config.encoders import OpenClip
from pipeline.config.schema import Config
from pipeline.encoders import open_clip
from pipeline.encoders.token_counts import limits, token_counts
from tests.encoders.conftest import CLIP_CFG, clip_entry, clip_folder, tiny_clip
from tests.encoders.towers import family

ODD = [
    "",
    "a man",
    "It's the dog's 2nd 1234 bone!!! ... (really?) We'LL SEE",
    "Pingüino, naïve café: 犬が走る。 Ⅷ ²",
    "&amp;lt;b&amp;gt; fish &amp; chips 🐟🐟",
    "weiÃŸ schÃ¶n",  # broken encoding, which open_clip mends
    "under_score\t tab\n line\u2003space",
    "antidisestablishmentarianism " * 40,
]


@pytest.fixture(scope="module")
def whole() -> SimpleTokenizer:
    return SimpleTokenizer()


def test_clip(whole: SimpleTokenizer) -> None:
    assert token_counts(OpenClip(), ODD) == [len(whole.encode(caption)) + 2 for caption in ODD]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cn", "Co"]), max_size=40))
def test_clip_of_any_text(whole: SimpleTokenizer, text: str) -> None:
    assert token_counts(OpenClip(), [text]) == [len(whole.encode(text)) + 2]


@pytest.mark.parametrize("name", ["siglip", "cased", "pe-core"])
def test_other_tokenizers(tmp_path: Path, name: str) -> None:
    entry = clip_entry(family(name, tmp_path / "model"))
    encoder = open_clip.load(entry)
    fit = [caption for caption in ODD if len(caption) < 20]
    assert token_counts(entry, fit) == [len(row.ids) for row in encoder.tokenizer(fit)]
    counts = token_counts(entry, ODD)
    assert counts is not None
    cut = [row.truncated for row in encoder.tokenizer(ODD)]
    assert [count > encoder.context_length for count in counts] == cut
    assert any(cut)


def test_the_limit_is_the_smaller_one(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "clip", tiny_clip())
    assert json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"] == CLIP_CFG["text_cfg"]
    values = {"encoders": {"clip": clip_entry(folder).model_dump()}, "features": ["clip"], "text": "clip"}
    assert limits(Config.model_validate(values)) == {"clip": 12}
    short = {"main": {}, "short": {"model": {"max_words": 9}}}
    assert limits(Config.model_validate({**values, "experiments": short})) == {"clip": 9}


def test_counting_imports_no_torch() -> None:
    code = (
        "import sys; from pipeline.encoders.token_counts import token_counts; from pipeline.config.encoders import OpenClip\n"
        "print(token_counts(OpenClip(), ['a man walks']), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "[5] False\n"
