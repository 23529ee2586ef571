# What a run will take, told before it: `snakemake preflight --cores 1`. It reads the configuration and the machine
# alone, and nothing depends on it. It always runs, because it has no output.
rule preflight:
    log:
        f"{LOGS}/preflight.log",
    retries: 0  # the same would be refused again
    localrule: True
    conda:
        "../envs/decoding.yaml"
    params:
        partitions=partitions,
        minutes=minutes,
        megabytes=megabytes,
    message:
        "Looking ahead: disk, memory, hours, weights and permissions"
    script:
        "../workflow/scripts/preflight.py"
