"""What data, archives and names in the configuration may not do: run code, leave their folder, tell."""

import ast
import io
import json
import re
import zipfile

import pandas as pd
import pytest
import yaml

from percept import config, files
from percept.backbones import store as backbones
from percept.config import ConfigError
from percept.datasets import annotations, coco
from percept.files import PerceptError
from percept.provenance import manifest
from percept.report import page
from percept.targets import folder, store

from .source import LIBRARY, REPOSITORY, SCRIPTS, tree

RUN = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "np.fromregex"}
UNPACK = {"extractall", "extract", "unpack_archive"}  # write wherever the names in an archive say
OUTSIDE = ["/etc/passwd", "../secret.png", "a/../../secret.png", "..", "", "a\0b"]


def dangers(syntax):
    """(line, what) of each call that can run code from data, or unpack an archive anywhere."""
    found = []
    for node in ast.walk(syntax):
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
        last = name.rpartition(".")[2]
        bad = name in RUN or (last in UNPACK and name != "str.extract" and not name.endswith("str.extract"))
        bad |= (
            name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load")
            or given.get("shell", "False") != "False"
        )
        bad |= name == "torch.load" and given.get("weights_only") != "True"
        bad |= name.endswith("load_checkpoint") and given.get("weights_only") != "True"
        bad |= given.get("trust_remote_code", "False") != "False"
        bad |= last == "from_pretrained" and given.get("local_files_only") != "True"
        if bad:
            found.append((node.lineno, name))
    return found


def test_no_call_runs_code_from_data_or_fetches_a_network_by_its_name():
    found = {str(path): dangers(tree(path)) for path in [*LIBRARY, *SCRIPTS]}
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_the_calls_that_are_looked_for_are_there():
    """Else a rename of what is called would make the test above pass on nothing."""
    calls = [node for path in LIBRARY for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    names = [ast.unparse(node.func) for node in calls]
    assert "torch.load" in names and "yaml.safe_load" in names
    assert sum(name.endswith("from_pretrained") for name in names) >= 8


@pytest.mark.parametrize(
    "text",
    [
        "eval(cell)", "exec(text)", "os.system(name)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name)", "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "zipfile.ZipFile(path).extractall(root)", "pd.read_pickle(path)",
    ],
)  # fmt: skip
def test_a_danger_is_found(text):
    assert len(dangers(ast.parse(text))) == 1


def networks():
    """Calls that read a network of a family in which a folder may hold pickled weights as well."""
    for path in LIBRARY:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("from_pretrained"):
                yield path, node


def test_networks_are_read_from_safetensors_alone():
    """`options` of the parts of a pipeline stand in a table, which is looked at as text."""
    for path, node in networks():
        reader = ast.unparse(node.func)
        if "okenizer" in reader or "Processor" in reader:  # no weights
            continue
        given = {one.arg: ast.unparse(one.value) for one in node.keywords}
        said = given.get("use_safetensors") == "True" or given.get(None) == "options"
        assert said, f"{path}:{node.lineno} {reader}"
    text = (REPOSITORY / "src/percept/backbones/diffusion/loading.py").read_text()
    table = re.search(r"readers = \{.*?\n    \}", text, re.DOTALL)[0]
    assert table.count("use_safetensors") == table.count("AutoencoderKL") + table.count("CLIPTextModel")


@pytest.mark.parametrize(
    "name", ["evil/repo", "../tiny_clip", "/tmp/net", "https://example.org/net", "tiny_clipp"]
)
def test_a_network_that_the_catalogue_does_not_know_is_no_setting(name):
    settings = yaml.safe_load((REPOSITORY / "config/experiments/tiny.yaml").read_text())
    settings["targets"]["clip"]["backbone"] = name
    with pytest.raises(ConfigError, match=r"targets\.clip"):
        config.load(settings)
    with pytest.raises(PerceptError):
        backbones.folder(name)


def test_yaml_makes_no_objects(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"dataset: !!python/object/apply:os.system ['touch {tmp_path / 'ran'}']\n")
    with pytest.raises(ConfigError, match=r"config\.yaml is not readable as YAML"):
        config.load(path)
    assert not (tmp_path / "ran").exists()


def test_markup_comes_from_templates_of_the_package_alone():
    assert page.environment().autoescape is True
    marked = [
        (path.name, node.lineno)
        for path in LIBRARY
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Markup")
    ]
    assert {name for name, _ in marked} == {"page.py"} and len(marked) == 2  # its own style and script
    for path in (REPOSITORY / "src/percept/report/templates").iterdir():
        text = path.read_text()
        assert not re.search(r"\|\s*safe\b|autoescape\s+false", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path


# Names that lead out of a folder.


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_its_folder_is_refused(name, tmp_path):
    with pytest.raises(PerceptError, match=r"list\.parquet names the file"):
        files.inside(tmp_path, name, tmp_path / "list.parquet")


def test_a_name_within_its_folder_is_taken(tmp_path):
    assert files.inside(tmp_path, "a/b..c.png", "list") == tmp_path / "a/b..c.png"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_list_of_images_reads_no_other_folder(name, tmp_path):
    files.write_parquet(pd.DataFrame({"file": ["a.png", name]}), tmp_path / "files.parquet")
    with pytest.raises(PerceptError, match=r"files\.parquet names the file"):
        folder.read_list(tmp_path / "files.parquet", tmp_path / "pool", 8)


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_of_features_reads_no_other_folder(name, tmp_path):
    about = {
        "target": "a",
        "fingerprint": {},
        "precision": "float32",
        "shape": [1],
        "shards": [{"file": name}],
    }
    files.write_json(about, tmp_path / "index.json")
    with pytest.raises(PerceptError, match=r"index\.json names the file"):
        store.Features(tmp_path / "index.json")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_of_a_backbone_reads_no_other_folder(name, tmp_path, monkeypatch):
    monkeypatch.setenv(backbones.ELSEWHERE, str(tmp_path))
    place = tmp_path / "tiny_vae"
    place.mkdir()
    (place / backbones.MANIFEST).write_text(json.dumps({"files": {name: {"size": 1, "sha256": ""}}}))
    with pytest.raises(PerceptError, match=r"backbone\.json names the file"):
        backbones.require("tiny_vae")


def test_an_archive_writes_nothing_but_the_files_that_are_expected(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in (*coco.KEYS, "../out.json", "/tmp/percept-out.json", "annotations/../../up.json"):
            archive.writestr(name, "{}")
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.zip").write_bytes(packed.getvalue())
    annotations.unpack(tmp_path / "a.zip", tmp_path / "deep")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["a.zip", *sorted(f"deep/{key}" for key in coco.KEYS)]


# Secrets.

SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def test_the_record_of_a_run_holds_nothing_of_the_environment(tmp_path, monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, f"a-secret-{name}")
    (tmp_path / "a").write_text("x")
    assert "a-secret" not in json.dumps(manifest({"a": 1}, [tmp_path / "a"], REPOSITORY), default=str)


def test_no_message_and_no_log_is_made_from_the_environment():
    """Variables are read by name, where they are settings; nothing prints them all, or a secret one."""
    for path in [*LIBRARY, *SCRIPTS]:
        text = path.read_text(encoding="utf-8")
        assert not any(name in text for name in SECRETS), path
        assert not re.search(r"(dict|str|repr|print|items)\(os\.environ|os\.environ\.(items|copy)\(", text), (
            path
        )
