"""What a clips file is made from, and its name. Imported when the workflow is parsed: no torch here."""

from __future__ import annotations

import math
from typing import Any

from pipeline.config.method import Clips, Experiment
from pipeline.core.store import recipe_hash

FEWEST_CONTEXTS = 5  # C_min of Eq. 9
RELEASED = (128, 32, 0.75)  # the lengths and rate the released code fixes its steps for
RELEASED_SCHEDULE = [80, 52, 32]
RELEASED_LEVELS = [32, 20, 12, 8, 5]


def steps(start: int, end: int, rate: float) -> list[int]:
    """Lengths after each step that merges the share `rate` of the pairs, down to `end`, which is the last one.

    Every length is even (halves up), so all positions have a partner; a step that would not shorten ends the list.
    Source: paper Eq. 9, docs/method.md 3.2: 128 -> 80, 50, 32 and 32 -> 20, 12, 8, 6, 5.
    """
    lengths, length = [], start
    while length > end:
        # an odd length has a row without a partner, so not even merging every pair halves it
        shorter = max(end, -(-length // 2), 2 * math.floor(length * (1 - rate / 2) / 2 + 0.5))
        length = shorter if shorter < length else max(end, length - 1)
        lengths.append(length)
    return lengths


def schedule(settings: Clips, variant: str) -> list[int]:
    """Sequence lengths after each merge step of OP-ToMe, the last one `settings.clips`. Source: docs/method.md 3.2."""
    if settings.schedule is not None:
        return list(settings.schedule)
    if variant == "released" and (settings.frames, settings.clips, settings.merge_rate) == RELEASED:
        return list(RELEASED_SCHEDULE)
    return steps(settings.frames, settings.clips, settings.merge_rate)


def levels(settings: Clips, variant: str) -> list[int]:
    """Context counts a video may have, from one per clip to the fewest. Source: docs/method.md 4.2."""
    if settings.levels is not None:
        return list(settings.levels)
    if variant == "released" and (settings.clips, settings.merge_rate) == RELEASED[1:]:
        return list(RELEASED_LEVELS)
    return [settings.clips, *steps(settings.clips, min(settings.clips, FEWEST_CONTEXTS), settings.merge_rate)]


def recipe(experiment: Experiment) -> dict[str, Any]:
    """Every value that decides the content of a clips file: the switches with their variant resolved, and the encoders in order."""
    settings = experiment.clips
    made = settings.model_dump(exclude={"merge_rate"} if settings.window else {"merge_rate", "window"})
    made |= {
        "features": list(experiment.features),
        "schedule": schedule(settings, experiment.variant),
        "levels": levels(settings, experiment.variant),
    }
    if settings.method != "op_tome":
        made |= {"schedule": None, "similarity": None}  # not used, so they must not make another file
    return made


def recipe_name(experiment: Experiment) -> str:
    """The folder of the clips: what one wants to see at a glance, and the recipe's hash."""
    settings = experiment.clips
    method = settings.method.replace("_", "")
    capped = "capped" if settings.frame_rows == "capped" else ""
    window = f"-window{settings.window:g}s" if settings.window else ""
    shape = f"{method}{capped}{settings.frames}to{settings.clips}-tau{settings.tau:g}{window}"
    return f"{'-'.join(experiment.features)}-{shape}-{recipe_hash(recipe(experiment))[:8]}"
