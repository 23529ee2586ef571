# Where the raw files come from. Own arrays are the user's files already and have no rules here.
if DATASET.kind != "arrays":

    include: f"datasets/{DATASET.kind}.smk"
