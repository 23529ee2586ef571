"""A conditional StyleGAN2 in plain torch: images of an embedding, trained on images alone.

The generator and its losses are those of LAFITE (Zhou et al. 2022) and Mind Reader (Lin et al. 2022) on top
of StyleGAN2 (Karras et al. 2020), written from the papers. Nothing here knows brain activity.
"""
