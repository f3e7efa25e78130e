# Annotations in, one canonical table out; for the demo, the videos too.
if CONFIG.dataset.kind == "demo":

    rule world:
        output:
            LAYOUT.world / "world.json",
        log:
            log_of("world"),
        benchmark:
            benchmark_of("world")
        conda:
            "../../envs/cpu.yaml"
        threads: ALL_CORES
        resources:
            **NEEDS.of("world"),
        params:
            of=params_of("world"),
        shell:
            'prvr world --config "$config" --threads {threads} 2> {log:q}'


if CONFIG.dataset.kind != "bundle":  # a bundle brings its own

    rule annotations:
        input:
            WORLD,
            # Their content is in params; a brace in a name would be a wildcard.
            lambda wildcards: [
                ancient(file)
                for file in JOBS.annotation_files
                if not set("{}") & set(str(file))
            ],
        output:
            LAYOUT.annotations_manifest,
        log:
            log_of("annotations"),
        benchmark:
            benchmark_of("annotations")
        conda:
            "../../envs/cpu.yaml"
        resources:
            **NEEDS.of("annotations"),
        params:
            of=params_of("annotations"),
        shell:
            'prvr annotations --config "$config" 2> {log:q}'
