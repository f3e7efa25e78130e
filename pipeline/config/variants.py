"""The two variants of a method: what each fills in for the switches a configuration leaves out.

`released` is the behaviour of the code behind the published numbers, `paper` is what the paper's equations say. docs/method.md explains
every row. Merge schedules and context levels depend on the lengths; pipeline/clips/recipe.py resolves those.
"""

from __future__ import annotations

from typing import Any

Switches = dict[str, tuple[Any, Any]]  # switch -> (released, paper)

SWITCHES: Switches = {  # of MSC, and of a model of one's own
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

# Of the other methods, by kind; one without an entry has none: its released code does what its paper says, as far as either is known.
OF_KIND: dict[str, Switches] = {
    "gmmformer": {"model.second_pass": (True, False)},
    "gmmformer_v2": {"model.second_pass": (True, False)},
}


def of(kind: str) -> Switches:
    """The switches of a model's kind."""
    return SWITCHES if kind == "msc" or "." in kind else OF_KIND.get(kind, {})


def kind(experiment: dict[str, Any]) -> str:
    """The kind of model that an experiment's values name."""
    model = experiment.get("model", {})
    return str(model.get("kind", "msc") if isinstance(model, dict) else getattr(model, "kind", "msc"))


def defaults(variant: Any, model: str = "msc") -> dict[str, Any]:
    """The variant's values for a kind of model as nested sections; empty for an unknown name, which validation then reports."""
    if variant not in VARIANTS:
        return {}
    nested: dict[str, Any] = {}
    for switch, values in of(model).items():
        *sections, key = switch.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = values[VARIANTS.index(variant)]
    return nested
