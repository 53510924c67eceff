import importlib.metadata
import math
import re
from dataclasses import replace

import pytest

from nmdasim import cli
from nmdasim.doctor import MAIN_JOB_NS, examine, main_job_seconds
from nmdasim.ligand import library
from nmdasim.parameters import cache_folder
from nmdasim.receptor import load_receptor, receptor_names
from nmdasim.simulation import choose_platform, present_platforms
from nmdasim.simulation.platforms import ORDER
from nmdasim.system import VESTIBULE, Stage


@pytest.fixture(scope="module")
def findings():
    return examine(measure=False)


def test_everything_is_plain_words(findings):
    assert list(findings) == ["versions", "platforms", "extras", "shipped structures"]
    for lines in findings.values():
        assert lines
        assert all(type(name) is str and type(value) is str for name, value in lines.items())
        assert all(value and "\n" not in value for value in lines.values())


@pytest.mark.parametrize("package", ["nmdasim", "openmm", "rdkit", "mdtraj", "numpy", "gemmi"])
def test_versions_are_those_installed(findings, package):
    assert findings["versions"][package] == importlib.metadata.version(package)


def test_each_platform_is_said_to_be_tested_or_absent(findings):
    for name in ORDER:
        found = findings["platforms"][name]
        if name in present_platforms():
            assert found.startswith(("passes its test", "not usable: "))
        else:
            assert found.startswith("not installed; ")


def test_the_default_is_the_one_that_simulations_take(findings):
    assert findings["platforms"]["used by default"].split(" (")[0] == choose_platform().name


def test_extras_are_held_against_what_is_installed(findings):
    assert {"cuda12", "hip6", "docking"} <= findings["extras"].keys()
    assert not {"test", "docs"} & findings["extras"].keys()
    for extra, found in findings["extras"].items():
        if found == "installed":
            continue
        lacking = re.fullmatch(rf'lacks (.+); pip install "nmdasim\[{extra}\]"', found)
        for package in lacking[1].split(", "):
            with pytest.raises(importlib.metadata.PackageNotFoundError):
                importlib.metadata.version(package)


def test_all_that_ships_is_loaded(findings):
    names = {f"receptor {name}" for name in receptor_names()}
    names |= {f"ligand {entry.name}" for entry in library()}
    found = findings["shipped structures"]
    assert found.keys() == names | {"parameters kept"}
    assert all(found[name].startswith("loads") for name in names)
    assert str(cache_folder()) in found["parameters kept"]


def test_failed_checks_of_the_receptor_are_counted(findings):
    checks = load_receptor("7eu8").checks
    n_failed = sum(not check.passed for check in checks)
    assert (
        f"{n_failed} of {len(checks)} checks not passed"
        in (findings["shipped structures"]["receptor 7eu8"])
    )


def test_length_of_the_main_job_is_what_the_command_line_takes():
    assert cli._parser().parse_args(["run", "S-ketamine"]).production_ns == MAIN_JOB_NS


def test_estimate_counts_every_step():
    # 1 ps at 1 fs and 4 ps at 2 fs, then 50 ps at 4 fs.
    slow, fast = (
        Stage(name="", ps=ps, timestep_fs=step, restraint_extra=0.0, barostat=False)
        for ps, step in ((1.0, 1.0), (4.0, 2.0))
    )
    n_steps = 1000 + 2000 + 12500
    steps_per_s = 100.0
    seconds = main_job_seconds(
        replace(VESTIBULE, equilibration=(slow, fast), minimise_max_iterations=300),
        production_ns=0.05,
        ns_per_day=steps_per_s * 86400 * VESTIBULE.timestep_fs / 1e6,
        build_s=3.0,
        minimise_s=0.01,
    )
    assert math.isclose(seconds, n_steps / steps_per_s + 3.0 + 0.01 * 300)


@pytest.mark.slow
def test_self_test_measures_the_default_system(system):
    found = examine()["self-test"]
    assert found["result"] == "passed"
    assert f"{system.topology.getNumAtoms()} particles" in found["system"]
    assert 0.1 < float(found["speed"].removesuffix(" ns/day")) < 1e5
    assert found["platform"] == choose_platform().name
