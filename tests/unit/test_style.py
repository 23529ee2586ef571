"""What is never right in the source, and a report of what is worth a look (`pytest -s`)."""

import ast
import copy
import re
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from percept import config
from tests.unit.source import (
    LIBRARY,
    SCRIPTS,
    TESTS,
    Function,
    body_lines,
    code_lines,
    functions,
    statements,
    tracked,
    tree,
)

EVERYTHING = [*LIBRARY, *TESTS, *SCRIPTS]
COPY = 6  # lines of code from which two equal functions are a copy
# A path that exists on one machine only, or the address of one place's package index.
ONE_PLACE = re.compile(
    r"(?<![\w.~<>:-])/(?:home|root|work|Users|mnt|scratch)/[\w.]|--(?:extra-)?index-url|find-links"
)
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
KNOWN = {
    "targets": {"pixels", "labels", "truth", "open_clip", "clip_image", "clip_text", "vae_latent"},
    "decoders": {"ridge", "mindeye", "lowlevel", "mapper", "voxelclip", "dino"},
    "generators": {
        "pixels",
        "vae",
        "nearest",
        "image_diffusion",
        "dual_diffusion",
        "text_diffusion",
        "caption_diffusion",
        "outside",
        "vote",
        "gan",
    },
}
METHODS = {"targets": ("blocks", "fingerprint"), "decoders": ("tensors", "train"), "generators": ("build",)}


def module(text: str) -> ast.Module:
    return ast.parse(text)


# Bare `except`.


def bare_excepts(syntax: ast.Module) -> list[int]:
    return [
        node.lineno for node in ast.walk(syntax) if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def test_no_exception_is_caught_without_a_name():
    assert {path: bare_excepts(tree(path)) for path in EVERYTHING if bare_excepts(tree(path))} == {}


def test_a_bare_except_is_found():
    assert bare_excepts(module("try:\n    x()\nexcept:\n    pass\n")) == [3]


# Copies.


class _Anonymous(ast.NodeTransformer):
    """Names of parameters and local variables by order of appearance: a renamed copy is a copy."""

    def __init__(self, local: set[str]) -> None:
        self.local, self.names = local, {}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if node.id in self.local:
            node.id = self.names.setdefault(node.id, f"local {len(self.names)}")
        return node


def fingerprint(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """What a function does, whatever its docstring, annotations and names of variables."""
    body = copy.deepcopy(statements(node))
    arguments = node.args
    local = {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
    local |= {
        name.id
        for statement in body
        for name in ast.walk(statement)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    anonymous = _Anonymous(local)
    return "\n".join(ast.dump(anonymous.visit(statement)) for statement in body)


def copies(found: list[Function]) -> list[list[str]]:
    alike = defaultdict(list)
    for function in found:
        if code_lines(function.path, statements(function.node)) >= COPY:
            alike[fingerprint(function.node)].append(str(function))
    return [same for same in alike.values() if len(same) > 1]


def is_test(function: Function) -> bool:
    return function.node.name.startswith("test_")


def test_no_function_of_the_library_is_a_copy_of_another():
    assert copies(list(functions([*LIBRARY, *SCRIPTS]))) == []


def test_no_helper_of_the_tests_is_a_copy_of_another_or_of_the_library():
    helpers = [function for function in functions(TESTS) if not is_test(function)]
    assert copies([*helpers, *functions(LIBRARY)]) == []


def test_a_copy_is_found_under_other_names(tmp_path):
    text = (
        "def {0}({1}):\n"
        + "".join(f"    {{1}} = {{1}} + {n} * other\n" for n in range(COPY))
        + "    return {1}\n"
    )
    path = tmp_path / "copies.py"
    path.write_text(text.format("f", "x") + text.format("g", "y"))
    assert len(copies([Function(path, node) for node in ast.parse(path.read_text()).body])) == 1


# Tests without an assertion.

ASSERTING = re.compile(r"^(assert_\w+|raises|warns|fail|array_equal_)$")


def asserts(node: ast.AST, helpers: set[str]) -> bool:
    """Whether something is checked here: an assertion, `pytest.raises`, or a helper that asserts."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assert):
            return True
        if isinstance(inner, ast.Call):
            name = inner.func.attr if isinstance(inner.func, ast.Attribute) else getattr(inner.func, "id", "")
            if ASSERTING.match(name) or name in helpers:
                return True
    return False


def asserting_helpers() -> set[str]:
    """Names of functions of the tests that assert, directly or through one another."""
    helpers = [function.node for function in functions(TESTS) if not is_test(function)]
    known: set[str] = set()
    while more := {node.name for node in helpers if node.name not in known and asserts(node, known)}:
        known |= more
    return known


def test_every_test_asserts():
    helpers = asserting_helpers()
    silent = [str(test) for test in functions(TESTS) if is_test(test) and not asserts(test.node, helpers)]
    assert silent == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = 1", False),
        ("run()", False),
        ("assert x", True),
        ("with pytest.raises(ValueError): run()", True),
        ("np.testing.assert_allclose(a, b)", True),
        ("check(a)", True),
    ],
)
def test_a_test_without_an_assertion_is_found(body, expected):
    assert asserts(module(body), {"check"}) is expected


def test_there_are_tests_to_check():
    assert sum(map(is_test, functions(TESTS))) > 300


# Unpickling.


def unpickling(syntax: ast.Module) -> list[int]:
    """Lines that can run code which lies in a data file."""
    found = []
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            modules = []
            if isinstance(allowed := given.get("allow_pickle"), ast.Constant) and allowed.value:
                found.append(node.lineno)
            if ast.unparse(node.func) == "torch.load" and "weights_only" not in given:
                found.append(node.lineno)
        else:
            continue
        found += [node.lineno for name in modules if name.split(".")[0] in UNPICKLERS]
    return found


def test_nothing_is_unpickled():
    data_readers = [*LIBRARY, *SCRIPTS]
    assert {path: unpickling(tree(path)) for path in data_readers if unpickling(tree(path))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "def f():\n    import pickle",
    ],
)
def test_unpickling_is_found(text):
    assert len(unpickling(module(text))) == 1


@pytest.mark.parametrize("text", ["np.load(path, allow_pickle=False)", "torch.load(path, weights_only=True)"])
def test_what_is_safe_is_allowed(text):
    assert unpickling(module(text)) == []


# Words.


def words(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # an image, a font, weights
            continue
        found += [
            f"{path.name}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if pattern.search(line)
        ]
    return found


def readable() -> list[Path]:
    paths = [path for path in tracked() if path.is_file() and path != Path(__file__)]
    if not paths:
        pytest.skip("not a git checkout: there is no list of the project's files")
    return paths


def test_every_todo_names_an_issue():
    assert words(re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!.*#\d)"), readable()) == []


def test_no_file_names_a_path_or_package_index_of_one_place():
    assert words(ONE_PLACE, readable()) == []


@pytest.mark.parametrize(
    "line", ["root = '/home/ana/nsd'", "cd /scratch/data", "pip install --index-url x y"]
)
def test_a_path_of_one_place_is_found(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"fine\n{line}\n")
    assert len(words(ONE_PLACE, [tmp_path / "a.txt"])) == 1


# Registries.

REGISTERED = [
    pytest.param(stage, section, id=f"{stage}-{kind}")
    for stage, plugin in config.PLUGINS.items()
    for kind, section in config.kinds(*plugin).items()
]


@pytest.mark.parametrize("stage", KNOWN)
def test_the_registry_holds_the_kinds_that_are_known(stage):
    assert config.kinds(*config.PLUGINS[stage]).keys() >= KNOWN[stage]


@pytest.mark.parametrize(("stage", "section"), REGISTERED)
def test_every_kind_is_built_from_its_defaults_and_documented(stage, section):
    kind = section.model_fields["kind"].default
    needed = {"target": "pixels", "pool": "web", "backbone": "tiny_clip", "of": ("a", "b", "c")}
    needed |= {"backbone": "tiny_vae"} if kind == "vae_latent" else {}
    required = [name for name, field in section.model_fields.items() if field.is_required()]
    made = section(**{name: needed[name] for name in required if name != "kind"})
    assert made.kind == kind and config.plugin(stage, made.model_dump()) == made
    assert section.__doc__ and section.__doc__ != config.PLUGINS[stage][1].__doc__
    assert all(getattr(section, method).__doc__ for method in METHODS[stage])


# Figures.


def figures() -> dict[str, float | list[str]]:
    """What STYLE's targets speak of: a place to look, not a gate."""
    bodies = sorted(((body_lines(function), str(function)) for function in functions(LIBRARY)), reverse=True)
    lengths = {path: len(path.read_text().splitlines()) for path in LIBRARY}
    public = [
        node
        for path in LIBRARY
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    code, tests = (
        sum(code_lines(path, statements(tree(path))) for path in each) for each in (LIBRARY, TESTS)
    )
    counts = [count for count, _ in bodies]
    return {
        "function body, median": statistics.median(counts),
        "function body, 90th": statistics.quantiles(counts, n=10)[-1],
        "functions above 50 lines": [name for count, name in bodies if count > 50],
        "library file, median": statistics.median(lengths.values()),
        "library files above 400 lines": [path.name for path, length in lengths.items() if length > 400],
        "scripts above 20 lines": [p.name for p in SCRIPTS if code_lines(p, statements(tree(p))) > 20],
        "public definitions documented": sum(bool(ast.get_docstring(node)) for node in public) / len(public),
        "tests / code": tests / code,
        "tests parametrised or generated": parametrised(),
    }


def parametrised() -> float:
    tests = [test.node for test in functions(TESTS) if is_test(test)]
    varied = [
        test
        for test in tests
        if any(
            re.match(r"pytest\.mark\.parametrize|given", ast.unparse(each)) for each in test.decorator_list
        )
    ]
    return len(varied) / len(tests)


def test_report_of_figures():
    found = figures()
    for name, value in found.items():
        print(
            f"{name:34} {value:.2f}"
            if isinstance(value, int | float)
            else f"{name:34} {', '.join(value) or 'none'}"
        )
    assert found["public definitions documented"] > 0
