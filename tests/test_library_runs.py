"""Blockers of the library from their name to the report: real receptor, system and dynamics.

Both charge states of seven ligands, Mg2+, and a molecule outside the library. The command is
the user's; only the protocol is made shorter: every stage of the equilibration at a tenth or
less of its length, a stronger thermostat to make up for it, and a somewhat smaller box. Nothing
here tests convergence.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rdkit import Chem

import nmdasim
from nmdasim import cli, system
from nmdasim.ligand import load_ligand, state_of
from nmdasim.rundir import read_inputs, read_status
from nmdasim.trajectory import read_frames

pytestmark = pytest.mark.slow

NAMES = (
    "S-ketamine", "R-ketamine", "S-norketamine", "2R6R-hydroxynorketamine", "memantine",
    "plus-MK-801", "phencyclidine",
)  # fmt: skip
# Phenylcyclohexylamine, a relative of phencyclidine, is not in the library.
OUTSIDE = ("NC1(c2ccccc2)CCCCC1", 1)
EXTRAS = pytest.mark.skipif(
    not all(map(find_spec, ("vina", "meeko", "openff"))),
    reason="needs the extras `docking` and `parameters`",
)
CASES = (
    *((name, charge) for name in NAMES for charge in (1, 0)),
    ("magnesium", 2),
    pytest.param(OUTSIDE, marks=EXTRAS),
)
# Between asparagine ring and gate; see docs/pore-and-blockade.md.
VESTIBULE_NM = (0.0, 1.5)
N_FRAMES, INTERVAL_PS = 5, 0.2
N_AT_ONCE = min(4, os.cpu_count() or 1)

BRIEF = replace(
    system.VESTIBULE,
    name="brief",
    # The box loses what the cut-off no longer needs.
    cutoff_nm=0.8,
    padding_nm=0.7,
    # Warms to 310 K within the tenth of a picosecond that is left.
    friction_per_ps=20.0,
    equilibration=tuple(
        replace(stage, ps=0.1 if stage.timestep_fs == 1 else 0.2)
        for stage in system.VESTIBULE.equilibration
    ),
    frame_interval_ps=INTERVAL_PS,
    segment_ps=N_FRAMES * INTERVAL_PS,
)


def label(case):
    name, charge = case
    return f"{'outside' if case == OUTSIDE else name}{charge:+d}"


def run_brief(folder: Path, name: str, charge: int) -> tuple[int, str]:
    """Give the user's command in a process of its own; return its status and what it said."""
    system.PROTOCOLS[BRIEF.name] = BRIEF
    words = [
        "run", name, "--charge", str(charge), "--protocol", BRIEF.name, "--platform", "CPU",
        "--production-ns", str(N_FRAMES * INTERVAL_PS / 1000), "-o", str(folder), "--quiet",
    ]  # fmt: skip
    said = folder.with_suffix(".txt")
    with ExitStack() as stack:
        file = stack.enter_context(said.open("w"))
        stack.enter_context(redirect_stdout(file))
        stack.enter_context(redirect_stderr(file))
        status = cli.main(words)
    return status, said.read_text()


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory) -> Iterator[dict[tuple[str, int], tuple[Path, Future]]]:
    """Start the runs that are asked for, one on each core: they gain little from two."""
    wanted = {
        item.callspec.params["case"]: None
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    above = tmp_path_factory.mktemp("library")
    with (
        pytest.MonkeyPatch.context() as patch,
        ProcessPoolExecutor(N_AT_ONCE, mp_context=multiprocessing.get_context("spawn")) as executor,
    ):
        patch.setenv("OPENMM_CPU_THREADS", "1")
        patch.setenv("NMDASIM_CACHE", str(above / "cache"))  # Nothing is known of the outsider.
        started = {}
        for case in wanted:
            folder = above / label(case)
            started[case] = (folder, executor.submit(run_brief, folder, *case))
        yield started
        executor.shutdown(cancel_futures=True)


@pytest.fixture
def finished(runs, case) -> Path:
    folder, future = runs[case]
    status, said = future.result(timeout=1200)
    assert status == 0, said
    return folder


def frames_of(folder):
    return pq.read_table(folder / "analysis" / "frames.parquet").to_pydict()


@pytest.mark.parametrize("case", CASES, ids=label)
def test_a_blocker_runs_from_its_name_to_its_report(finished, case):
    check_inputs(finished, *case)
    check_dynamics(finished)
    check_place(finished)
    if case == ("magnesium", 2):
        check_hydration(finished)
    check_stereochemistry(finished, *case)
    check_tables(finished)
    check_report(finished, *case)


def check_inputs(folder, name, charge):
    """What was asked for is what the folder says and holds."""
    assert read_status(folder).state == "analysed"
    inputs = read_inputs(folder)["ligand"]
    ligand = load_ligand(name)
    state = state_of(ligand, charge)
    assert inputs == {
        "name": ligand.name, "charge": charge, "smiles": state.smiles, "pose": 1,
    }  # fmt: skip
    simulated = nmdasim.open_run(folder).ligand
    assert Chem.GetFormalCharge(simulated) == charge
    record = json.loads((folder / "provenance.json").read_text())
    assert any(state.smiles in sentence for sentence in record["methods"])


def check_dynamics(folder):
    """Energies are numbers, and the system is as warm as asked."""
    frames = frames_of(folder)
    np.testing.assert_allclose(frames["time_ps"], INTERVAL_PS * np.arange(1, N_FRAMES + 1))
    assert np.isfinite(frames["potential_kj_mol"]).all()
    assert max(frames["potential_kj_mol"]) < 0
    # Five frames of five thousand particles scatter by 2 K around their mean.
    assert np.mean(frames["temperature_k"]) == pytest.approx(310, abs=15)
    record = json.loads((folder / "equilibration.json").read_text())
    minimised = record["minimisation"]
    assert minimised["potential_kj_mol_before"] > minimised["potential_kj_mol_after"]
    assert max(stage["temperature_k"] for stage in record["stages"]) < 340
    # A fifth of a picosecond does not settle the density; it must not run away.
    assert 0.8 < record["stages"][-1]["density_g_cm3"] < 1.1


def check_place(folder):
    """The ligand is still in the vestibule and near where it started."""
    frames = frames_of(folder)
    low, high = VESTIBULE_NM
    assert low < min(frames["ligand_depth_nm"]) <= max(frames["ligand_depth_nm"]) < high
    assert max(frames["ligand_offset_nm"]) < 0.5
    assert max(frames["ligand_rmsd_nm"]) < 0.3


def check_hydration(folder):
    """The hydrated ion keeps six waters in its first shell (0.21 nm) and none just outside it."""
    run = nmdasim.open_run(folder)
    where = np.searchsorted(run.solute, run.ligand_atoms)
    for chunk in read_frames(run):
        apart = np.linalg.norm(chunk.water - chunk.trajectory.xyz[:, where], axis=2)
        assert ((apart < 0.26).sum(axis=1) == 6).all()
        assert ((apart < 0.31).sum(axis=1) == 6).all()
        assert apart.min() > 0.17


def check_stereochemistry(folder, name, charge):
    """Every frame's coordinates alone give the stereocentres of the name that was typed."""
    expected = Chem.MolFromSmiles(state_of(load_ligand(name), charge).smiles)
    run = nmdasim.open_run(folder)
    where = np.searchsorted(run.solute, run.ligand_atoms)
    frames = [xyz for chunk in read_frames(run) for xyz in chunk.trajectory.xyz[:, where]]
    assert len(frames) == N_FRAMES
    for xyz in frames:
        assert is_isomer(run.ligand, xyz, expected)
    if Chem.FindMolChiralCenters(expected):
        assert not is_isomer(run.ligand, frames[0] * [1, 1, -1], expected)


def is_isomer(ligand, xyz, expected):
    """Read the centres from coordinates; those that expected leaves open may be either way."""
    mol = Chem.Mol(ligand)
    mol.GetConformer().SetPositions(10 * xyz.astype(float))
    Chem.RemoveStereochemistry(mol)
    Chem.AssignStereochemistryFrom3D(mol)
    mol = Chem.RemoveHs(mol)
    same_size = mol.GetNumAtoms() == expected.GetNumAtoms()
    return same_size and mol.HasSubstructMatch(expected, useChirality=True)


def check_tables(folder):
    """The ligand touches the channel, and what came before the run is judged beside it."""
    contacts = pq.read_table(folder / "analysis" / "contacts.parquet").to_pydict()
    assert max(contacts["occupancy"]) > 0.5
    assert {"GluN1", "GluN2B"} >= set(contacts["subunit"])
    checks = json.loads((folder / "analysis" / "checks.json").read_text())
    names = " ".join(check["name"] for check in checks)
    ion = "closest heavy atom of the receptor to the ion" in names
    assert ion != ("worst clash: overlap of van der Waals spheres of ligand and receptor" in names)
    estimates = pq.read_table(folder / "analysis" / "estimates.parquet").to_pydict()
    assert {"ligand_depth", "temperature"} <= set(estimates["name"])


def check_report(folder, name, charge):
    page = (folder / "report.html").read_text()
    for words in (
        f"{load_ligand(name).name} (charge {charge:+d})",
        "PDB 7EU8",
        "protocol brief",
        "310",
    ):
        assert words in page
