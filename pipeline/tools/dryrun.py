"""Snakemake's dry run, read: which jobs would run, and why, in words."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import install
from pipeline.core.errors import PlanError

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


_NOTHING = "Nothing to be done"
_TARGETS = ("all",)  # rules without a shell command: they only ask for files
_UNREADABLE = "look at `snakemake --dry-run` yourself; this version of Snakemake prints it otherwise than the one prvr was tested with"


@dataclass(frozen=True)
class PlannedJob:
    """A job that would run: its rule, its wildcards, and the reason in words."""

    rule: str
    wildcards: dict[str, str]
    why: str


def dry_run(config_file: str | Path) -> str:
    """What `snakemake --dry-run` prints. PlanError with its last words when it refuses."""
    command = [*install.snakemake(), "--configfile", str(config_file), "--dry-run", "--cores", "all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-20:])
        raise PlanError(f"the dry run failed:\n{last}", where=config_file, fix="mend what it says, then plan again")
    return done.stdout + done.stderr


def planned_jobs(printed: str) -> list[PlannedJob]:
    """The jobs of a dry run's text, target rules left out.

    Errors: PlanError when they are not as many of each rule as Snakemake counts, or when nothing in the text says what would run.
    """
    blocks = re.split(r"\n(?=(?:local)?rule \w+:\n)", "\n" + printed)
    jobs = [job for block in blocks if (job := _job(block)) is not None]
    read, counted = Counter(job.rule for job in jobs), _counts(printed)
    if read != counted:
        different = ", ".join(
            f"{rule}: {read[rule]} of {counted[rule]}" for rule in sorted(read.keys() | counted) if read[rule] != counted[rule]
        )
        raise PlanError(f"jobs of the dry run that could not be read: {different}", fix=_UNREADABLE)
    return [job for job in jobs if job.rule not in _TARGETS]


def _job(block: str) -> PlannedJob | None:
    """The job a block of the text describes; None when it is none."""
    rule = re.match(r"\n*(?:local)?rule (\w+):\n", block)
    reason = re.search(r"^    reason: (.*?)(?=^    \w+: |^\S|\n\n|\Z)", block, flags=re.M | re.S)
    if not rule or not reason:
        return None
    line = re.search(r"^    wildcards: (.*)$", block, flags=re.M)
    return PlannedJob(rule[1], dict(pair.split("=", 1) for pair in line[1].split(", ")) if line else {}, in_words(reason[1]))


def _counts(printed: str) -> Counter[str]:
    """rule -> how many jobs of it Snakemake says it would run. PlanError when it says nothing, or something that does not add up."""
    table = re.search(r"^Job stats:\njob +count\n[- ]+\n((?:\w+ +\d+\n)+)", printed, flags=re.M)
    if table is None:
        if _NOTHING in printed:
            return Counter()
        raise PlanError("the dry run says neither which jobs would run nor that there are none", fix=_UNREADABLE)
    counts = Counter({rule: int(count) for rule, count in (line.split() for line in table[1].splitlines())})
    total = counts.pop("total", 0)
    if total != counts.total():
        raise PlanError(f"the dry run lists {counts.total()} jobs and counts {total}", fix=_UNREADABLE)
    return counts


def in_words(reason: str) -> str:
    """Snakemake's reason in one phrase: what changed in the params, else its first reason."""
    if "Params have changed" in reason and "Missing output" not in reason:
        before, _, now = reason.partition("now:")
        changed = [key for key in _PARAMS if set(re.findall(rf"'{key}': '(\w+)'", before)) != set(re.findall(rf"'{key}': '(\w+)'", now))]
        own = [key for key in changed if key != "after"] or changed
        return " and ".join(_PARAMS[key] for key in own) if changed else "its parameters changed"
    return next((said for start, said in _REASONS.items() if start in reason), reason.strip().split(":")[0])
