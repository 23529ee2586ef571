"""Which targets a generator reads: what its networks were trained on, as the settings of a target.

Checked when the configuration is read, because shapes do not tell spaces apart: text tokens of Versatile
Diffusion, of Stable Diffusion and of a CLIP are all 77 x 768, latents of all autoencoders are alike.
"""

from percept.backbones.catalogue import CATALOGUE, same_text

Space = dict[str, str]  # settings of a target, by name


def pixels() -> tuple[Space, ...]:
    """Colour pixels, whatever their number."""
    return ({"kind": "pixels", "colour": "rgb"},)


def lowlevel(autoencoder: str | None) -> tuple[Space, ...]:
    """Latents of an autoencoder, of images of any size; pixels where there is none."""
    return ({"kind": "vae_latent", "backbone": autoencoder},) if autoencoder else pixels()


def image(generator: str) -> tuple[Space, ...]:
    """The image embedding that conditions a generator of the catalogue."""
    settings = CATALOGUE[generator].settings
    return ({"kind": "clip_image", "backbone": settings["image"], "output": settings["image_output"]},)


def embeddings() -> tuple[Space, ...]:
    """One vector per image, of any CLIP: what a pool of images is searched by."""
    return ({"kind": "clip_image", "output": "pooled"}, {"kind": "open_clip"})


def tokens(encoder: str) -> tuple[Space, ...]:
    """The tokens of a CLIP of the catalogue."""
    return ({"kind": "clip_image", "backbone": encoder, "output": "tokens"},)


def text(generator: str) -> tuple[Space, ...]:
    """The tokens that the cross-attention of a generator reads, of any backbone with the same encoder."""
    names = same_text(CATALOGUE[generator].settings["text"])
    return tuple({"kind": "clip_text", "backbone": name, "output": "tokens"} for name in names)
