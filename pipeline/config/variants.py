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
BASE = "gmmformer_v2"  # what RAL is put on where nothing else is said

# Of the other methods, by kind; one without an entry has none: its released code does what its paper says, as far as either is known.
OF_KIND: dict[str, Switches] = {
    "gmmformer": {"model.second_pass": (True, False)},
    "gmmformer_v2": {"model.second_pass": (True, False)},
    "ral": {  # paper: what its README and formulae say (docs/methods.md, RAL 5-6)
        "objectives.ral.proxy_matching": (4e-3, 4e-3),
        "objectives.ral.distribution_alignment": (2.5e-4, 1e-3),
        "objectives.ral.support": ("buffer", "words"),
        "objectives.ral.divergence": ("mixed", "exact"),
    },
}


def of(kind: str) -> Switches:
    """The switches of a model's kind; of a plug-in, `<kind>/<kind of its base>`, its own and its base's."""
    plugged, _, base = kind.partition("/")
    if base:
        return {switch.replace("model.", "model.base.", 1): values for switch, values in of(base).items()} | OF_KIND.get(plugged, {})
    return SWITCHES if kind == "msc" or "." in kind else OF_KIND.get(kind, {})


def kind(experiment: dict[str, Any]) -> str:
    """The kind of model that an experiment's values name; of a plug-in `<kind>/<kind of its base>`."""
    model = experiment.get("model", {})
    own = _of(model, "kind", "msc")
    return f"{own}/{_of(_of(model, 'base', {}), 'kind', BASE)}" if own == "ral" else str(own)


def _of(section: Any, key: str, default: Any) -> Any:
    return section.get(key, default) if isinstance(section, dict) else getattr(section, key, default)


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
