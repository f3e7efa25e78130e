"""The one list of stages: a new one is a class, an entry here, and a rule in workflow/rules."""

from __future__ import annotations

from pipeline.jobs.extraction import Annotations, Features, Frames, Quarantine, Text, World
from pipeline.jobs.learning import Clips, Compare, Cost, Evaluate, Report, Table, Train
from pipeline.jobs.stage import Stage

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        World(),
        Annotations(),
        Frames(),
        Features(),
        Text(),
        Quarantine(),
        Clips(),
        Train(),
        Evaluate(),
        Table(),
        Cost(),
        Compare(),
        Report(),
    )
}
