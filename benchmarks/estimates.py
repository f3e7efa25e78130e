"""What `prvr plan` promises beside what a finished run took: `python -m benchmarks.estimates --config FILE`, in the folder of the run.

Processor seconds, so that other work on the machine changes little; a job of one thread on an idle machine takes as long by the clock.
"""

from __future__ import annotations

import argparse
import os

import pandas as pd

from pipeline.config.reading import load
from pipeline.jobs.dag import Dag
from pipeline.jobs.estimates import Costs, Machine, Speeds
from pipeline.jobs.headers import sampled
from pipeline.jobs.lengths import Lengths
from pipeline.jobs.stages import STAGES
from pipeline.tools import speeds


def table(dag: Dag, found: Speeds) -> pd.DataFrame:
    """A row a stage that has run: jobs, seconds by arithmetic, as measured here, and taken."""
    guess, pixels, _ = sampled(dag.members({}))
    lengths, machine = Lengths(dag, guess, sum(dag.listing.queries.values()) or None), Machine(1, gpu=False)
    rows = []
    for stage in STAGES.values():
        done = [of for of in stage.jobs(dag) if stage.benchmark(dag.layout, of).exists()]
        if done:
            seconds = [
                sum(stage.needs(Costs(dag, machine, pixels, given), lengths.load(of), of).seconds for of in done)
                for given in (Speeds(), found)
            ]
            took = [pd.read_csv(stage.benchmark(dag.layout, of), sep="\t", na_values=["NA", "-"]).iloc[0] for of in done]
            rows.append([stage.name, len(done), *seconds, sum(row["cpu_time"] for row in took), sum(row["s"] for row in took)])
    result = pd.DataFrame(rows, columns=["stage", "jobs", "arithmetic", "measured here", "processor seconds", "by the clock"])
    result.loc[len(result)] = ["all", *result.iloc[:, 1:].sum()]
    return result.assign(ratio=result["measured here"] / result["processor seconds"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="config.yaml")
    config = parser.parse_args().config
    dag = Dag.of(load(config))
    found, said = speeds.known(dag, config)
    print(f"{said}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(table(dag, found or Speeds()).to_string(index=False, float_format=lambda value: f"{value:.2f}" if value < 10 else f"{value:.0f}"))


if __name__ == "__main__":
    main()
