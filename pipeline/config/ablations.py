"""The paper's ablations as overrides of one experiment: `snakemake ablation` trains them with the configured seeds."""

from __future__ import annotations

from typing import Any

_NO_TCPL = {"tcpl": {"distance": 0.0, "angle": 0.0}}
_NO_CBVA = {"cbva": {"weight": 0.0}}
_UNIFORM: dict[str, Any] = {"clips": {"method": "uniform"}}

# Table 1: each row adds one part to the one before it.
TABLE_1: dict[str, dict[str, Any]] = {
    "baseline": {**_UNIFORM, "objectives": {**_NO_TCPL, **_NO_CBVA}},
    "tcpl": {**_UNIFORM, "objectives": _NO_CBVA},
    "naive-cbva": {**_UNIFORM, "objectives": {"cbva": {"adaptive": False}}},
    "op-tome": {"objectives": {"cbva": {"adaptive": False}}},
    "adaptive": {},
}

# Table 2: what may stand in CBVA's place on the video side.
TABLE_2: dict[str, dict[str, Any]] = {
    f"vcp-{rows}": {"objectives": {**_NO_CBVA, "vcp": {"weight": 1.0, "rows": rows}}} for rows in ("retrieved", "uniform")
}

# Table 3: one value moved at a time.
TABLE_3: dict[str, dict[str, Any]] = {
    **{f"lambda-{e}-{a}": {"objectives": {"tcpl": {"distance": float(e), "angle": float(a)}}} for e, a in ((5, 10), (10, 20), (20, 40))},
    **{f"cbva-{weight:g}": {"objectives": {"cbva": {"weight": weight}}} for weight in (0.05, 0.15, 0.2)},
    **{f"tau-{tau:g}": {"clips": {"tau": tau}} for tau in (0.5, 0.6, 0.7, 0.9)},
    "merge-0.5": {"clips": {"schedule": None, "levels": None, "merge_rate": 0.5}},
}


def tables_1_and_2() -> dict[str, dict[str, Any]]:
    """The default of `ablations:`: the rows of Tables 1 and 2, which need no further encoder."""
    return {name: dict(overrides) for name, overrides in {**TABLE_1, **TABLE_2}.items()}


def table_3() -> dict[str, dict[str, Any]]:
    """The default of `sweeps:`: the values of Table 3. Another teacher is one more entry, `{teacher: <encoder>}`."""
    return {name: dict(overrides) for name, overrides in TABLE_3.items()}
