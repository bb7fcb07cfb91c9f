"""The layers of the package, read from its imports: data < model < {training, pipeline} < benchmark < cli."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import spacy_electra

PACKAGE = Path(spacy_electra.__file__).parent
BELOW = {
    "data": {"data"},
    "model": {"data", "model"},
    "training": {"data", "model", "training"},
    "pipeline": {"data", "model", "pipeline"},
    "benchmark": {"data", "model", "training", "pipeline", "benchmark"},
    "cli": {"data", "model", "training", "pipeline", "benchmark", "cli"},
}
WITHOUT_SPACY = {"data", "model", "training"}
BARE = ("gpu.py", "loader.py")  # in `benchmarks/`: they run where spaCy is not installed
SPACY = {"spacy", "spacy_transformers", "spacy_legacy", "spacy_loggers"}
DOOR = "pipeline/spacy_transformers_api.py"
COMPARED = {"benchmark/reference.py", "benchmark/stock.py", "benchmark/words.py"}  # with transformers itself
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imported(path: Path) -> Iterator[str]:
    """Dotted names of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_every_module_belongs_to_a_layer() -> None:
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES} - {"__init__.py"}
    assert folders == BELOW.keys()


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != PACKAGE], ids=name_of)
def test_a_module_imports_from_its_own_layer_or_from_below(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0]
    for name in imported(path):
        root, _, rest = name.partition(".")
        if root == "spacy_electra" and rest and not rest.startswith("__"):
            assert rest.split(".")[0] in BELOW[layer], f"{name_of(path)} imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in WITHOUT_SPACY], ids=name_of
)
def test_the_lower_layers_run_without_spacy(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & SPACY


def modules_of(name: str) -> Iterator[Path]:
    """The modules of the package that run when a dotted name is imported."""
    root, *parts = name.split(".")
    if root != PACKAGE.name:
        return
    for number in range(len(parts) + 1):
        folder = PACKAGE.joinpath(*parts[:number])
        yield from (path for path in (folder / "__init__.py", folder.with_suffix(".py")) if path.is_file())


@pytest.mark.parametrize("program", BARE)
def test_what_a_program_for_bare_machines_imports_needs_no_spacy(program: str) -> None:
    found: set[Path] = set()
    left = [Path(__file__).parents[1] / "benchmarks" / program]
    while left:
        path = left.pop()
        names = set(imported(path))
        assert not {name.split(".")[0] for name in names} & SPACY, path
        siblings = (path.with_name(f"{name.split('.')[0]}.py") for name in names)
        new = {path for name in names for path in modules_of(name)} | {path for path in siblings if path.is_file()}
        left += new - found
        found |= new
    assert PACKAGE / "benchmark" / "ours.py" in found


def importers(package: str) -> set[str]:
    """The modules that import from a package, by their paths."""
    of = {path: {name.split(".")[0] for name in imported(path)} for path in MODULES}
    return {path.relative_to(PACKAGE).as_posix() for path, roots in of.items() if package in roots}


def test_spacy_transformers_is_imported_by_one_module() -> None:
    assert importers("spacy_transformers") == {DOOR}


def test_only_comparisons_import_transformers_beside_that_module() -> None:
    assert importers("transformers") == {DOOR} | COMPARED


def test_of_transformers_no_model_code_is_needed() -> None:
    names = {name for name in imported(PACKAGE / DOOR) if name.split(".")[0] == "transformers"}
    assert names == {"transformers.utils.generic.ModelOutput"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_read_that_could_run_code(path: Path) -> None:
    for name, call in calls(path):
        assert name not in {"pickle.load", "pickle.loads", "pickle.Unpickler", "eval", "exec", "yaml.load"}, name
        assert "trust_remote_code" not in {keyword.arg for keyword in call.keywords}, name
        if name == "torch.load":
            only_weights = [keyword.value for keyword in call.keywords if keyword.arg == "weights_only"]
            assert [ast.unparse(value) for value in only_weights] == ["True"], f"{name_of(path)}: {ast.unparse(call)}"
    assert not {"dill", "cloudpickle", "joblib", "marshal", "shelve"} & {name.split(".")[0] for name in imported(path)}
    from_pickle = {name for name in imported(path) if name.startswith("pickle.")}
    assert from_pickle <= {"pickle.UnpicklingError"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_imported_at_the_top_that_one_system_alone_has(path: Path) -> None:
    top = ast.parse(path.read_text(encoding="utf8")).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
    assert not {"fcntl", "grp", "pwd", "resource", "termios", "msvcrt", "winreg"} & names


TYPED = {"zeros", "ones", "empty", "full", "tensor", "eye", "linspace", "randn", "rand", "scalar_tensor"}
PLACED = TYPED | {"arange", "randint", "randperm"}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in ("data", "model", "training", "pipeline")],
    ids=name_of,
)
def test_no_tensor_is_made_of_the_type_or_on_the_device_that_others_made_the_default(path: Path) -> None:
    for name, call in calls(path):
        named = {keyword.arg for keyword in call.keywords}
        if name.removeprefix("torch.") in PLACED and name.startswith("torch."):
            assert "device" in named, f"{name_of(path)}: {ast.unparse(call)}"
        if name.removeprefix("torch.") in TYPED or name in ("nn.Linear", "nn.Embedding", "nn.LayerNorm"):
            assert "dtype" in named, f"{name_of(path)}: {ast.unparse(call)}"


QUESTIONS = ("_is_amx_tile_supported", "_is_avx512_bf16_supported", "_is_vnni_supported", "_is_mkldnn_bf16_supported")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_one_module_alone_asks_what_the_processor_can_do(path: Path) -> None:
    asked = [question for question in (*QUESTIONS, "get_cpu_capability") if question in path.read_text(encoding="utf8")]
    assert not asked or name_of(path) == str(Path("model", "inference", "backend.py"))


def test_the_module_that_asks_names_all_questions() -> None:
    source = (PACKAGE / "model" / "inference" / "backend.py").read_text(encoding="utf8")
    assert all(question in source for question in QUESTIONS)
