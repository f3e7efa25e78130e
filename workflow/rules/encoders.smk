# The declared output is a small manifest; the HDF5 beside it is the job's own store, in which unchanged videos are kept.
# Frames are asked for only when the features are not current, so one encoder's change leaves the others alone.
def frames_for(wildcards):
    """The frames an encoder job reads: none when its features are already there."""
    if JOBS.current(wildcards.encoder, wildcards.shard):
        return []
    return [
        LAYOUT.frames(JOBS.stream(wildcards.encoder), wildcards.shard),
        LAYOUT.frames_manifest(wildcards.shard),
    ]


rule features:
    input:
        lambda wildcards: ancient(frames_for(wildcards)),
    output:
        LAYOUT.features_manifest("{encoder}", "{shard}"),
    log:
        f"{LOGS}/features/{{encoder}}/{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/features/{{encoder}}/{{shard}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        gpu=GPU,
    params:
        of=params_of("features"),
    shell:
        "{PRVR} features --config {CONFIG_FILE} --encoder {wildcards.encoder} --shard {wildcards.shard} --threads {threads} 2> {log}"


rule text:
    input:
        ancient(LAYOUT.annotations),
    output:
        LAYOUT.text_manifest("{encoder}"),
    log:
        f"{LOGS}/text/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/text/{{encoder}}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: CONFIG.runtime.threads
    resources:
        gpu=GPU,
    params:
        of=params_of("text"),
    shell:
        "{PRVR} text --config {CONFIG_FILE} --encoder {wildcards.encoder} --threads {threads} 2> {log}"
