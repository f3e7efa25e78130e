# The configuration, checked before any job starts, and the few values the rules share.
import shlex
import sys
from pathlib import Path

from snakemake.settings.types import RerunTrigger

# A checkout that was not installed. In a wheel there is no package beside the Snakefile.
if (Path(workflow.basedir) / "pipeline").is_dir():
    sys.path.insert(0, str(Path(workflow.basedir)))

from pipeline.core import install
from pipeline.config.reading import read, validate
from pipeline.config.schema import merge
from pipeline.jobs.captions import remarks
from pipeline.jobs.checks import check, claim, lost_videos
from pipeline.jobs.collection import TARGETS
from pipeline.jobs.dag import Dag as Plan, gpus_per_job
from pipeline.core.errors import PrvrError, system_error
from pipeline.core.signals import ENDING, attend, leave
from pipeline.jobs.display import Display, Ending
from pipeline.jobs.interruption import end_on_signals, note_run
from pipeline.jobs.resources import Requests
from pipeline.jobs.stages import STAGES
from pipeline.jobs.upkeep import adopt, move_to_shards, publish_config, settle

# Times and lists of inputs decide nothing, whatever the profile or the command line says: every job's params hold digests of all it
# depends on (pipeline/jobs/dag.py), and what follows a job that runs, runs. The settings are not there yet while this is read.
TRIGGERS = frozenset([RerunTrigger.PARAMS, RerunTrigger.CODE])
type(workflow).rerun_triggers = property(lambda self: TRIGGERS)

# Planning may take minutes and holds the lock; from the first job on `end_on_signals` takes over.
if workflow.is_main_process:
    attend(ENDING, leave)

# A --configfile replaces config.yaml (the demo) instead of being laid on top of it; --config values are laid on top of either.
if not workflow.configfiles:
    config = merge(read(Path(workflow.basedir) / "config.yaml"), config)

try:
    CONFIG = validate(
        dict(config), source=" + ".join(map(str, workflow.configfiles)) or "config.yaml"
    )
    JOBS = Plan.of(CONFIG, started=not workflow.is_main_process)
    # Features and clips alone need no split to report on.
    NOTES = check(
        JOBS,
        training=not {"extract", "clips_of_all"} & set(sys.argv),
        targets=[
            target
            for target in TARGETS
            if {target, str(CONFIG.layout.table(target))} & set(sys.argv)
        ]
        or ["table"],
    )
    if workflow.is_main_process:
        claim(JOBS.layout)
        lost_videos(JOBS)
        if {"--touch", "-t"} & set(sys.argv):
            adopt(JOBS, set(sys.argv))
        settle(JOBS)
    SHARDS = JOBS.shard_names
    CONFIG_FILE = publish_config(CONFIG, dict(config))
except PrvrError as error:
    raise WorkflowError(f"\n{error}") from None
except OSError as error:
    raise WorkflowError(f"\n{system_error(error) or error}") from None

LAYOUT = JOBS.layout


# Rules declare small manifests, which settle() above gives one time. Imported stores (and annotation files) keep their own: `ancient`
# makes Snakemake overlook it. It must not be used between two jobs: the second would not follow the first.
def given(files):
    """Files some of which may be imported, as Snakemake should look at them."""
    return [ancient(file) if file.suffix == ".h5" else file for file in files]


# The rules call `prvr --config "$config"`: this interpreter's, or with --sdm that of each rule's own environment.
DEPLOYED = bool(workflow.deployment_settings.deployment_method)
PYTHON = "python" if DEPLOYED else sys.executable
CODE = install.code_path(linked=Path(".snakemake/prvr-code") if DEPLOYED else None)
EXPORT = (
    f'export PYTHONPATH={shlex.quote(str(CODE))}"${{PYTHONPATH:+:$PYTHONPATH}}"; '
    if CODE
    else ""
)
PREFIX = (
    f"set -euo pipefail; {EXPORT}config={shlex.quote(str(CONFIG_FILE))}; "
    f'prvr() {{ {shlex.quote(PYTHON)} -P -m pipeline.cli "$@"; }}; '
)
# Snakemake formats it.
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))


# `gpu` is 0 on a machine without one, so its jobs are bounded by cores alone. The default holds when --resources is not given:
# without it Snakemake would start as many GPU jobs as there are cores.
GPU = gpus_per_job(CONFIG)


resource_scopes:
    gpu="local",


# All cores of this machine; a job of a cluster sees those of its node, but may use what was asked for.
CORES = workflow.resource_settings.cores if workflow.is_main_process else None
ALL_CORES = CORES or CONFIG.runtime.threads


if workflow.is_main_process and workflow.local_exec and GPU:
    workflow.global_resources.setdefault("gpu", CONFIG.runtime.gpus)

# Minutes, memory and disk for schedulers, estimated from each shard's videos; a profile's set-resources wins over them.
NEEDS = Requests(JOBS)

# Only the demo has a rule that makes its videos.
WORLD = [LAYOUT.world / "world.json"] if CONFIG.dataset.kind == "demo" else []
TABLE = LAYOUT.table()
# Asked for beside the table, so that a lost one is trained again although its results are there.
CHECKPOINTS = [given([JOBS.checkpoint_file(*run)]) for run in JOBS.runs("table")]
ALL_FEATURES = [JOBS.features_file(e, s) for e in JOBS.video_encoders for s in SHARDS]
ALL_TEXTS = [JOBS.text_file(t) for t in JOBS.text_encoders()]
ALL_CLIPS = [LAYOUT.clips_manifest(r, s) for r in JOBS.clip_recipes() for s in SHARDS]


# On a terminal: the running jobs live, and at the end what they want known and how to go on (pipeline/jobs/display.py).
SHOWN = {}


def show_run(notes):
    """Show the running jobs from here on, and end with them on a signal."""
    quiet = {str(kind) for kind in workflow.output_settings.quiet or ()}
    ending = SHOWN["ending"] = Ending(
        LAYOUT.logs, notes, install.status_command(CONFIG.source)
    )
    display = SHOWN["display"] = Display.open(
        LAYOUT.running, logger.handlers, quiet=bool(quiet & {"all", "progress"})
    )

    def interrupted():
        ending.interrupted = True
        if display:
            display.close()

    end_on_signals(workflow.local_exec, at_once=interrupted)


def end_display(finished=False):
    """Take the display away, and say what the jobs want known."""
    if SHOWN.get("display"):
        SHOWN["display"].close()
    if "ending" in SHOWN:
        SHOWN["ending"].finished = finished
        SHOWN["ending"].notices()


def look_when_a_job_ends():
    """Take Snakemake's limit of 100 starts a second from runs on this machine, where nobody asked for another.

    With a limit every look for jobs to start sets a timer for the next, and so does every job that ends: after n jobs Snakemake
    looks n times a second, for as long as some job waits for a core.
    """
    limit = workflow.scheduler.job_rate_limiter
    if workflow.local_exec and limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onstart:
    look_when_a_job_ends()
    note_run(workflow.local_exec)
    JOBS.save_listing()
    move_to_shards(JOBS)
    notes = [*NOTES, *remarks(JOBS)]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    show_run(notes)
    # Before the first job, not after hours of decoding. A dry run needs no weights.
    missing = JOBS.missing_weights()
    if missing:
        raise WorkflowError("\n" + "\n".join(missing))


onsuccess:
    if workflow.is_main_process:
        end_display(finished=True)
        print(
            f"prvr: ask it: {install.search_command(CONFIG.source)}",
            file=sys.stderr,
        )
        if LAYOUT.report.exists():
            print(
                f"prvr: look at it: {LAYOUT.report}, and the search page: {install.serve_command(CONFIG.source)}",
                file=sys.stderr,
            )


onerror:
    end_display()


wildcard_constraints:
    shard=r"\d+",
    seed=r"\d+",
    target="table|ablation|sweeps",
    encoder=r"[A-Za-z0-9._-]+",
    experiment=r"[A-Za-z0-9._-]+",


# Where a stage's jobs write what they say and what they took (pipeline/jobs/stages.py).
def log_of(stage):
    """The log of a stage's jobs, with its wildcards."""
    return LAYOUT.logs / f"{STAGES[stage].place}.log"


def benchmark_of(stage):
    """The measurements of a stage's jobs, with their wildcards."""
    return LAYOUT.benchmarks / f"{STAGES[stage].place}.tsv"


def params_of(stage):
    """The params of a stage's job, as a function of its wildcards."""
    return lambda wildcards: JOBS.params(stage, **dict(wildcards.items()))


# Frames are asked for only when the features are not current, so one encoder's change leaves the others alone.
def frames_for(wildcards):
    """What an encoder's job waits for: its frames, or where they are streamed the job that feeds it; nothing when its features are there."""
    if JOBS.current(wildcards.encoder, wildcards.shard):
        return []
    if JOBS.streamed:
        first, *_ = JOBS.fed(wildcards.encoder, wildcards.shard)
        alone = first == wildcards.encoder
        return WORLD if alone else [LAYOUT.features_manifest(first, wildcards.shard)]
    return [
        LAYOUT.frames(JOBS.stream(wildcards.encoder), wildcards.shard),
        LAYOUT.frames_manifest(wildcards.shard),
    ]


def training_inputs(wildcards):
    """Everything the training of an experiment reads."""
    name = wildcards.experiment
    return {
        "annotations": given([JOBS.annotations_file]),
        "clips": [
            LAYOUT.clips_manifest(recipe, shard)
            for recipe in JOBS.clip_sets(name)
            for shard in SHARDS
        ],
        "text": given([JOBS.text_file(text) for text in JOBS.texts(name)]),
    }


# A function, because a method that does not fit the configuration is refused here: no other target needs it.
def compared_inputs(wildcards):
    """The measures of every run of every method, and the methods' costs."""
    CONFIG.check_target("compare")
    runs = JOBS.runs("compare")
    costs = [LAYOUT.cost(name) for name in dict.fromkeys(name for name, _ in runs)]
    return [*(LAYOUT.evaluation_manifest(*run) for run in runs), *costs]
