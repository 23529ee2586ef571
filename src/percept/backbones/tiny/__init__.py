"""The small networks that ship with Percept: trained on procedural scenes, in hours on two cores.

They are instances of the libraries' own classes with small configurations, so that everything which works
with them works with the published networks as well. Each module of `NETWORKS` offers
``train(job: trainer.Job, recipe: trainer.Recipe = RECIPE) -> None``, which trains one network from scratch,
measures it on held-out scenes and writes its whole folder (weights, configuration, model card README.md, and
last of all backbone.json).
"""

NETWORKS = {  # name: module, and the networks that its training uses
    "tiny_clip": ("percept.backbones.tiny.clip", ()),
    "tiny_judge": ("percept.backbones.tiny.judge", ()),
    "tiny_dino": ("percept.backbones.tiny.dino", ()),
    "tiny_blip": ("percept.backbones.tiny.blip", ("tiny_clip",)),
    "tiny_vae": ("percept.backbones.tiny.vae", ()),
    "tiny_unclip": ("percept.backbones.tiny.unclip", ("tiny_clip", "tiny_vae")),
    "tiny_text": ("percept.backbones.tiny.text", ("tiny_clip", "tiny_vae")),
    "tiny_gan": ("percept.backbones.tiny.gan", ("tiny_clip", "tiny_judge")),
}
