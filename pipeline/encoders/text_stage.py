"""The text stage: token states and sentence vectors of every query, through one encoder, into the store."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.progress import track
from pipeline.core.shards import ShardStore, key, parts
from pipeline.core.store import open_store, recipe_hash
from pipeline.encoders import attributes, base

CHUNK = 2048  # captions between two looks at the clock


def run(config: Config, layout: Layout, encoder: str, recipe: dict[str, Any], trace: str = "") -> None:
    """Token states and sentence vectors of every query: text/<encoder>.h5 and its manifest, which carries `trace` as that of features does.

    A query whose text did not change is kept. Attribute `teacher`: `last` where a sentence is made from its last token's state, else
    `sentence` (ranking/data.py). Errors: WeightsError, EncoderError, DeviceError.
    """
    started = time.monotonic()
    with open_store(layout.annotations, stage="annotations") as store:
        queries = store.table("queries")
    ids, texts = [str(i) for i in queries["query_id"]], [str(q) for q in queries["query"]]
    keys = {i: key(hashlib.sha256(text.encode()).hexdigest()[:16], recipe) for i, text in zip(ids, texts, strict=True)}
    shard = ShardStore(layout.text(encoder), stage="text", recipe=recipe, group="tokens")
    missing = set(shard.missing(keys))
    todo = [(i, text) for i, text in zip(ids, texts, strict=True) if i in missing]
    attrs = attributes.previous([layout.text(encoder), *parts(layout.text(encoder)).glob("*.h5")], recipe_hash(recipe), stage="text")
    if todo or attrs is None:
        with leased(config.runtime.device, share=config.runtime.share_gpu) as device:
            settings = config.network(encoder)
            model = base.load_text(settings, device, encoder)
            attrs = {"encoder": encoder, "architecture": settings.architecture, "normalised": False}
            attrs["teacher"] = "last" if model.sentence_is_last else "sentence"
            chunks = [todo[i : i + CHUNK] for i in range(0, len(todo), CHUNK)]
            for chunk in track(chunks, label=f"{encoder} queries", unit=f"x{CHUNK}"):
                for (query_id, _), caption in zip(chunk, model.encode_texts([text for _, text in chunk]), strict=True):
                    items = {"sentence": caption.sentence.numpy().astype(np.float16), "truncated": caption.truncated}
                    shard.add(query_id, keys[query_id], caption.states.numpy().astype(np.float16), items=items)
                shard.flush()
    rows = shard.finish(keys, **attrs)
    with open_store(layout.text(encoder), stage="text") as store:
        flags = store.ragged("tokens", lazy=True).items["truncated"] if ids else np.zeros(0, bool)
    truncated = [i for i, flag in zip(ids, flags, strict=True) if flag]
    stats = {"seconds": round(time.monotonic() - started, 3), "computed": len(todo)}
    write_json(layout.text_manifest(encoder), {"queries": len(ids), "rows": rows, "truncated": truncated, "trace": trace, "stats": stats})
