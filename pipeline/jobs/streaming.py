"""Features without frames on disk: the first encoder's job of a shard decodes it once, for all its encoders that have something left."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Generator, Mapping
from typing import Any

from pipeline.config.streams import Stream
from pipeline.core.atomic import write_json
from pipeline.core.errors import printable
from pipeline.core.source import Frames, Source
from pipeline.encoders.stage import feed
from pipeline.jobs.dag import Dag
from pipeline.jobs.products import product
from pipeline.jobs.stage import Job
from pipeline.video.stage import Decoding


def decode_and_encode(dag: Dag, encoder: str, shard: str, workers: int) -> dict[str, Any]:
    """Decode the videos of a shard that its encoders lack, and encode them with all that this encoder's job feeds.

    What was made lies in the encoders' stores, for each one's own job to finish, and frames/<shard>.json says what became of each video.
    Returns what was made for this encoder, as its manifest says it. Errors: those of decoding and of encoding.
    """
    manifest = dag.layout.frames_manifest(shard)
    known = json.loads(manifest.read_text()) if dag.done(Job("frames", {"shard": shard})) else {"quarantine": [], "fed": {}}
    unusable = {entry["id"]: entry for entry in known["quarantine"]}
    sources, decoding = dag.sources(shard), Decoding(dag.config, workers)

    def read(todo: Mapping[str, list[Source]], stop: threading.Event) -> Generator[Frames]:
        _forget_stored(dag, shard)
        streams: dict[str, dict[str, Stream]] = {}
        for name, lacking in todo.items():
            stream = dag.config.network(name).stream
            for source in lacking:
                streams.setdefault(source.video_id, {})[stream.name] = stream
        return decoding.frames([source for source in sources if source.video_id in streams], streams, stop)

    # Once the first job has fed them the others' jobs run side by side: none looks at a store that another one is finishing.
    lacks = dag.missing(encoder, shard) - unusable.keys()
    recipes = {name: dag.features_recipe(name) for name in (dag.fed(encoder, shard) if lacks else ())}
    fed = feed(dag.config, dag.layout, shard, [source for source in sources if source.video_id not in unusable], recipes, read)
    if fed or not dag.done(Job("frames", {"shard": shard})):
        content = {source.fingerprint: decoding.quarantine[source.video_id] for source in sources if source.video_id in decoding.quarantine}
        # Of two videos of one content one is decoded.
        unusable |= {source.video_id: _of(source, content[source.fingerprint]) for source in sources if source.fingerprint in content}
        tried = decoding.videos.keys() | unusable.keys()
        about = {
            "videos": {source.video_id: decoding.videos[source.video_id] for source in sources if source.video_id in decoding.videos},
            "quarantine": [unusable[source.video_id] for source in sources if source.video_id in unusable],
            "skipped": sorted(source.video_id for source in sources if source.video_id not in tried),
            "fed": fed,
        }
        write_json(manifest, about)
        product(dag, "frames", shard=shard).finish(dag)
    return fed.get(encoder) or known.get("fed", {}).get(encoder) or {}


def _of(source: Source, entry: dict[str, Any]) -> dict[str, Any]:
    """The quarantine's row of a video of the same content as the one in `entry`."""
    return entry if entry["id"] == source.video_id else {**entry, "id": source.video_id, "path": printable(source.paths[0])}


def _forget_stored(dag: Dag, shard: str) -> None:
    """Remove what an interrupted run with `video.frames: stored` left of a shard: it is decoded once more."""
    shutil.rmtree(dag.layout.spool(shard), ignore_errors=True)
    for stream in dag.streams:
        dag.layout.frames(stream, shard).unlink(missing_ok=True)
