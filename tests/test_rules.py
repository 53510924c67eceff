"""Rules of the project that no linter holds."""

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from itertools import chain
from pathlib import Path

import pytest

import nmdasim

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "nmdasim"

#: A module may import only modules before it.
ORDER = (
    "errors", "compiled", "structures", "subunits", "pore", "ligand", "catalogue", "rundir",
    "stopping", "receptor", "parameters", "pose", "system", "simulation",
    "trajectory", "statistics", "contacts", "permeation", "channel_block", "analysis", "report",
    "campaign", "doctor", "cli",
)  # fmt: skip
BUILD = {"receptor", "parameters", "pose", "system", "simulation"}
READING = {
    "trajectory",
    "statistics",
    "contacts",
    "permeation",
    "channel_block",
    "analysis",
    "report",
}
#: Where each big library may be imported.
HOMES = {
    "openmm": BUILD,
    "propka": {"receptor"},
    "numba": {"compiled"},
    # The report reads the tables that the receptor's file holds.
    "gemmi": {"receptor", "trajectory", "report"},
    "mdtraj": READING,
    "pyarrow": {"analysis", "report", "campaign"},
    "plotly": {"report"},
    "jinja2": {"report", "catalogue"},
    "rich": {"simulation", "campaign", "cli"},
    "openff": {"parameters"},
    "dimorphite_dl": {"ligand"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    """Name the top-level module that a file belongs to; empty for the package itself."""
    part = path.relative_to(PACKAGE).parts[0]
    return "" if part == "__init__.py" else part.removesuffix(".py")


def imports(path):
    """Give the dotted names that a file imports, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path):
    """Give the top-level modules of nmdasim that a file imports."""
    return {
        parts[1]
        for parts in (name.split(".") for name in imports(path))
        if parts[0] == "nmdasim" and len(parts) > 1
    }


def test_every_module_has_a_place_in_the_order():
    found = {module_of(path) for path in MODULES} - {"", "data", "structures"}
    assert found <= set(ORDER)
    assert found >= BUILD | READING


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    module = module_of(path)
    if not module:
        return
    allowed = set(ORDER[: ORDER.index(module) + 1])
    assert own_imports(path) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_halves_meet_only_in_the_run_folder(path):
    for half, other in ((BUILD, READING), (READING, BUILD)):
        if module_of(path) in half:
            assert not own_imports(path) & other


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_big_libraries_stay_at_home(path):
    for name in imports(path):
        home = HOMES.get(name.split(".")[0])
        assert home is None or module_of(path) in home, name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_error_is_swallowed(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            raised = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert not broad or raised, f"line {node.lineno}"


def is_constant(expression):
    """Say whether an expression cannot depend on what is tested."""
    return not any(
        isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Await)
        for node in ast.walk(expression)
    )


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=lambda path: path.name)
def test_no_assertion_is_constant(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assert):
            assert not is_constant(node.test), f"line {node.lineno}"
            if isinstance(node.test, ast.Compare):
                sides = [node.test.left, *node.test.comparators]
                same = len({ast.dump(side) for side in sides}) == 1
                assert not same, f"line {node.lineno} compares a thing with itself"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("True", True), ("1 == 1", True), ("x", False), ("f() == 1", False), ("not (1, 2)", True)],
)
def test_the_rule_tells_constants(text, expected):
    assert is_constant(ast.parse(text, mode="eval").body) is expected


def test_every_module_has_its_tests():
    tests = {path.stem for path in (ROOT / "tests").glob("test_*.py")}
    modules = {module_of(path) for path in MODULES} - {"", "data", "errors", "structures"}
    assert {f"test_{module}" for module in modules} <= tests


# ---------------------------------------------------------------- the public names


def test_public_names_of_the_design_are_there():
    functions = {
        "load_ligand", "load_receptor", "prepare_receptor", "place_ligand", "build_system",
        "simulate", "open_run", "pore_frame", "pore_profile", "interactions", "blockade",
        "summarise",
    }  # fmt: skip
    types = {
        "Ligand", "Receptor", "Pose", "System", "Protocol", "Run", "PoreFrame", "PoreProfile",
        "Check", "Estimate",
    }  # fmt: skip
    assert functions | types <= set(nmdasim.__all__)
    assert set(nmdasim.__all__) <= set(dir(nmdasim))


def test_an_unknown_name_is_refused_as_usual():
    with pytest.raises(AttributeError, match="no attribute 'teleport'"):
        nmdasim.teleport  # noqa: B018


@pytest.mark.parametrize("name", nmdasim.__all__)
def test_public_names_are_documented(name):
    public = getattr(nmdasim, name)
    text = inspect.getdoc(public)
    assert text
    assert text.splitlines()[0].endswith(".")
    if is_dataclass(public):
        check_fields(public)
    elif inspect.isfunction(public):
        check_sections(public, text)


def check_sections(function, text):
    """Hold a numpydoc docstring against the signature."""
    signature = inspect.signature(function)
    described = section(text, "Parameters")
    named = set(chain.from_iterable(line.split(" : ")[0].split(", ") for line in described))
    named = {word.lstrip("*") for word in named}
    assert {*signature.parameters} <= named
    returned = signature.return_annotation
    if returned not in (None, "None", inspect.Signature.empty):
        assert section(text, "Returns") or section(text, "Yields")


def section(text, title):
    """Give the unindented lines of a section of a numpydoc docstring."""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n\w[\w ]*\n-+\n|\Z)", text, re.S | re.M)
    lines = match[1].splitlines() if match else []
    return [line for line in lines if line and not line.startswith(" ")]


def check_fields(public):
    """Ask a frozen, slotted dataclass for a string under each field."""
    assert public.__dataclass_params__.frozen
    assert "__slots__" in vars(public)
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(public)))
    body = tree.body[0].body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and node.target.id in {f.name for f in fields(public)}:
            documented = isinstance(following, ast.Expr) and isinstance(
                following.value, ast.Constant
            )
            assert documented, node.target.id
