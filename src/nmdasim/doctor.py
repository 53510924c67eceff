"""What this machine can do: versions, platforms, extras, shipped structures and speed."""

import importlib.metadata
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from nmdasim.errors import NmdasimError
from nmdasim.ligand import (
    LibraryEntry,
    library,
    library_protomers,
    load_ligand,
    state_of,
    write_ligand,
)
from nmdasim.parameters import cache_folder, read_parameters
from nmdasim.pose import place_ligand
from nmdasim.receptor import load_receptor, receptor_file, receptor_names
from nmdasim.rundir import EQUILIBRATION, read_json, read_segments, software_versions
from nmdasim.simulation import (
    choose_platform,
    create_run,
    present_platforms,
    run_inputs,
    simulate,
)
from nmdasim.simulation.platforms import ORDER
from nmdasim.structures import structures_folder
from nmdasim.system import VESTIBULE, Protocol, Stage, System, build_system

MAIN_JOB_NS = 0.05
"""Length of production that `nmdasim run` takes without further words, ns."""

_PACKAGES = ("nmdasim", "openmm", "rdkit", "mdtraj", "numpy", "scipy", "numba", "gemmi", "propka")
_NVIDIA = 'pip install "nmdasim[cuda12]" or "nmdasim[cuda13]" on a machine with an NVIDIA card'
_HINTS = {
    "CUDA": _NVIDIA,
    "HIP": 'pip install "nmdasim[hip6]" on a machine with an AMD card',
    "OpenCL": "install the OpenCL driver of the graphics card; it comes with openmm",
    "CPU": "reinstall openmm",
}
# Extras that people use the package with, not those that develop it.
_DEVELOPMENT = ("test", "docs")

# The self-test: enough of each part of a run to know its speed, in about ten seconds.
_ITERATIONS = 20
_FIRST_NS, _MEASURED_S = 0.001, 4.0
_TEST_PROTOCOL = replace(
    VESTIBULE,
    minimise_max_iterations=_ITERATIONS,
    equilibration=(
        Stage(
            name="warm the water", ps=0.05, timestep_fs=1.0, restraint_extra=2000.0, barostat=False
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Wall times of the parts of a run on this machine."""

    n_particles: int
    """Particles of the default system."""
    build_s: float
    """Placing the ligand and building the system, s."""
    minimise_s: float
    """One iteration of the minimiser, s."""
    ns_per_day: float
    """Speed of production."""
    platform: str
    """Platform and device that it was measured on."""


def examine(*, measure: bool = True) -> dict[str, dict[str, str]]:
    """Find out what this machine can do.

    Parameters
    ----------
    measure : bool
        Also build the default system in a temporary folder and time its dynamics, which
        takes about 10 s on two cores.

    Returns
    -------
    findings : dict of str to dict of str to str
        Topics (versions, platforms, extras, shipped structures, self-test), and for each what
        was looked at and what was found, in words. What is missing or fails is said with what
        to do about it and raises nothing.
    """
    findings = {
        "versions": software_versions(_PACKAGES),
        "platforms": _platforms(),
        "extras": _extras(),
        "shipped structures": _structures(),
    }
    if measure:
        try:
            findings["self-test"] = _in_words(_self_test())
        except (NmdasimError, OSError) as error:
            findings["self-test"] = {"result": f"failed: {error}"}
    return findings


def main_job_seconds(
    protocol: Protocol,
    *,
    production_ns: float,
    ns_per_day: float,
    build_s: float = 0.0,
    minimise_s: float = 0.0,
) -> float:
    """Estimate how long a run takes, analysis not counted.

    Parameters
    ----------
    protocol : Protocol
    production_ns : float
        Length of production, ns.
    ns_per_day : float
        Speed at the production time step of `protocol`.
    build_s, minimise_s : float
        Time to build the system and of one iteration of the minimiser, s.

    Returns
    -------
    seconds : float
        A step is counted as equally long in equilibration and production.
    """
    steps_per_s = ns_per_day * 1e6 / protocol.timestep_fs / 86400
    n_steps = sum(stage.ps * 1e3 / stage.timestep_fs for stage in protocol.equilibration)
    n_steps += production_ns * 1e6 / protocol.timestep_fs
    return build_s + minimise_s * protocol.minimise_max_iterations + n_steps / steps_per_s


def _platforms() -> dict[str, str]:
    present = present_platforms()
    found = {name: _platform(name, present) for name in ORDER}
    try:
        chosen = choose_platform()
        found["used by default"] = f"{chosen.name} ({chosen.device})"
    except NmdasimError as error:
        found["used by default"] = f"none: {error}"
    return found


def _platform(name: str, present: tuple[str, ...]) -> str:
    if name not in present:
        return f"not installed; {_HINTS[name]}"
    try:
        choice = choose_platform(name)
    except NmdasimError as error:
        return f"not usable: {error}"
    return (
        f"passes its test on {choice.device}, {choice.precision} precision, "
        f"forces within {choice.force_error:.0e} of Reference"
    )


def _extras() -> dict[str, str]:
    """Say of each extra which of its packages are not installed."""
    wanted: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("nmdasim") or []:
        package = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if package and extra and extra[1] not in _DEVELOPMENT:
            wanted.setdefault(extra[1], []).append(package[0])
    return {extra: _extra(extra, packages) for extra, packages in sorted(wanted.items())}


def _extra(extra: str, packages: list[str]) -> str:
    versions = software_versions(packages)
    missing = [name for name in packages if name not in versions]
    if not missing:
        return "installed"
    return f'lacks {", ".join(missing)}; pip install "nmdasim[{extra}]"'


def _structures() -> dict[str, str]:
    """Load everything that ships."""
    found = {}
    for name in receptor_names():
        try:
            receptor = load_receptor(name)
        except NmdasimError as error:
            found[f"receptor {name}"] = f"damaged: {error}"
            continue
        failed = sum(not check.passed for check in receptor.checks)
        found[f"receptor {name}"] = (
            f"loads, {len(receptor.residues)} residues, {failed} of {len(receptor.checks)} "
            "checks not passed (nmdasim receptors shows them)"
        )
    for entry in library():
        found[f"ligand {entry.name}"] = _ligand(entry)
    n_kept = len(list(cache_folder().glob("*.json")))
    found["parameters kept"] = f"of {n_kept} other charge states, in {cache_folder()}"
    return found


def _ligand(entry: LibraryEntry) -> str:
    """Read the parameters of every charge state; structures in space would take a while."""
    folder = structures_folder() / "ligands" / entry.name
    charges = [f"{protomer.charge:+d}" for protomer in library_protomers(entry)]
    try:
        records = [read_parameters(folder / f"{entry.name}{c}.json").record for c in charges]
    except NmdasimError as error:
        return f"not usable: {error}"
    methods = sorted({str(record["method_version"]) for record in records})
    return f"loads, charge {' and '.join(charges)}, parameters {'; '.join(methods)}"


def _self_test() -> _Measured:
    start = time.perf_counter()
    state = state_of(load_ligand("S-ketamine"))
    receptor = load_receptor("7eu8")
    pose = place_ligand(receptor, state)
    system = build_system(pose, _TEST_PROTOCOL)
    build_s = time.perf_counter() - start
    with tempfile.TemporaryDirectory(prefix="nmdasim-doctor-") as temporary:
        folder = Path(temporary) / "run"
        ligand_sdf = Path(temporary) / "ligand.sdf"
        write_ligand(pose.ligand, ligand_sdf)
        speed = _simulated(system, folder, _FIRST_NS, ligand_sdf)
        # On a fast machine the first picosecond is over before it says anything.
        longer = speed * _MEASURED_S / 86400
        if longer > 2 * _FIRST_NS:
            speed = _simulated(system, folder, round(longer, 3), ligand_sdf)
        minimisation = read_json(folder / EQUILIBRATION)["minimisation"]
        newest = read_segments(folder)[-1].manifest
    return _Measured(
        n_particles=system.topology.getNumAtoms(),
        build_s=build_s,
        minimise_s=minimisation["wall_s"] / max(minimisation["n_iterations"], 1),
        ns_per_day=speed,
        platform=newest["platform"],
    )


def _simulated(system: System, folder: Path, production_ns: float, ligand_sdf: Path) -> float:
    """Simulate up to a length; return the speed of the last segment, ns/day."""
    inputs = run_inputs(
        system.protocol,
        ligand={"name": "S-ketamine"},
        receptor={"name": "7eu8"},
        production_ns=production_ns,
        seed=1,
    )
    create_run(
        system,
        folder,
        inputs=inputs,
        receptor_file=receptor_file("7eu8"),
        ligand_sdf=ligand_sdf.read_text(),
        extend=True,
    )
    status = simulate(folder, progress=False)
    if status.state == "interrupted":
        raise KeyboardInterrupt
    return float(read_segments(folder)[-1].manifest["ns_per_day"])


def _in_words(measured: _Measured) -> dict[str, str]:
    seconds = main_job_seconds(
        VESTIBULE,
        production_ns=MAIN_JOB_NS,
        ns_per_day=measured.ns_per_day,
        build_s=measured.build_s,
        minimise_s=measured.minimise_s,
    )
    return {
        "result": "passed",
        "platform": measured.platform,
        "system": f"S-ketamine in 7eu8, vestibule, {measured.n_particles} particles",
        "building": f"{measured.build_s:.1f} s",
        "speed": f"{measured.ns_per_day:.3g} ns/day",
        "default main job": f"about {seconds / 60:.1f} min for {MAIN_JOB_NS:g} ns, then analysis",
    }
