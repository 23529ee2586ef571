# Where the raw files come from. Own arrays, and a challenge's tree that is there, are
# the user's files already and have no rules.
if NATIVE or getattr(DATASET, "simulate", None):

    include: f"datasets/{DATASET.kind}.smk"
