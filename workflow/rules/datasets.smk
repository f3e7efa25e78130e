# Annotations in, one canonical table out; for the demo, the videos too.
if CONFIG.dataset.kind == "demo":

    rule world:
        output:
            LAYOUT.world / "world.json",
        log:
            f"{LOGS}/world.log",
        benchmark:
            f"{BENCHMARKS}/world.tsv"
        params:
            of=params_of("world"),
        threads: workflow.cores
        conda:
            "../../envs/cpu.yaml"
        shell:
            "{PRVR} world --config {CONFIG_FILE} --threads {threads} 2> {log}"

    WORLD = [LAYOUT.world / "world.json"]
else:
    WORLD = []


rule annotations:
    input:
        ancient(WORLD),
        ancient(DAG.annotation_files),
    output:
        LAYOUT.annotations,
    log:
        f"{LOGS}/annotations.log",
    benchmark:
        f"{BENCHMARKS}/annotations.tsv"
    params:
        of=params_of("annotations"),
    conda:
        "../../envs/cpu.yaml"
    shell:
        "{PRVR} annotations --config {CONFIG_FILE} 2> {log}"
