"""What a folder for the Hugging Face hub says of itself: a README.md whose YAML front matter the hub reads, and honest words below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

MEASURES = ("R@1", "R@5", "R@10", "R@100", "SumR")
TAGS = ["partially-relevant-video-retrieval", "video-retrieval", "text-to-video-retrieval"]
DEMO = (
    "**A demonstration.** Its videos are rendered shapes, its encoders are tiny and were trained on such shapes: it is of no use on real "
    "videos, and its numbers say nothing about them."
)
NO_LICENCE = (
    "No licence is stated. Before you publish this, choose one that the videos, the captions and the pretrained encoders allow, and "
    "put `license: ...` into the lines at the top."
)


def code(text: object) -> str:
    """A text from outside as inline code: it cannot end the code, the line or the front matter."""
    return "`" + " ".join("".join(c if c.isprintable() and c != "`" else " " for c in str(text)).split()) + "`"


def model_card(about: Mapping[str, Any], metrics: Mapping[str, Any] | None, licence: str = "") -> str:
    """The README.md of a model: where its weights come from, what they were measured to do where they were, how to use them.

    `about` is what config.json holds (hub.py); `metrics` the run's metrics.json, None when there is none of these weights.
    """
    front: dict[str, Any] = {"library_name": "prvr", "tags": TAGS}
    if licence:
        front["license"] = licence
    if metrics:
        front["model-index"] = _model_index(about, metrics)
    name = about["experiment_name"]
    parts = [
        f"# {name} on {code(about['dataset'])}",
        "A model of partially relevant video retrieval: a sentence finds the untrimmed videos that show it at some moment, and the moment.",
        DEMO if about["demo"] else "",
        _origin(about),
        "## What it was measured to do",
        _measured(about, metrics),
        "## What it reads",
        _reads(about),
        "## How to use it",
        "It runs with [prvr](https://pypi.org/project/prvr/) on features of the encoders above, whose weights are not part of this folder. "
        "With the settings of `experiment.yaml` in your configuration:",
        f"```bash\nprvr import-checkpoint . --experiment {name}\n```",
        "`config.json` says how it was made; `model.safetensors` holds the weights, and nothing in either is run.",
        "" if licence else NO_LICENCE,
    ]
    return _page(front, parts)


def dataset_card(name: str, demo: bool, files: Mapping[str, str], encoders: Mapping[str, Mapping[str, Any]], licence: str = "") -> str:
    """The README.md of exported features and results. `files`: what a part is called -> its files; `encoders`: what made the features."""
    front: dict[str, Any] = {"tags": TAGS, "configs": [{"config_name": part, "data_files": where} for part, where in files.items()]}
    if licence:
        front["license"] = licence
    head = ["| encoder | architecture | values | type | videos | rows |", "| --- | --- | --- | --- | --- | --- |"]
    rows = [
        f"| {encoder} | {code(of['architecture'])} | {of['dim']} | {of['dtype']} | {of['videos']} | {of['rows']} |"
        for encoder, of in encoders.items()
    ]
    parts = [
        f"# Features of {code(name)}",
        DEMO if demo else "",
        "Features that frozen, pretrained encoders give of the frames of untrimmed videos, the queries asked of them, and what models "
        "trained on them were measured to do. The videos are not part of it.",
        "\n".join([*head, *rows]) if rows else "",
        "A row of `features-<encoder>` is one moment of one video: `video_id`, `row` (counted from 0), `start` and `end` in seconds (null "
        "where unknown), and `vector`, a list of fixed size in the precision it is stored in, not normalised. `queries` has the moments "
        "that answer each query; `ranks` the 1-based rank of each query's own video; `metrics` is in percent.",
        "```python\nimport pandas as pd\n\nqueries = pd.read_parquet('queries.parquet')\n```",
        "" if licence else NO_LICENCE,
    ]
    return _page(front, parts)


def _page(front: Mapping[str, Any], parts: Sequence[str]) -> str:
    return f"---\n{yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)}---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _model_index(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The hub's form of the measures of the fused score."""
    gallery = metrics["gallery"]
    recalls = metrics["recalls"]["fused"]
    result = {
        "task": {"type": "video-retrieval", "name": "Partially relevant video retrieval"},
        "dataset": {
            "type": str(about["dataset"]),
            "name": f"{about['dataset']}, {gallery['queries']} queries, {gallery['videos']} videos",
            "split": str(metrics["split"]),
        },
        "metrics": [
            {"type": key.lower().replace("r@", "recall_at_"), "name": f"{key} (percent)", "value": round(float(recalls[key]), 4)}
            for key in MEASURES
        ],
    }
    return [{"name": str(about["experiment_name"]), "results": [result]}]


def _origin(about: Mapping[str, Any]) -> str:
    if about["imported"]:
        return (
            f"The weights were imported from {code(about['imported'])}. prvr did not train them: their licence and how to cite them are "
            "their authors' to say."
        )
    chosen = f", epoch {about['epoch']}, which had the best SumR on the {code(about['selection_split'])} split"
    return f"Trained with prvr {about['prvr_version']}, seed {about['seed']}{chosen}. The run's hash is {code(about['run'])}."


def _measured(about: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> str:
    if not metrics:
        return "Nothing: there was no evaluation of these weights when this folder was written."
    gallery = metrics["gallery"]
    rows = {**metrics["recalls"], "chance": metrics["chance"]}
    lines = [f"| {name} | " + " | ".join(f"{values[key]:.2f}" for key in MEASURES) + " |" for name, values in rows.items()]
    notes = [f"{gallery['queries']} queries of the {code(metrics['split'])} split against {gallery['videos']} videos, in percent."]
    if metrics["split"] == metrics["selection_split"]:
        notes.append("The epoch was chosen on the split that is reported, as the field does: the numbers are somewhat too good.")
    return "\n".join([" ".join(notes), "", f"| ranking | {' | '.join(MEASURES)} |", "| --- |" + " --- |" * len(MEASURES), *lines])


def _reads(about: Mapping[str, Any]) -> str:
    dims, experiment = about["dims"], about["experiment"]
    lines = [
        f"- videos: rows of {' + '.join(experiment['features'])}, {dims['video_dim']} values together",
        f"- queries: {experiment['text']}, {dims['text_dim']} values",
    ]
    for name, made_by in about["encoders"].items():
        weights = made_by.get("weights", "imported")
        lines.append(f"- {name}: {code(made_by.get('architecture', made_by.get('kind', '')))}, weights {code(weights)}")
    return "\n".join(lines)
