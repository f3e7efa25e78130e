# The declared output is a small manifest; the HDF5 beside it is the job's own store, in which unchanged videos are kept.
rule features:
    input:
        lambda wildcards: frames_for(wildcards),
    output:
        LAYOUT.features_manifest("{encoder}", "{shard}"),
    log:
        log_of("features"),
    benchmark:
        benchmark_of("features")
    conda:
        "../../envs/gpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        **NEEDS.of("features"),
        gpu=GPU,
    params:
        of=params_of("features"),
    shell:
        'prvr features --config "$config" --encoder {wildcards.encoder:q} --shard {wildcards.shard:q} --threads {threads} 2> {log:q}'


rule text:
    input:
        lambda wildcards: given([JOBS.annotations_file]),
    output:
        LAYOUT.text_manifest("{encoder}"),
    log:
        log_of("text"),
    benchmark:
        benchmark_of("text")
    conda:
        "../../envs/gpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        **NEEDS.of("text"),
        gpu=GPU,
    params:
        of=params_of("text"),
    shell:
        'prvr text --config "$config" --encoder {wildcards.encoder:q} --threads {threads} 2> {log:q}'
