# Ranks, recalls, collapse measures and moments of every run, then one table.
rule evaluate:
    input:
        unpack(training_inputs),
        checkpoint=LAYOUT.checkpoint("{experiment}", "{seed}"),
        features=ALL_FEATURES,
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
        **NEEDS.of("evaluate"),
        gpu=GPU,
    params:
        of=params_of("evaluate"),
    shell:
        "prvr evaluate --config $config --experiment {wildcards.experiment} --seed {wildcards.seed} --threads {threads} 2> {log}"


rule table:
    input:
        lambda wildcards: [
            LAYOUT.metrics(*run) for run in CONFIG.group(wildcards.target)
        ],
    output:
        LAYOUT.table("{target}"),
    log:
        f"{LOGS}/{{target}}.log",
    benchmark:
        f"{BENCHMARKS}/{{target}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        **NEEDS.of("table"),
    params:
        of=params_of("table"),
    shell:
        "prvr table --config $config --target {wildcards.target} 2> {log}"
