# The declared output is a small manifest; the HDF5 beside it is the job's own store, in which unchanged videos are kept.
# Frames are `ancient`: they are made because features are wanted, never the other way round.
rule features:
    input:
        frames=lambda wildcards: ancient(LAYOUT.frames(DAG.stream(wildcards.encoder), wildcards.shard)),
        manifest=ancient(LAYOUT.frames_manifest("{shard}")),
    output:
        LAYOUT.features_manifest("{encoder}", "{shard}"),
    log:
        f"{LOGS}/features/{{encoder}}/{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/features/{{encoder}}/{{shard}}.tsv"
    params:
        of=params_of("features"),
    threads: CONFIG.runtime.threads
    resources:
        gpu=GPU,
    shell:
        "{PRVR} features --config {CONFIG_FILE} --encoder {wildcards.encoder} --shard {wildcards.shard} --threads {threads} 2> {log}"


rule text:
    input:
        LAYOUT.annotations,
    output:
        LAYOUT.text_manifest("{encoder}"),
    log:
        f"{LOGS}/text/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/text/{{encoder}}.tsv"
    params:
        of=params_of("text"),
    threads: CONFIG.runtime.threads
    resources:
        gpu=GPU,
    shell:
        "{PRVR} text --config {CONFIG_FILE} --encoder {wildcards.encoder} --threads {threads} 2> {log}"
