# All runs in one page, made again when one of them is.
rule report:
    input:
        LAYOUT.quarantine_checked,
        [LAYOUT.evaluation_manifest(*run) for run in JOBS.runs("table")],
    output:
        LAYOUT.report_manifest,
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    conda:
        "../../envs/cpu.yaml"
    resources:
        **NEEDS.of("report"),
    params:
        of=params_of("report"),
    shell:
        'prvr report --config "$config" 2> {log:q}'
