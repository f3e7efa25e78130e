# One run per experiment and seed; a killed run goes on from its last epoch.
def training_inputs(wildcards):
    """Everything the training of an experiment reads."""
    name = wildcards.experiment
    return {
        "annotations": ancient(LAYOUT.annotations),
        "clips": ancient([LAYOUT.clips(JOBS.clips(name), shard) for shard in SHARDS]),
        "text": ancient([JOBS.text_file(text) for text in JOBS.texts(name)]),
        "quarantine": ancient(LAYOUT.quarantine_checked),
    }


rule train:
    input:
        unpack(training_inputs),
    output:
        LAYOUT.checkpoint("{experiment}", "{seed}"),
    log:
        f"{LOGS}/train/{{experiment}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{experiment}}/seed{{seed}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        gpu=GPU,
    params:
        of=params_of("train"),
    shell:
        "{PRVR} train --config {CONFIG_FILE} --experiment {wildcards.experiment} --seed {wildcards.seed} --threads {threads} 2> {log}"
