# Ranks, recalls, collapse measures and moments of every run, then one table.
rule evaluate:
    input:
        unpack(training_inputs),
        checkpoint=ancient(LAYOUT.checkpoint("{experiment}", "{seed}")),
        features=ancient(ALL_FEATURES),
    output:
        store=LAYOUT.evaluation("{experiment}", "{seed}"),
        metrics=LAYOUT.metrics("{experiment}", "{seed}"),
    log:
        f"{LOGS}/evaluate/{{experiment}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{experiment}}/seed{{seed}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        gpu=GPU,
    params:
        of=params_of("evaluate"),
    shell:
        "{PRVR} evaluate --config {CONFIG_FILE} --experiment {wildcards.experiment} --seed {wildcards.seed} --threads {threads} 2> {log}"


rule table:
    input:
        ancient(
            [
                LAYOUT.metrics(experiment, seed)
                for experiment in EXPERIMENTS
                for seed in SEEDS
            ]
        ),
    output:
        TABLE,
    log:
        f"{LOGS}/table.log",
    benchmark:
        f"{BENCHMARKS}/table.tsv"
    conda:
        "../../envs/gpu.yaml"
    params:
        of=params_of("table"),
    shell:
        "{PRVR} table --config {CONFIG_FILE} 2> {log}"
