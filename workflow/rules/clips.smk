# Pooling, order-preserving token merging and context counting, once per video.
rule clips:
    input:
        lambda wildcards: given(
            JOBS.features_file(e, wildcards.shard)
            for e in JOBS.pooled(wildcards.recipe).features
        ),
    output:
        LAYOUT.clips_manifest("{recipe}", "{shard}"),
    log:
        log_of("clips"),
    benchmark:
        benchmark_of("clips")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        **NEEDS.of("clips"),
    params:
        of=params_of("clips"),
    shell:
        'prvr clips --config "$config" --recipe {wildcards.recipe:q} --shard {wildcards.shard:q} --threads {threads} 2> {log:q}'
