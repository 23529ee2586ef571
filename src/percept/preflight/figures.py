"""Numbers that the estimates rest on, each with where it is from: measured here, published, or assumed."""

import re
from dataclasses import dataclass
from typing import Literal

Origin = Literal["measured", "published", "assumed"]
GB, GIB = 1e9, 2.0**30


@dataclass(frozen=True)
class Figure:
    """A number with its unit, and where it is from."""

    value: float
    unit: str
    origin: Origin
    said: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit} ({self.origin}): {self.said}"


# NSD, func1pt8mm: GB of betas per session by format, and voxels of nsdgeneral. Of nii.gz one size
# was read and the others go by the volume of the brain.
NSD_BETAS_GB = {
    "nii.gz": {"subj01": 0.467, "subj02": 0.488, "subj03": 0.470, "subj04": 0.450,
               "subj05": 0.399, "subj06": 0.532, "subj07": 0.401, "subj08": 0.429},
    "hdf5": {"subj01": 1.094, "subj02": 1.143, "subj03": 1.102, "subj04": 1.054,
             "subj05": 0.936, "subj06": 1.248, "subj07": 0.939, "subj08": 1.006},
}  # fmt: skip
NSD_VOXELS = {
    "subj01": 15724, "subj02": 14278, "subj03": 15226, "subj04": 13153,
    "subj05": 13039, "subj06": 17907, "subj07": 12682, "subj08": 14386,
}  # fmt: skip
# Released sessions -> images seen, and under `shared1000` images and trials that test.
NSD_IMAGES = {40: (10_000, 1000, 3000), 32: (9411, 930, 2371), 30: (9209, 907, 2188)}
NSD_SHARED = 1000
FINE_SPACE = 5.7  # how much larger volumes are in func1mm
STIMULI_BYTES = 36.84 * GIB
ANNOTATIONS_BYTES = 241 * 2**20

# Parameters of published networks, in millions, as their authors give them; weights are fetched in float32.
PARAMETERS_M = {
    "clip_vit_l14": 428, "openclip_vit_h14": 986, "openclip_vit_bigg14": 2540, "sd_vae": 84,
    "sd_image_variations_vae": 84, "stable_unclip": 1300, "stable_unclip_small": 1300,
    "versatile_diffusion": 2300, "ip_adapter": 654, "ip_adapter_plus": 25, "sd15": 1067, "sd14": 1067,
    "blip_large": 470, "blip_base": 247, "alexnet": 61, "inception_v3": 27, "efficientnet_b1": 8, "swav": 24,
    "lpips_alex": 61,
}  # fmt: skip
# Shape of what the published encoders answer: (kind of target, output) -> shape.
SHAPES: dict[str, dict[tuple[str, str], tuple[int, ...]]] = {
    "clip_vit_l14": {
        ("clip_image", "pooled"): (768,), ("clip_image", "tokens"): (257, 768),
        ("clip_text", "pooled"): (768,), ("clip_text", "tokens"): (77, 768),
    },
    "openclip_vit_h14": {
        ("clip_image", "pooled"): (1024,), ("clip_image", "tokens"): (257, 1280),
        ("clip_text", "pooled"): (1024,), ("clip_text", "tokens"): (77, 1024),
    },
    "openclip_vit_bigg14": {
        ("clip_image", "pooled"): (1280,), ("clip_image", "tokens"): (256, 1664),
        ("clip_text", "pooled"): (1280,), ("clip_text", "tokens"): (77, 1280),
    },
    **{
        name: {("clip_text", "pooled"): (width,), ("clip_text", "tokens"): (77, width)}
        for name, width in {
            "versatile_diffusion": 768, "sd14": 768, "sd15": 768, "stable_unclip": 1024,
            "stable_unclip_small": 1024,
        }.items()
    },
}  # fmt: skip
# Work of one image (one caption, one denoising step of one image) in GFLOP: two for each multiplication and
# its addition. Multiplications as published for the networks; of diffusion models for their own image size.
ENCODING_GFLOP = {
    "clip_vit_l14": 162, "openclip_vit_h14": 334, "openclip_vit_bigg14": 967, "sd_vae": 1100,
    "sd_image_variations_vae": 1100,
}  # fmt: skip
CAPTION_GFLOP = {
    "clip_vit_l14": 13, "versatile_diffusion": 13, "sd14": 13, "sd15": 13, "openclip_vit_h14": 47,
    "stable_unclip": 45, "stable_unclip_small": 13, "openclip_vit_bigg14": 130,
}  # fmt: skip
DENOISING_GFLOP = {
    "stable_unclip": 1800, "stable_unclip_small": 1800, "versatile_diffusion": 800, "sd14": 680, "sd15": 680,
    "ip_adapter": 700, "ip_adapter_plus": 700,
}  # fmt: skip
DECODER_MAPS = Figure(
    3,
    "maps",
    "measured",
    "of 256 channels, that decoding a latent to an image holds at once: benchmarks/images.py",
)
LATENT_SIDE = 512  # pixels of the images for which the work of an autoencoder is given
DECODING_GFLOP = 2500  # of a latent to 512 x 512 pixels, and about as much to score an image

BANDWIDTH = Figure(50e6, "B/s", "assumed", "download, all connections together")
SMALL_FILE = Figure(0.5e6, "B", "assumed", "mean size of a mask, ROI volume or table of NSD")
LZF = Figure(0.9, "of the bytes", "measured", "what compression leaves of images: 0.5 to 1 in the demo")
MASKING = {
    "nii.gz": Figure(1.54, "s", "measured", "a session of subj01 from nii.gz, benchmarks/masking.py"),
    "hdf5": Figure(0.13, "s", "measured", "the same from hdf5"),
    "hdf5-ranges": Figure(30.0, "s", "assumed", "the same by ranges over the network"),
}
CPU_FLOPS = Figure(
    192e9, "FLOP/s", "measured", "ViT-B-32 on two cores: 21.8 images/s of 8.8 GFLOP, benchmarks/caching.py"
)
RIDGE_FLOPS = Figure(
    70e9, "FLOP/s", "measured", "ridge on two cores: 2,000 x 4,000 to 768 in 2.6 s, benchmarks/ridge.py"
)
GPU_FLOPS = {
    "float32": Figure(156e12, "FLOP/s", "published", "peak of an A100 with TF32"),
    "half": Figure(312e12, "FLOP/s", "published", "peak of an A100 in half precision"),
}
GPU_BANDWIDTH = Figure(2.0e12, "B/s", "published", "memory of an A100 of 80 GB")
# Memory by type, in GB of 2^30 bytes, as makers count them; of a type that is sold with two sizes the larger,
# so that what may fit is not refused.
GPU_GB = {
    "p100": 16, "p40": 24, "v100": 32, "t4": 16, "titanv": 12, "titanrtx": 24, "rtx6000": 24, "rtx8000": 48,
    "1080ti": 11, "2080ti": 11, "3080": 12, "3080ti": 12, "3090": 24, "3090ti": 24, "4080": 16, "4090": 24,
    "5090": 32, "a2": 16, "a10": 24, "a16": 16, "a30": 24, "a40": 48, "a100": 80, "a800": 80, "a4000": 16,
    "a4500": 20, "a5000": 24, "a6000": 48, "rtx6000ada": 48, "rtxpro6000": 96, "l4": 24, "l40": 48,
    "l40s": 48, "h100": 80, "h100nvl": 94, "h800": 80, "h20": 141, "h200": 141, "gh200": 144, "b200": 192,
    "gb200": 192, "b300": 288, "gb300": 288,
}  # fmt: skip
GPU_SHARE = Figure(0.4, "of the peak", "assumed", "what networks reach of it; no GPU was measured")
STARTING = Figure(3.0, "s", "assumed", "imports and reading of a job")
DIRECT_IMAGES = Figure(200, "images/s", "assumed", "targets that no network computes, one core")
TINY_GFLOP = Figure(0.5, "GFLOP", "assumed", "an image, or a step, of one of the small networks")
POOL_IMAGES = Figure(
    118_000, "images", "assumed", "in a pool whose folder is absent: as many as COCO trains with"
)
CAPTIONS = 5  # of an image of COCO, as its authors say
TABLES = Figure(0.05e9, "B", "assumed", "tables, figures and pages of a subject")
SCORING = Figure(0.5, "h", "assumed", "tables, figures, audit and scores of a subject, on the CPU")
SCORING_SMALL = Figure(0.01, "h", "assumed", "the same of a simulation or of own data")


def gpu_memory(kind: str) -> Figure | None:
    """Memory of a GPU, in GB of 2^30 bytes, by the name that a cluster gives its type; None if unknown.

    A size in the name wins, of several the last: `nvidia_a100_80gb_pcie_1g.10gb` is a slice of 10.
    """
    named = r"(?<![a-z0-9])(\d+)_?g(?:i?b)?(?![a-z0-9.])"
    sizes = [int(size) for size in re.findall(named, kind.lower())]
    # A name may say another memory: that of the processor beside a GH200 is 480 GB.
    if sizes := [size for size in sizes if size <= max(GPU_GB.values())]:
        return Figure(sizes[-1], "GB", "published", f"memory of a GPU, by the name of its type, {kind}")
    letters = re.sub(r"[^a-z0-9]", "", re.sub(named, "", kind.lower()))
    known = [name for name in GPU_GB if re.search(rf"(?<!\d){name}(?!\d)", letters)]
    if not known:
        return None
    return Figure(GPU_GB[max(known, key=len)], "GB", "published", f"memory of a GPU of the type {kind}")
