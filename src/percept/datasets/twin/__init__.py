"""The twin: a small simulated NSD with a known best possible score.

`write` makes the files, `truth` reads what is known about the simulated world, `limits` says how well
anything could decode it, and `faults` plants mistakes for the audit to find.
"""
