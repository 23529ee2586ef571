"""From betas and masks to one matrix per subject, with a trial table and a voxel table."""
