"""Networks from voxels to embeddings of images, their losses and their learners."""
