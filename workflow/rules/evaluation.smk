# Ranks, recalls, collapse measures and moments of every run, then one table.
rule evaluate:
    input:
        unpack(training_inputs),
        checkpoint=lambda wildcards: given(
            [JOBS.checkpoint_file(wildcards.experiment, wildcards.seed)]
        ),
        features=given(ALL_FEATURES),
    output:
        LAYOUT.evaluation_manifest("{experiment}", "{seed}"),
    log:
        log_of("evaluate"),
    benchmark:
        benchmark_of("evaluate")
    conda:
        "../../envs/gpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        **NEEDS.of("evaluate"),
        gpu=GPU,
    params:
        of=params_of("evaluate"),
    shell:
        'prvr evaluate --config "$config" --experiment {wildcards.experiment:q} --seed {wildcards.seed:q} --threads {threads} 2> {log:q}'


rule table:
    input:
        lambda wildcards: [
            LAYOUT.evaluation_manifest(*run) for run in JOBS.runs(wildcards.target)
        ],
    output:
        table=LAYOUT.table("{target}"),
        done=LAYOUT.table_manifest("{target}"),
    log:
        log_of("table"),
    benchmark:
        benchmark_of("table")
    conda:
        "../../envs/cpu.yaml"
    resources:
        **NEEDS.of("table"),
    params:
        of=params_of("table"),
    shell:
        'prvr table --config "$config" --target {wildcards.target:q} 2> {log:q}'


# A job for each method, with all cores of the machine, so that nothing runs beside what is timed.
rule cost:
    input:
        unpack(training_inputs),
    output:
        LAYOUT.cost("{experiment}"),
    log:
        log_of("cost"),
    benchmark:
        benchmark_of("cost")
    conda:
        "../../envs/gpu.yaml"
    threads: ALL_CORES
    resources:
        **NEEDS.of("cost"),
        gpu=GPU,
    params:
        of=params_of("cost"),
    shell:
        'prvr cost --config "$config" --experiment {wildcards.experiment:q} --threads {threads} 2> {log:q}'


rule compare:
    input:
        compared_inputs,
    output:
        table=LAYOUT.table("compare"),
        done=LAYOUT.table_manifest("compare"),
    log:
        log_of("compare"),
    benchmark:
        benchmark_of("compare")
    conda:
        "../../envs/cpu.yaml"
    resources:
        **NEEDS.of("compare"),
    params:
        of=params_of("compare"),
    shell:
        'prvr compare --config "$config" 2> {log:q}'
