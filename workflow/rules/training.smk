# One run per experiment and seed; a killed run goes on from its last epoch.
rule train:
    input:
        unpack(training_inputs),
    output:
        LAYOUT.checkpoint_manifest("{experiment}", "{seed}"),
    log:
        log_of("train"),
    benchmark:
        benchmark_of("train")
    conda:
        "../../envs/gpu.yaml"
    threads: lambda wildcards: CONFIG.experiment(wildcards.experiment).training.threads
    resources:
        **NEEDS.of("train"),
        gpu=GPU,
    params:
        of=params_of("train"),
    shell:
        'prvr train --config "$config" --experiment {wildcards.experiment:q} --seed {wildcards.seed:q} --threads {threads} 2> {log:q}'
