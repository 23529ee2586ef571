# Only for a simulated challenge: the folders of all subjects at once, because they share what their images are.
rule simulate_challenge:
    output:
        [path for subject in SUBJECTS for path in challenge_files(subject)],
        images=[directory(path) for subject in SUBJECTS for path in challenge_images(subject)],
    log:
        f"{LOGS}/datasets/simulate_challenge.log",
    benchmark:
        f"{BENCHMARKS}/datasets/simulate_challenge.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        dataset=measured(),
        code=code("simulate_challenge"),
    message:
        "Simulating a challenge in the format of Algonauts 2023"
    script:
        "../../workflow/scripts/simulate_challenge.py"
