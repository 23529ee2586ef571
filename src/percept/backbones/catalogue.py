"""Every frozen network that has a name: what it is for, where it comes from, under which licence.

A *tiny* one is shipped with the checkout; a *published* one is fetched, at a pinned revision, by `python -m
percept.backbones.fetch NAME`. A network that serves two roles has one name: a CLIP encodes images and texts,
and the text encoder of a diffusion model is opened under the name of the model.

What the field uses them for: `clip_vit_l14` is OpenAI's network in open_clip's layout (MindEye,
Brain-Diffuser, the CLIP metric); `sd_image_variations_vae` the autoencoder of MindEye's low-level pipeline
(Scotti et al. 2023); `sd_vae` has the encoder of Stable Diffusion 1.4 and 1.5, of which only the decoder was
tuned further; `sd14` generates for Takagi and Nishimoto (2023), `versatile_diffusion` for Ozcelik and
VanRullen (2023).

Unpinned, because no commit was known when this was written: `stable_unclip` and `stable_unclip_small`, whose
first repositories were withdrawn in November 2025 (these are the mirrors that took their place), and `swav`.
The first fetch records the commit or the digest; features then carry it in their fingerprint.
"""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from percept.backbones.entry import UNPINNED, Backbone, Hub, Library, Role, Shipped, Url
from percept.files import PerceptError

MIT, BSD, APACHE = "MIT", "BSD-3-Clause", "Apache-2.0"
RAIL, RAIL_PLUS = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M"
FREE: Mapping[str, Any] = MappingProxyType({})

CLIP_FILES = ("open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
VAE_FILES = ("config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
BLIP_FILES = (
    "config.json", "generation_config.json", "preprocessor_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin",
)  # fmt: skip
PIPELINE_FILES = (
    "model_index.json", "*/*.json", "tokenizer/*",
    "*/model.safetensors", "*/pytorch_model.bin",
    "*/diffusion_pytorch_model.safetensors", "*/diffusion_pytorch_model.bin", "!safety_checker/*",
    "!image_encoder/*",
)  # fmt: skip
"""What a pipeline of diffusers reads that is given image embeddings, in float32. The hub's `fp16` variants,
the same networks in half the bytes, are not fetched: `precision: float16` rounds these files to them."""


def _tiny(
    name: str,
    roles: tuple[Role, ...],
    library: Library,
    loader: str,
    settings: Mapping[str, Any] = FREE,
    components: Mapping[str, str] = FREE,
) -> Backbone:
    return Backbone(
        name, roles, "tiny", library, loader, Shipped("tiny_backbones"), MIT, settings, components
    )


def _clip(name: str, source: Hub, tokens: str, **settings: Any) -> Backbone:  # noqa: ANN401
    """`tokens` is the space that `percept.backbones.outputs` makes of the last layers."""
    roles: tuple[Role, ...] = ("image", "text")
    return Backbone(
        name, roles, "published", "open_clip", "clip", source, MIT, {"tokens": tokens, **settings}
    )


def _vae(name: str, source: Hub, licence: str) -> Backbone:
    roles: tuple[Role, ...] = ("autoencoder",)
    return Backbone(name, roles, "published", "diffusers", "autoencoder_kl", source, licence, {"size": 512})


def _diffusion(
    name: str,
    loader: str,
    source: Hub,
    licence: str,
    settings: Mapping[str, Any],
    components: Mapping[str, str] = FREE,
) -> Backbone:
    """`image` and `image_output` in the settings say whose features condition it, `text` whose tokens."""
    roles: tuple[Role, ...] = ("generator", "text") if settings["text"] == name else ("generator",)
    return Backbone(name, roles, "published", "diffusers", loader, source, licence, settings, components)


def _blip(name: str, repository: str, revision: str) -> Backbone:
    source = Hub(repository, revision, BLIP_FILES)
    return Backbone(name, ("captioner",), "published", "transformers", "blip", source, BSD)


def _metric(name: str, library: Library, source: Url, licence: str, settings: Mapping[str, Any]) -> Backbone:
    return Backbone(name, ("metric",), "published", library, library, source, licence, settings)


def _torchvision(file: str) -> Url:
    """Weights of torchvision: the end of the file's name is the beginning of its SHA-256."""
    digest = file.removesuffix(".pth").rpartition("-")[2]
    return Url(f"https://download.pytorch.org/models/{file}", digest)


SHARED = {"vae": "tiny_vae", "text_encoder": "tiny_text", "tokenizer": "tiny_text"}
TINY = (
    _tiny("tiny_clip", ("image", "text"), "open_clip", "clip", {"tokens": "projected"}),
    _tiny("tiny_vae", ("autoencoder",), "diffusers", "autoencoder_kl", {"size": 64}),
    _tiny(
        "tiny_unclip",
        ("generator",),
        "diffusers",
        "unclip",
        {"size": 64, "image": "tiny_clip", "image_output": "pooled", "text": "tiny_text"},
        SHARED | {"image_encoder": "tiny_clip"},
    ),
    _tiny(
        "tiny_text",
        ("generator", "text"),
        "diffusers",
        "img2img",
        {"size": 64, "text": "tiny_text"},
        {"vae": "tiny_vae"},
    ),
    _tiny(
        "tiny_gan",
        ("generator",),
        "percept",
        "stylegan",
        {"size": 64, "image": "tiny_clip", "image_output": "pooled"},
    ),
    _tiny("tiny_blip", ("captioner",), "transformers", "blip"),
    _tiny("tiny_judge", ("metric",), "torchvision", "torchvision"),
    # No CLIP but a network of pictures alone, in the layout of one.
    _tiny("tiny_dino", ("image",), "open_clip", "clip", {"tokens": "projected"}),
)

L14 = Hub("timm/vit_large_patch14_clip_224.openai", "18d0535469bb561bf468d76c1d73aa35156c922b", CLIP_FILES)
H14 = Hub("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c", CLIP_FILES)
BIGG14 = Hub(
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "743c27bd53dfe508a0ade0f50698f99b39d03bec", CLIP_FILES
)
SD_VAE = Hub("stabilityai/sd-vae-ft-mse", "31f26fdeee1355a5c34592e401dd41e45d25a493", VAE_FILES)
VARIATIONS = Hub(
    "lambdalabs/sd-image-variations-diffusers",
    "a2a13984e57db80adcc9e3f85d568dcccb9b29fc",  # version 2, as MindEye
    tuple(f"vae/{file}" for file in VAE_FILES),
    folder="vae",
)
UNCLIP = Hub("sd2-community/stable-diffusion-2-1-unclip", UNPINNED, PIPELINE_FILES)
UNCLIP_SMALL = Hub("sd2-community/stable-diffusion-2-1-unclip-small", UNPINNED, PIPELINE_FILES)
VERSATILE = Hub("shi-labs/versatile-diffusion", "2926f8e11ea526b562cd592b099fcf9c2985d0b7", PIPELINE_FILES)
SD15 = Hub(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", PIPELINE_FILES
)
SD14 = Hub("CompVis/stable-diffusion-v1-4", "133a221b8aa7292a167afc5127cb63fb5005638b", PIPELINE_FILES)
ENCODER_FILES = ("models/image_encoder/config.json", "models/image_encoder/model.safetensors")
ADAPTER, ADAPTER_PLUS = "models/ip-adapter_sd15.safetensors", "models/ip-adapter-plus_sd15.safetensors"
SWAV = Url(
    "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
    prefix="module.",
    drop=("projection_head.", "prototypes."),
)


def _adapter(*files: str) -> Hub:
    return Hub("h94/IP-Adapter", "018e402774aeeddd60609b4ecdb7e298259dc729", files)


def _conditioned(size: int, text: str, image: str = "", output: str = "pooled") -> dict[str, Any]:
    return {"size": size, "text": text} | ({"image": image, "image_output": output} if image else {})


PUBLISHED = (
    _clip("clip_vit_l14", L14, "projected", quick_gelu=True),
    _clip("openclip_vit_h14", H14, "penultimate"),
    _clip("openclip_vit_bigg14", BIGG14, "patches"),
    _vae("sd_vae", SD_VAE, MIT),
    _vae("sd_image_variations_vae", VARIATIONS, RAIL),
    _diffusion(
        "stable_unclip", "unclip", UNCLIP, RAIL_PLUS, _conditioned(768, "stable_unclip", "openclip_vit_h14")
    ),
    _diffusion(
        "stable_unclip_small",
        "unclip",
        UNCLIP_SMALL,
        RAIL_PLUS,
        _conditioned(768, "stable_unclip_small", "clip_vit_l14"),
    ),
    _diffusion(
        "versatile_diffusion",
        "versatile",
        VERSATILE,
        MIT,
        _conditioned(512, "versatile_diffusion", "clip_vit_l14", "tokens"),
    ),
    _diffusion(
        "ip_adapter",
        "ip_adapter",
        _adapter(ADAPTER, *ENCODER_FILES),
        APACHE,
        {"weights": ADAPTER} | _conditioned(512, "sd15", "openclip_vit_h14"),
        {"base": "sd15"},
    ),
    _diffusion(
        "ip_adapter_plus",
        "ip_adapter",
        _adapter(ADAPTER_PLUS),
        APACHE,
        {"weights": ADAPTER_PLUS} | _conditioned(512, "sd15", "openclip_vit_h14", "tokens"),
        {"base": "sd15", "image_encoder": "ip_adapter"},
    ),
    _diffusion("sd15", "img2img", SD15, RAIL, _conditioned(512, "sd15")),
    _diffusion("sd14", "img2img", SD14, RAIL, _conditioned(512, "sd14")),
    _blip("blip_large", "Salesforce/blip-image-captioning-large", "353689b859fcf0523410b1806dace5fb46ecdf41"),
    _blip("blip_base", "Salesforce/blip-image-captioning-base", "82a37760796d32b1411fe092ab5d4e227313294b"),
    _metric(
        "alexnet",
        "torchvision",
        _torchvision("alexnet-owt-7be5be79.pth"),
        BSD,
        {"architecture": "alexnet", "weights": "IMAGENET1K_V1"},
    ),
    _metric(
        "inception_v3",
        "torchvision",
        _torchvision("inception_v3_google-0cc3c7bd.pth"),
        BSD,
        {"architecture": "inception_v3", "weights": "IMAGENET1K_V1"},
    ),
    _metric(
        "efficientnet_b1",
        "torchvision",
        _torchvision("efficientnet_b1-c27df63c.pth"),
        BSD,
        {"architecture": "efficientnet_b1", "weights": "IMAGENET1K_V2"},
    ),
    _metric("swav", "torchvision", SWAV, "CC-BY-NC-4.0", {"architecture": "resnet50"}),
    # The AlexNet below the linear heads, which are part of this package.
    _metric("lpips_alex", "lpips", _torchvision("alexnet-owt-7be5be79.pth"), "BSD-2-Clause", {"net": "alex"}),
)

SAME_TEXT = (frozenset({"sd14", "sd15"}),)
"""Backbones whose text encoders are one network: OpenAI's ViT-L/14, untouched by their training."""

CATALOGUE: Mapping[str, Backbone] = MappingProxyType({entry.name: entry for entry in TINY + PUBLISHED})


def named(name: str, *roles: Role) -> Backbone:
    """The entry of a name, which can serve one of `roles` (any role, if none is given).

    Raises
    ------
    PerceptError : no such backbone, or none for these roles
    """
    fitting = [entry.name for entry in CATALOGUE.values() if not roles or set(roles) & set(entry.roles)]
    wanted = f" that serve as {' or '.join(roles)}" if roles else ""
    if name not in CATALOGUE:
        close = difflib.get_close_matches(name, fitting, n=1, cutoff=0.3)
        nearest = f"the nearest is {close[0]}; " if close else ""
        raise PerceptError(
            f"there is no backbone {name!r}: {nearest}those{wanted or ' that exist'} are "
            f"{', '.join(fitting)}."
        )
    if name not in fitting:
        raise PerceptError(
            f"the backbone {name!r} serves as {' and '.join(CATALOGUE[name].roles)}, not as "
            f"{' or '.join(roles)}: those{wanted} are {', '.join(fitting)}."
        )
    return CATALOGUE[name]


def same_text(name: str) -> tuple[str, ...]:
    """Backbones whose text encoder has the space of that of `name`: itself, then others with the same."""
    others = {other for group in SAME_TEXT if name in group for other in group} - {name}
    return (name, *sorted(others))


def n_gpus(device: str, *names: str) -> int:
    """GPUs to ask a cluster for: none for the CPU, nor for tiny networks unless one is asked for by name.

    Parameters
    ----------
    device : auto, cpu, cuda, cuda:1, ...
    names : of the backbones that are opened on it
    """
    published = any(named(name).family == "published" for name in names)
    return int(bool(names) and (device.startswith("cuda") or (device == "auto" and published)))


def closure(names: Iterable[str]) -> tuple[str, ...]:
    """The backbones `names` with all that their components are read from, each once, sorted.

    Raises
    ------
    PerceptError : no such backbone
    """
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += named(name).components.values()
    return tuple(sorted(found))
