# From a folder of raw videos to a trained, measured retrieval model. Use: snakemake --cores all --resources gpu=1
# Every stage is one rule in workflow/rules and one room in pipeline/; what a rule depends on is computed by pipeline/jobs/dag.py.
from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/video.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/clips.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        [TABLE, CHECKPOINTS] if CHECKPOINTS else ALL_CLIPS,
        LAYOUT.quarantine_checked,
        LAYOUT.report_manifest,


rule extract:
    input:
        given([*ALL_FEATURES, *ALL_TEXTS]),


rule clips_of_all:
    input:
        ALL_CLIPS,


rule ablation:
    input:
        LAYOUT.table("ablation"),


rule sweeps:
    input:
        LAYOUT.table("sweeps"),
