"""Conditional GANs trained on the images of a pool: what stands between an embedding and a photograph."""
