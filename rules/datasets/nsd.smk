# Everything here needs the network, which the compute nodes of clusters lack: local rules. Files that lie in
# `dataset.root` already are not fetched again, and betas that lay there first are never deleted; with
# `dataset.download.enabled: false` nothing is fetched. The first job compares all that is to come with the disk.
if DATASET.download.enabled:

    localrules:
        download_tables,
        download_stimuli,
        fetch_annotations,
        download_subject,

    rule download_tables:
        output:
            raw(nsd_keys.common_files(stimuli=False)),
        log:
            f"{LOGS}/datasets/download_tables.log",
        conda:
            "../../envs/data.yaml"
        message:
            "Fetching the tables of the experiment"
        script:
            "../../workflow/scripts/download_files.py"

    use rule download_tables as download_stimuli with:
        output:
            raw([nsd_keys.STIMULI]),
        log:
            f"{LOGS}/datasets/download_stimuli.log",
        message:
            "Fetching the 73,000 stimuli (37 GiB)"

    rule fetch_annotations:
        output:
            annotation_files(None),
        log:
            f"{LOGS}/datasets/fetch_annotations.log",
        conda:
            "../../envs/data.yaml"
        message:
            "Fetching COCO's captions and objects (241 MiB)"
        script:
            "../../workflow/scripts/fetch_annotations.py"

    use rule download_tables as download_subject with:
        output:
            raw(for_any_subject(subject_keys("subj01"))),
        log:
            f"{LOGS}/datasets/{{subject}}/download_subject.log",
        message:
            "Fetching masks, ROIs and behaviour of {wildcards.subject}"

    # The only output of its rule: before a job Snakemake removes what there is of its outputs, and betas that
    # lie there already must not go because another file is missing.
    if not reads_ranges():

        localrules:
            download_session,

        use rule download_tables as download_session with:
            output:
                raw_betas(),
            log:
                f"{LOGS}/datasets/{{subject}}/download_session{{session}}.log",
            message:
                "Fetching session {wildcards.session} of {wildcards.subject}"

    for subject in SUBJECTS:

        rule:
            name:
                f"download_masks_{subject}"
            output:
                raw(mask_keys(subject)),
            log:
                f"{LOGS}/datasets/{subject}/download_masks.log",
            localrule: True
            conda:
                "../../envs/data.yaml"
            message:
                f"Fetching the masks of valid voxels of {subject}"
            script:
                "../../workflow/scripts/download_files.py"
