"""What the field's tables hold."""

FIELD_METRICS = ("pixcorr", "ssim", "alexnet2", "alexnet5", "inception", "clip", "effnet", "swav")
"""The eight image metrics of the field's tables, in their order."""
