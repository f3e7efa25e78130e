"""The two variants of the method: what each fills in for the switches a configuration leaves out.

`released` is the behaviour of the code behind the published numbers, `paper` is what the paper's equations say. docs/method.md explains
every row. Merge schedules and context levels depend on the lengths; pipeline/clips/recipe.py resolves those.
"""

from __future__ import annotations

from typing import Any

# switch -> (released, paper).
SWITCHES: dict[str, tuple[Any, Any]] = {
    "clips.similarity": ("dot", "cosine"),
    "clips.last_row": ("drop", "keep"),
    "clips.size_unit": ("slots", "rows"),
    "clips.context_ratio": ("closure", "pairs"),
    "clips.context_choice": ("at_least", "above"),
    "clips.context_merge": ("greedy", "tome"),
    "objectives.nce.clip": (0.02, 1.0),
    "objectives.nce.frame": (0.04, 1.0),
    "objectives.tcpl.normaliser": ("all", "off_diagonal"),
    "objectives.cbva.projection": (True, False),
    "objectives.cbva.similarity": ("dot", "cosine"),
    "objectives.cbva.normaliser": ("mean", "sum"),
    "objectives.cbva.stop_gradient": (True, False),
    "objectives.cbva.epsilon": (1e-8, 0.0),
}
VARIANTS = ("released", "paper")


def defaults(variant: Any) -> dict[str, Any]:
    """The variant's values as nested sections; empty for an unknown name, which validation then reports."""
    if variant not in VARIANTS:
        return {}
    nested: dict[str, Any] = {}
    for switch, values in SWITCHES.items():
        *sections, key = switch.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = values[VARIANTS.index(variant)]
    return nested
