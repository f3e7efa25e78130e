"""Snakemake's dry run, read: which jobs would run, and why, in words."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import install
from pipeline.core.errors import ConfigError

_REASONS = {
    "Missing output files": "not made yet",
    "Incomplete output files": "was cut off",
    "Input files updated by another job": "follows a stage that runs",
    "Updated input files": "an input is newer",
    "Set of input files has changed": "its inputs are others now",
    "Software environment definition": "its environment changed",
    "Code has changed": "its rule changed",
    "Forced execution": "asked for",
}
# The params of every rule are digests (pipeline/jobs/dag.py); which of them differ says what changed.
_PARAMS = {
    "recipe": "its configuration changed",
    "code": "its code changed",
    "data": "videos or annotations changed",
    "after": "what it builds on changes",
}


@dataclass(frozen=True)
class Job:
    """A job that would run: its rule, its wildcards, and the reason in words."""

    rule: str
    wildcards: dict[str, str]
    why: str

    def of(self, name: str) -> str:
        """One wildcard, empty when the rule has none of that name."""
        return self.wildcards.get(name, "")


def dry_run(config_file: str | Path) -> str:
    """What `snakemake --dry-run` prints. ConfigError with its last words when it refuses."""
    command = [*install.snakemake(), "--configfile", str(config_file), "--dry-run", "--cores", "all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-20:])
        raise ConfigError(f"the dry run failed:\n{last}", where=config_file, fix="mend what it says, then plan again")
    return done.stdout + done.stderr


def jobs(printed: str) -> list[Job]:
    """The jobs of a dry run's text."""
    found = []
    for block in re.split(r"\n(?=(?:local)?rule \w+:\n)", "\n" + printed):
        rule = re.match(r"\n*(?:local)?rule (\w+):\n", block)
        reason = re.search(r"^    reason: (.*?)(?=^    \w+: |^\S|\n\n|\Z)", block, flags=re.M | re.S)
        if rule and reason:
            line = re.search(r"^    wildcards: (.*)$", block, flags=re.M)
            wildcards = dict(pair.split("=", 1) for pair in line[1].split(", ")) if line else {}
            found.append(Job(rule[1], wildcards, in_words(reason[1])))
    return found


def in_words(reason: str) -> str:
    """Snakemake's reason in one phrase: what changed in the params, else its first reason."""
    if "Params have changed" in reason and "Missing output" not in reason:
        before, _, now = reason.partition("now:")
        changed = [key for key in _PARAMS if set(re.findall(rf"'{key}': '(\w+)'", before)) != set(re.findall(rf"'{key}': '(\w+)'", now))]
        own = [key for key in changed if key != "after"] or changed
        return " and ".join(_PARAMS[key] for key in own) if changed else "its parameters changed"
    return next((said for start, said in _REASONS.items() if start in reason), reason.strip().split(":")[0])
