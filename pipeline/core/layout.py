"""Where every stage's files lie: the only place that spells a path below the results folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths of one dataset's results (docs/stages.md)."""

    root: Path

    @property
    def world(self) -> Path:
        """The rendered world: `videos/`, `queries.csv`, `relevance.txt`, `world.json`."""
        return self.root / "world"

    @property
    def generated_relevance(self) -> Path:
        """Every video of which a generated caption is true, as TREC judgements."""
        return self.world / "relevance.txt"

    def relevance(self, given: str) -> Path:
        """The file that `evaluation.relevance` means: `generated` is what the rendered world wrote."""
        return self.generated_relevance if given == "generated" else Path(given)

    @property
    def annotations(self) -> Path:
        return self.root / "annotations.h5"

    @property
    def annotations_manifest(self) -> Path:
        return self.root / "annotations.json"

    @property
    def fingerprints(self) -> Path:
        """Cache of content fingerprints by path, size and time."""
        return self.root / "fingerprints.json"

    @property
    def listing(self) -> Path:
        """The videos as the workflow found them when it started; its jobs read them here."""
        return self.root / "videos.json"

    @property
    def shards(self) -> Path:
        """How the files on disk are divided into shards."""
        return self.root / "shards.json"

    @property
    def logs(self) -> Path:
        """What every job said."""
        return self.root / "logs"

    @property
    def running(self) -> Path:
        """Records of the jobs at work (core/running.py)."""
        return self.root / ".running"

    @property
    def benchmarks(self) -> Path:
        """What every job took, as Snakemake measures it."""
        return self.root / "benchmarks"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine.tsv"

    @property
    def missing_videos(self) -> Path:
        """Videos the annotations name that are not on disk."""
        return self.root / "missing-videos.txt"

    @property
    def quarantine_checked(self) -> Path:
        """Written when the share of unusable videos is within the limit."""
        return self.root / "quarantine.json"

    def table(self, target: str = "table") -> Path:
        """The result table of a target: table (experiments), ablation, sweeps or compare."""
        return self.root / f"{target}.md"

    def table_manifest(self, target: str = "table") -> Path:
        return self.root / f".{target}.json"

    @property
    def report(self) -> Path:
        """All runs in one page (docs/report.md)."""
        return self.root / "report.html"

    @property
    def report_manifest(self) -> Path:
        return self.root / ".report.json"

    def frames(self, stream: str, shard: str) -> Path:
        return self.root / "frames" / stream / f"{shard}.h5"

    def spool(self, shard: str) -> Path:
        """Where decoded videos wait until all of their shard are."""
        return self.root / "frames" / f".{shard}.spool"

    def frames_manifest(self, shard: str) -> Path:
        """What happened to each video of the shard: decoder, rows, or the quarantine code."""
        return self.root / "frames" / f"{shard}.json"

    def features(self, encoder: str, shard: str) -> Path:
        return self.root / "features" / encoder / f"{shard}.h5"

    def features_manifest(self, encoder: str, shard: str) -> Path:
        return self.root / "features" / encoder / f"{shard}.json"

    def text(self, encoder: str) -> Path:
        return self.root / "text" / f"{encoder}.h5"

    def text_manifest(self, encoder: str) -> Path:
        return self.root / "text" / f"{encoder}.json"

    def clips(self, recipe: str, shard: str) -> Path:
        return self.root / "clips" / recipe / f"{shard}.h5"

    def clips_manifest(self, recipe: str, shard: str) -> Path:
        return self.root / "clips" / recipe / f"{shard}.json"

    def run(self, experiment: str, seed: int) -> Path:
        return self.root / "runs" / experiment / f"seed{seed}"

    def kept(self, experiment: str, seed: int | str, run: str) -> Path:
        """A run that another one took the place of, by the hash of what it was made by (core/kept.py)."""
        return self.root / "kept" / experiment / f"seed{seed}" / run

    @property
    def tracking(self) -> Path:
        """What experiment trackers keep, a folder for each of them."""
        return self.root / "tracking"

    def checkpoint(self, experiment: str, seed: int) -> Path:
        return self.run(experiment, seed) / "checkpoint.h5"

    def checkpoint_manifest(self, experiment: str, seed: int) -> Path:
        return self.run(experiment, seed) / "checkpoint.json"

    def imported(self, experiment: str, seed: int) -> Path:
        """Written by `prvr import-checkpoint`: the run's checkpoint was not trained here, and no job may train or remove it."""
        return self.run(experiment, seed) / "imported.json"

    def resume(self, experiment: str, seed: int) -> Path:
        """The last epoch's whole state, from which a killed run goes on."""
        return self.run(experiment, seed) / "last.h5"

    def evaluation(self, experiment: str, seed: int) -> Path:
        return self.run(experiment, seed) / "evaluation.h5"

    def evaluation_manifest(self, experiment: str, seed: int) -> Path:
        return self.run(experiment, seed) / "evaluation.json"

    def cost(self, experiment: str) -> Path:
        """What a method costs: parameters, seconds, memory, latency."""
        return self.root / "costs" / f"{experiment}.json"

    def metrics(self, experiment: str, seed: int) -> Path:
        return self.run(experiment, seed) / "metrics.json"


@dataclass(frozen=True)
class KeptLayout(Layout):
    """The same results with a kept run in its experiment's place."""

    kept_run: str = ""

    def run(self, experiment: str, seed: int) -> Path:
        return self.kept(experiment, seed, self.kept_run)
