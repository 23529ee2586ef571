rule reconstruct_images:
    input:
        unpack(reconstruction_files),
    output:
        images=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/images.h5",
        recovery=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/recovery.h5",
    log:
        f"{LOGS}/generators/{{subject}}/{{reconstruction}}/reconstruct_images.log",
    benchmark:
        f"{BENCHMARKS}/generators/{{subject}}/{{reconstruction}}/reconstruct_images.tsv"
    conda:
        "../envs/decoding.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
        gpu=generator_gpus,
    params:
        generator=generator_section,
        code=generator_code,
    message:
        "Making the images of {wildcards.reconstruction} for {wildcards.subject}"
    script:
        "../workflow/scripts/reconstruct_images.py"


rule draw_sheet:
    input:
        unpack(reconstruction_files),
        images=rules.reconstruct_images.output.images,
        stimuli=stimulus_files,
    output:
        report(
            f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/sheet.png",
            caption="../workflow/report/reconstructions.rst",
            category="Reconstructions",
            labels={"subject": "{subject}", "reconstruction": "{reconstruction}"},
        ),
    log:
        f"{LOGS}/generators/{{subject}}/{{reconstruction}}/draw_sheet.log",
    benchmark:
        f"{BENCHMARKS}/generators/{{subject}}/{{reconstruction}}/draw_sheet.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        dataset=measured(),
        code=code("draw_sheet"),
    message:
        "Drawing the contact sheet of {wildcards.reconstruction} for {wildcards.subject}"
    script:
        "../workflow/scripts/draw_sheet.py"
