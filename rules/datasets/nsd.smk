# Everything here needs the network, which the compute nodes of clusters lack: local rules. Files that lie in
# `dataset.root` already are not fetched again; with `dataset.download.enabled: false` nothing is fetched.
if DATASET.download.enabled:

    localrules:
        download_tables,
        download_stimuli,
        download_subject,
        download_session,

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

    use rule download_tables as download_subject with:
        output:
            raw(for_any_subject(subject_keys("subj01"))),
        log:
            f"{LOGS}/datasets/{{subject}}/download_subject.log",
        message:
            "Fetching masks, ROIs and behaviour of {wildcards.subject}"

    use rule download_tables as download_session with:
        output:
            raw_betas(),
            raw(for_any_subject([nsd_keys.key_valid("subj01", 1, DATASET.space)])),
        log:
            f"{LOGS}/datasets/{{subject}}/download_session{{session}}.log",
        message:
            "Fetching session {wildcards.session} of {wildcards.subject}"
