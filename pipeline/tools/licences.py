"""The licences of everything `pip install prvr` brings, from what is installed here: `python -m pipeline.tools.licences`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import PurePosixPath

from packaging.requirements import Requirement

HEAD = """# Licences of what is installed

Made by `python -m pipeline.tools.licences > docs/licences.md` from an installation with the versions of `constraints.txt` on Linux, x86-64;
a test compares it. prvr itself is Apache-2.0. This is what each package says of itself, not advice.

**Look at this before you publish an image or an environment that holds these files.** It would pass on more than Python code: decord's
wheel carries an FFmpeg of 2018, built with x264 and with switches that make it, in its own words, "nonfree and unredistributable"; PyAV's
carries FFmpeg with x264 and x265, which are under the GPL; torch's CUDA wheels bring NVIDIA's libraries under NVIDIA's terms (the CPU build
of torch does without). Installing from the package index passes nothing on; an image of `envs/Dockerfile` is for your own machines.

Weights have licences of their own: `prvr weights` prints them.
"""


def closure(name: str = "prvr") -> list[Distribution]:
    """Every distribution that `name` requires on this machine, without extras, by name."""
    needed: dict[str, Distribution] = {}
    todo = [(name, frozenset[str]())]
    seen = set(todo)
    while todo:
        wanted, extras = todo.pop()
        try:
            here = distribution(wanted)
        except PackageNotFoundError:
            continue  # of another platform
        needed[_plain(wanted)] = here
        for line in here.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                following = requirement.name, frozenset(requirement.extras)
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
    needed.pop(_plain(name))
    return [needed[key] for key in sorted(needed)]


def licence(of: Distribution) -> str:
    """The licence a distribution declares: its expression, else its classifiers, else the first line of its text."""
    about = of.metadata
    if expressions := about.get_all("License-Expression"):
        return str(expressions[0])
    classified = [line.rsplit(" :: ", 1)[-1] for line in about.get_all("Classifier") or [] if line.startswith("License :: ")]
    said = "".join(about.get_all("License") or []).splitlines()[:1]
    short = [line for line in said if line != "UNKNOWN" and re.search(r"\w", line) and len(line) < 60]
    return " / ".join(sorted(classified)) or "".join(short) or "not declared"


def bundled(of: Distribution) -> list[str]:
    """Names of the shared libraries a wheel carries beside its own code."""
    paths = (PurePosixPath(str(file)) for file in of.files or [])
    return sorted({re.split(r"[-.]", path.name)[0] for path in paths if path.parts[0].endswith(".libs")})


def ffmpeg(of: Distribution) -> str:
    """What the FFmpeg inside a wheel says its licence is, or nothing."""
    files = [file for file in of.files or [] if PurePosixPath(str(file)).name.startswith("libavcodec")]
    said = [re.search(rb"libavcodec license: ([^\0]+)", file.read_binary()) for file in files]
    return "".join(f"; its FFmpeg: {match[1].decode()}" for match in said if match)


def page() -> Iterator[str]:
    """The lines of docs/licences.md."""
    installed = closure()
    yield from HEAD.splitlines()
    yield from ("", "| package | version | licence |", "| --- | --- | --- |")
    yield from (f"| {of.metadata['Name']} | {of.version} | {licence(of).replace('|', '/')} |" for of in installed)
    yield from ("", "## Libraries inside the wheels", "", "| package | carries |", "| --- | --- |")
    yield from (f"| {of.metadata['Name']} | {', '.join(names)}{ffmpeg(of)} |" for of in installed if (names := bundled(of)))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print("\n".join(page()))
