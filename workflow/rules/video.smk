# One decode pass feeds every stream of a shard. The frames are temporary; the manifest says what became of each video.
STREAM_FILES = [LAYOUT.frames(stream, "{shard}") for stream in JOBS.streams]


rule frames:
    input:
        WORLD,
    output:
        manifest=LAYOUT.frames_manifest("{shard}"),
        stores=STREAM_FILES if CONFIG.video.keep_frames else temp(STREAM_FILES),
    log:
        log_of("frames"),
    benchmark:
        benchmark_of("frames")
    conda:
        "../../envs/cpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        **NEEDS.of("frames"),
    params:
        of=params_of("frames"),
    shell:
        'prvr frames --config "$config" --shard {wildcards.shard:q} --threads {threads} 2> {log:q}'


rule quarantine:
    input:
        given(ALL_FEATURES),
    output:
        LAYOUT.quarantine_checked,
    log:
        log_of("quarantine"),
    benchmark:
        benchmark_of("quarantine")
    conda:
        "../../envs/cpu.yaml"
    resources:
        **NEEDS.of("quarantine"),
    params:
        of=params_of("quarantine"),
    shell:
        'prvr quarantine collect --config "$config" 2> {log:q}'
