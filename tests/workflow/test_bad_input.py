"""Bad input through the workflow: a message that says what, where, why and what to do, and nothing half-made.

Rows of DESIGN.md section 10 that this issue touches, and where each is exercised:

=================================================  ==========================================================
terms not accepted                                 test_nsd_bucket.py; unit/datasets/test_download.py
download truncated, corrupt, of wrong size         faults/test_download_faults.py
truncated file of betas                            here; unit/voxels/test_stream.py
mask and betas of different shape                  unit/voxels/test_extract.py; test_arrays_errors.py
unknown ROI label or set                           here (set and label); unit/voxels/test_roi.py
empty ROI                                          unit/voxels/test_extract.py
missing session                                    here; test_nsd_bucket.py; unit/voxels/test_extract.py
NaN or constant voxels, too few repeats            unit/voxels: test_extract, test_normalise, test_reliability
unknown config key, decoder, target, generator     here; unit/test_config.py
weights absent and no network                      here; unit/backbones/test_store.py
generator given a target of another space          here; unit/generators
too little disk                                    unit/datasets/test_download.py
killed, preempted, power cut                       faults/test_killed_run.py, faults/test_download_faults.py
one bad subject or session does not stop others    here; test_nsd_bucket.py
=================================================  ==========================================================

Non-finite loss and GPU memory concern decoders trained by gradient descent, which there are none of yet.
"""

import shutil

import pytest
import yaml

from percept import config
from percept.datasets import nsd_keys
from percept.datasets.twin import write

from .conftest import REPOSITORY, TINY, Checkout, merged

pytestmark = pytest.mark.xdist_group("bad input")
TWIN = {"sessions": 1, "shared_images": 30, "bits": 4.0}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A checkout with the files of a twin of two subjects, and the settings of that twin."""
    copy = Checkout(tmp_path_factory.mktemp("bad"))
    settings = config.load(merged(yaml.safe_load((REPOSITORY / TINY).read_text()), {"dataset": TWIN}))
    root = copy.folder / settings.dataset.root
    write.write_experiment(settings.dataset, root)
    for subject in settings.dataset.subjects:
        write.write_subject(settings.dataset, root, subject)
    return copy, settings.dataset, root


def refused(copy, changes):
    """What a run says that must fail before any job."""
    path = copy.configure("wrong", merged({"dataset": TWIN}, changes))
    done = copy.snakemake("all", config=path, check=False)
    assert done.returncode != 0 and "Select jobs to execute" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"voxels": {"normalise": "train"}}, ["`voxels.normalise`", "did you mean 'normalisation'"]),
        ({"datasett": {}}, ["`datasett` is no setting", "did you mean 'dataset'"]),
        ({"dataset": {"session": 2}}, ["`dataset.twin.session` is no setting", "did you mean 'sessions'"]),
        ({"decoders": {"ridge_pixels": {"kind": "rigde"}}}, ["rigde", "ridge"]),
        ({"decoders": {"ridge_pixels": {"target": "pixel"}}}, ["ridge_pixels.target`", "mean 'pixels'"]),
        ({"targets": {"pixels": {"kind": "pixel"}}}, ["'pixel'", "pixels"]),
        ({"reconstructions": {"linear": {"generator": {"kind": "pixles"}}}}, ["pixles", "pixels"]),
        ({"reconstructions": {"linear": {"lowlevel": "ridge_pixel"}}}, ["lowlevel`", "mean 'ridge_pixels'"]),
        (
            {"reconstructions": {"unclip": {"semantic": "ridge_latents"}}},
            ["unclip.semantic`", "backbone: tiny_clip, output: pooled", "(ridge_clip, mindeye)"],
        ),
        (
            {"reconstructions": {"unclip": {"lowlevel": "ridge_pixels"}}},
            ["unclip.lowlevel`", "kind: vae_latent, backbone: tiny_vae", "(ridge_latents, mindeye_lowlevel)"],
        ),
        ({"reconstructions": {"unclip": {"semantic": None}}}, ["`reconstructions.unclip`", "lacks semantic"]),
        ({"evaluation": {"images": {"networks": ["tiny_clap"]}}}, ["tiny_clap", "tiny_clip"]),
        ({"voxels": {"extract": ["nsdgenral"]}}, ["nsdgenral", "nsdgeneral"]),
        ({"voxels": {"rois": {"mine": ["streemz:ventral"]}, "extract": ["mine"]}}, ["streemz", "streams"]),
    ],
    ids=[
        "setting", "section", "twin's setting", "decoder", "target of a decoder", "target", "generator",
        "decoder of a reconstruction", "embedding from latents", "latents from pixels", "missing role",
        "network", "ROI set", "atlas",
    ],
)  # fmt: skip
def test_a_wrong_name_stops_before_any_job_and_the_nearest_is_named(lab, changes, said):
    message = refused(lab[0], changes)
    for part in said:
        assert part in message


@pytest.mark.parametrize("damage", ["folder", "manifest", "weights"])
def test_a_small_network_that_is_missing_is_named_with_the_command_that_brings_it_back(lab, damage):
    copy = lab[0]
    folder = copy.folder / "resources/backbones/tiny_unclip"
    what = {"folder": ".", "manifest": "backbone.json", "weights": "unet/*.safetensors"}[damage]
    (path,) = folder.glob(what) if damage != "folder" else (folder,)
    aside = path.rename(copy.folder / "aside")
    try:
        message = refused(copy, {})
    finally:
        aside.rename(path)
    assert "the backbone tiny_unclip" in message and ("absent" in message or "damaged" in message)
    assert "git checkout -- resources/backbones/tiny_unclip" in message


def extracted(copy, name, changes=None):
    """A run up to the voxels of both subjects, that goes on where it can, from the files that are there."""
    path = copy.configure(name, merged({"dataset": {**TWIN, "name": name}}, changes or {}))
    targets = [f"results/{name}/voxels/{subject}/betas.h5" for subject in ("subj01", "subj02")]
    allowed = ["--rerun-triggers", "input", "--allowed-rules", "extract_voxels"]
    done = copy.snakemake(*targets, "--keep-going", *allowed, config=path, check=False)
    return done, [(copy.folder / target).exists() for target in targets]


def test_a_truncated_file_of_betas_is_named_and_stops_its_subject_alone(lab):
    copy, dataset, root = lab
    path = root / nsd_keys.key_betas("subj01", 1, dataset)
    whole = path.with_name("whole")
    shutil.copy(path, whole)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    try:
        done, made = extracted(copy, "truncated")
    finally:
        whole.replace(path)
    assert done.returncode != 0 and made == [False, True]
    log = (copy.folder / "logs/truncated/voxels/subj01/extract_voxels.log").read_text()
    for said in (done.stderr, log):
        assert "betas_session01.nii.gz" in said and "subj01" in said
        assert "truncated" in said or "damaged" in said
    folder = copy.folder / "results/truncated/voxels/subj01"
    assert not folder.exists() or list(folder.iterdir()) == []  # nothing half-written


def test_a_label_that_the_atlas_does_not_have_is_named_with_those_it_has(lab):
    own = {"voxels": {"rois": {"mine": ["prf-visualrois:V9"]}, "extract": ["mine"]}}
    done, made = extracted(lab[0], "label", own)
    assert done.returncode != 0 and made == [False, False]
    assert "V9" in done.stderr and "V1v" in done.stderr


@pytest.mark.parametrize(("policy", "made"), [("error", False), ("skip", True)])
def test_a_session_missing_from_a_local_copy_is_named_or_left_out_as_the_config_says(lab, policy, made):
    copy, _, _ = lab
    own = {
        "kind": "nsd",
        "name": policy,
        "sessions": 2,
        "download": {"enabled": False},
        "shared_images": None,
    }
    changes = {"dataset": {**own, "volumes": None, "bits": None}, "voxels": {"missing_sessions": policy}}
    path = copy.configure(policy, changes)
    target = f"results/{policy}/voxels/subj02/betas.h5"
    done = copy.snakemake(target, config=path, check=False)
    said = done.stdout + done.stderr
    assert (done.returncode == 0, (copy.folder / target).exists()) == (made, made)
    if made:
        assert "missing sessions skipped: 2" in said
    else:
        assert "subj02" in said and "betas_session02.nii.gz" in said
