import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: What conda-forge calls a package that has another name on the package index.
CONDA_NAMES: dict[str, str] = {}
#: What a conda environment needs besides: the interpreter, and pip for the package itself.
CONDA_ONLY = {"python", "pip"}


def split(requirement):
    """Divide a requirement into its name and its range."""
    name, limits = re.fullmatch(r"([\w.-]+)(.*)", requirement.replace(" ", "")).groups()
    return name.lower(), frozenset(filter(None, limits.split(",")))


def conda_requirements():
    """Read the list of environment.yml, without what pip installs."""
    text = (ROOT / "environment.yml").read_text()
    lines = text.split("dependencies:")[1].splitlines()
    return dict(
        split(line.removeprefix("  - ")) for line in lines if re.match(r"  - [\w-]+[^:]*$", line)
    )


def test_conda_and_pip_ask_for_the_same():
    pip = dict(map(split, PROJECT["project"]["dependencies"]))
    pip = {CONDA_NAMES.get(name, name): limits for name, limits in pip.items()}
    conda = conda_requirements()
    assert conda.keys() >= CONDA_ONLY
    assert {name: conda[name] for name in conda.keys() - CONDA_ONLY} == pip
    assert conda["python"] == frozenset(PROJECT["project"]["requires-python"].split(","))


def test_conda_takes_everything_from_one_channel():
    text = (ROOT / "environment.yml").read_text()
    channels = re.search(r"channels:\n((?:  - .+\n)+)", text)[1].split()
    assert channels == ["-", "conda-forge"]
    assert "--editable ." in text


def test_the_extras_of_the_design_are_there():
    extras = PROJECT["project"]["optional-dependencies"]
    assert {"cuda12", "cuda13", "hip6", "parameters", "docking", "test", "docs"} <= extras.keys()


def test_every_dependency_is_imported_somewhere():
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name in map(split, PROJECT["project"]["dependencies"]):
        module = name[0].replace("-", "_")
        assert re.search(rf"^\s*(import|from) {module}\b", source, re.M), name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_data_and_structures(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = [p for p in (ROOT / "structures").rglob("*") if p.is_file() and p.name[0] != "."]
    assert len(shipped) > 10
    assert {f"nmdasim/structures/{p.relative_to(ROOT / 'structures')}" for p in shipped} <= names
    package = ROOT / "src" / "nmdasim"
    files = [p for p in package.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]
    assert {f"nmdasim/{path.relative_to(package)}" for path in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "nmdasim/tests"))]


@pytest.mark.slow
def test_wheel_works_outside_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import nmdasim\n"
        "print(nmdasim.__file__)\n"
        "print(nmdasim.load_receptor('7eu8').source['entry'])\n"
        "ligand = nmdasim.load_ligand('S-ketamine')\n"
        "print(ligand.cip)\n"
        "from nmdasim.parameters import load_parameters\n"
        "print(len(load_parameters(nmdasim.state_of(ligand)).ffxml) > 1000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    place, entry, cip, parameters = done.stdout.split()
    assert Path(place).is_relative_to(tmp_path)
    assert (entry, cip, parameters) == ("7EU8", "S", "True")
