"""Fetching pretrained weights: the command that does it, and running it when one is asked to. Nothing else here uses the network."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.encoder import Encoder, home
from pipeline.config.schema import Config
from pipeline.core.errors import WeightsError
from pipeline.encoders.weights import inventory, resolve


@dataclass(frozen=True)
class Fetch:
    """One download of an encoder: the words of the command, and from what to what the file is renamed once it is whole."""

    encoder: str
    words: tuple[str, ...]
    rename: tuple[Path, Path] | None = None

    @property
    def line(self) -> str:
        """The command as one types it."""
        typed = shlex.join(self.words)
        return f"{typed} && {shlex.join(['mv', *map(str, self.rename)])}" if self.rename else typed


def missing(config: Config) -> Iterator[tuple[str, list[Fetch]]]:
    """Every encoder in use whose weights are not here or not right, with its downloads: none where no address is known."""
    for needed in inventory(config):
        if needed.problem:
            yield needed.encoder, list(_fetches(config.network(needed.encoder), needed.encoder))


def _fetches(encoder: Encoder, name: str) -> Iterator[Fetch]:
    entry, folder = encoder.published, home()
    if entry and entry.url:  # first: its checksum is published
        target = folder / entry.file
        part = target.with_name(f"{target.name}.part")
        words = ("curl", "--fail", "--location", "--create-dirs", "--output", str(part), entry.url)
        yield Fetch(name, words, (part, target))
    elif entry and entry.hub:
        yield _from_hub(name, entry.hub_id, entry.hub_files[:1])
    if encoder.vocabulary_page and encoder.vocabulary is None:
        yield _from_hub(name, encoder.vocabulary_page.removeprefix("https://huggingface.co/"), ("tokenizer.json", "tokenizer_config.json"))


def _from_hub(encoder: str, repository: str, files: tuple[str, ...]) -> Fetch:
    return Fetch(encoder, ("hf", "download", repository, *files, "--local-dir", str(home() / repository.rsplit("/", 1)[-1])))


def run(fetches: list[Fetch], config: Config, say: Callable[[str], None]) -> None:
    """Run them in order, and compare what came with its published checksum.

    Errors: WeightsError when a command is not installed, or fails, or brings another file; what was whole before stays.
    """
    for fetch in fetches:
        say(fetch.line)
        if shutil.which(fetch.words[0]) is None:
            raise WeightsError(
                f"{fetch.words[0]} is not installed here",
                where=fetch.encoder,
                fix=f"install it, or fetch the file otherwise: {fetch.line}",
            )
        done = subprocess.run(fetch.words)
        if done.returncode:
            raise WeightsError(
                f"{fetch.words[0]} failed with exit code {done.returncode}",
                where=fetch.encoder,
                fix="see its message above; on a machine without a network run the command elsewhere and copy the file here",
            )
        if fetch.rename:
            os.replace(*fetch.rename)
    for name in dict.fromkeys(fetch.encoder for fetch in fetches):
        say(f"{name}: {resolve(config.network(name), name).file}")
