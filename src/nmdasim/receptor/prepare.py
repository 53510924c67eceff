"""From a deposited entry to a receptor that can be simulated."""

import io
import logging
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gemmi
import numpy as np
import openmm
import propka.run
from numpy.typing import NDArray
from openmm import app, unit
from rdkit import Chem
from scipy.spatial.distance import cdist

from nmdasim.errors import ReceptorError
from nmdasim.pore import PoreFrame, fit_pore_frame, to_pore
from nmdasim.receptor.entry import Entry, Residue, membrane_pieces, read_entry
from nmdasim.receptor.model import (
    CAP,
    OBSERVED,
    REBUILT,
    SIDE_CHAIN_REBUILT,
    Receptor,
    ReceptorResidue,
)
from nmdasim.receptor.quality import check_receptor
from nmdasim.receptor.rebuild import (
    Gap,
    cap_after,
    cap_before,
    choose_rotamers,
    close_gaps,
    complete_side_chain,
)
from nmdasim.subunits import subunits

# Restraints of the minimisation, kJ/mol/nm^2: observed atoms stay within the error of the map,
# a copied stretch may settle, rebuilt side chains are free.
_HOLD_CA, _HOLD_OBSERVED, _HOLD_COPIED = 100000.0, 30000.0, 100.0
_HOLD_IMPROPER, _HOLD_PEPTIDE = 1000.0, 300.0  # kJ/mol/rad^2
# Dihedral over each chiral centre of the natural amino acids, atoms in this order.
_L_IMPROPER = np.radians(34.0)
_CHIRAL_CA = ("CA", "N", "C", "CB")
_CHIRAL_CB = {"ILE": ("CB", "CA", "CG1", "CG2"), "THR": ("CB", "CA", "OG1", "CG2")}
_MAX_ITERATIONS = 3000
_FORCE_FIELD = "amber14/protein.ff14SB.xml"
_CAPS = ("ACE", "NME")
_X_H_NM = 0.108
_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _HeavyModel:
    """Membrane domain with every backbone in place, before side chains are completed."""

    chains: tuple[tuple[str, str, tuple[Residue, ...]], ...]
    """Chain letter, subunit and residues, caps included."""
    gaps: tuple[Gap, ...]
    """Stretches copied from the two-fold partner."""


def prepare_receptor(path: str | Path, *, name: str | None = None, ph: float = 7.4) -> Receptor:
    """Prepare the membrane domain of a deposited NMDA receptor for simulation.

    Subunits are recognised by sequence and numbered as in UniProt. M1, M2 to M3 and M4 are cut
    out; gaps inside them are copied from the two-fold related chain; every end is capped;
    truncated side chains are completed and turned until they fit; side chains are protonated
    for `ph`; the model is minimised with observed atoms held and moved into the pore frame.

    Parameters
    ----------
    path : str or pathlib.Path
        mmCIF or PDB file of the whole tetramer, gzipped or not.
    name : str, optional
        Short name of the receptor; the entry id when left out.
    ph : float

    Returns
    -------
    receptor : Receptor

    Raises
    ------
    ReceptorError
        If the file cannot be read, is not an NMDA receptor tetramer, or lacks a part of the
        pore that its two-fold partner lacks too.

    Notes
    -----
    Agonists, glycans, the binding domains and their linkers are left out. pKa values come from
    PROPKA [1]_, which does not know the membrane. Runs repeat closely, not bit for bit: the
    minimiser works on several threads.

    References
    ----------
    .. [1] M. H. M. Olsson et al., J. Chem. Theory Comput. 7, 525 (2011), doi:10.1021/ct100578z
    """
    entry = read_entry(Path(path))
    name = name or entry.source["entry"].lower()
    heavy = _backbones(entry)
    blocker = entry.blockers[0] if entry.blockers else None
    topology, positions, missing = _complete(heavy)
    obstacles = _positions_nm(blocker) if blocker else np.empty((0, 3))
    positions = choose_rotamers(topology, positions, missing, obstacles)
    residues = _label_residues(topology, heavy, missing)
    variants, notes = _protonation(topology, positions, ph)
    topology, positions = _add_hydrogens(topology, positions, variants)
    deposited = _deposited(entry)
    positions = _minimise(topology, positions, residues, deposited)
    checks = check_receptor(topology, positions, residues, deposited)
    frame = _frame(topology, positions, residues)
    return Receptor(
        name=name,
        topology=topology,
        positions=to_pore(frame, positions),
        residues=residues,
        reference_ligand=_moved(blocker, frame) if blocker else None,
        checks=checks,
        source=_describe(entry, heavy, notes, ph, name),
    )


def _backbones(entry: Entry) -> _HeavyModel:
    """Cut out the pieces of each chain, close their gaps and cap their ends."""
    chains = []
    gaps: list[Gap] = []
    atoms = np.array(
        [p for c in entry.chains for r in c.residues.values() for p in r.atoms.values()]
    )
    for chain in entry.chains:
        partner = next(
            other
            for other in entry.chains
            if other.letter != chain.letter and other.recognised.subunit == chain.recognised.subunit
        )
        residues: list[Residue] = []
        for piece in membrane_pieces(chain):
            closed, found = close_gaps(chain, partner, piece, atoms)
            gaps += found
            first, last = closed[piece[0]], closed[piece[-1]]
            own = np.array(list(first.atoms.values()))
            others = atoms[cdist(atoms, own).min(axis=1) > 0.01]
            residues.append(cap_before(first, chain.residues.get(first.number - 1), others))
            residues += closed.values()
            residues.append(cap_after(last, chain.residues.get(last.number + 1)))
        chains.append((chain.letter, chain.recognised.subunit, tuple(residues)))
    return _HeavyModel(chains=tuple(chains), gaps=tuple(gaps))


def _complete(
    heavy: _HeavyModel,
) -> tuple[app.Topology, NDArray[np.float64], dict[int, frozenset[str]]]:
    """Add missing side-chain atoms; say which ones, by residue index."""
    observed = [set(r.atoms) for _, _, residues in heavy.chains for r in residues]
    chains = tuple(
        (letter, subunit, tuple(r if r.name in _CAPS else complete_side_chain(r) for r in residues))
        for letter, subunit, residues in heavy.chains
    )
    pdb = app.PDBFile(io.StringIO(_pdb_text(replace(heavy, chains=chains))))
    missing = {
        residue.index: frozenset(atom.name for atom in residue.atoms() if atom.name not in seen)
        for residue, seen in zip(pdb.topology.residues(), observed, strict=True)
        if residue.name not in _CAPS
    }
    return (
        pdb.topology,
        _nm(pdb.positions),
        {index: names for index, names in missing.items() if names},
    )


def _pdb_text(heavy: _HeavyModel) -> str:
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    for letter, _, residues in heavy.chains:
        chain = gemmi.Chain(letter)
        for residue in residues:
            new = gemmi.Residue()
            new.name, new.seqid = residue.name, gemmi.SeqId(residue.number, " ")
            for name, place in residue.atoms.items():
                if name == "OXT":
                    continue
                atom = gemmi.Atom()
                atom.name, atom.element = name, gemmi.Element(name[0])
                atom.pos = gemmi.Position(*place)
                new.add_atom(atom)
            chain.add_residue(new)
        model.add_chain(chain)
    structure.add_model(model)
    return structure.make_pdb_string()


def _label_residues(
    topology: app.Topology, heavy: _HeavyModel, missing: Mapping[int, frozenset[str]]
) -> tuple[ReceptorResidue, ...]:
    subunit_of = {letter: subunit for letter, subunit, _ in heavy.chains}
    copied = {(gap.chain, number) for gap in heavy.gaps for number in gap.numbers}
    labels = []
    for residue in topology.residues():
        chain, number = residue.chain.id, int(residue.id)
        if residue.name in _CAPS:
            status = CAP
        elif (chain, number) in copied:
            status = REBUILT
        else:
            status = SIDE_CHAIN_REBUILT if residue.index in missing else OBSERVED
        labels.append(
            ReceptorResidue(
                chain=chain,
                subunit=subunit_of[chain],
                number=number,
                name=residue.name,
                status=status,
            )
        )
    return tuple(labels)


def _protonation(
    topology: app.Topology, positions: NDArray[np.float64], ph: float
) -> tuple[list[str | None], tuple[str, ...]]:
    """Choose the protonation of each residue; name those that differ from the usual."""
    logging.getLogger("propka").setLevel(logging.ERROR)  # It warns of every cut end.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pdb"
        with path.open("w") as file:
            app.PDBFile.writeFile(topology, positions * unit.nanometer, file, keepIds=True)
        container = propka.run.single(str(path), optargs=["--quiet"], write_pka=False)
    groups = container.conformations["AVR"].groups
    pka = {(g.atom.chain_id, g.atom.res_num, g.residue_type): g.pka_value for g in groups}
    variants: list[str | None] = []
    notes = []
    for residue in topology.residues():
        value = pka.get((residue.chain.id, int(residue.id), residue.name))
        variant = _variant(residue.name, value, ph)
        variants.append(variant)
        if variant in ("ASH", "GLH", "LYN", "HIP"):
            notes.append(
                f"{residue.name} {residue.chain.id}{residue.id} as {variant} (pKa {value:.1f})"
            )
    return variants, tuple(notes)


def _variant(name: str, pka: float | None, ph: float) -> str | None:
    """Name the form of a residue; None leaves the tautomer of histidine to its hydrogen bonds."""
    if pka is None:
        return None
    protonated = {"ASP": "ASH", "GLU": "GLH", "HIS": "HIP"}
    if name in protonated:
        return protonated[name] if pka > ph else (None if name == "HIS" else name)
    return "LYN" if name == "LYS" and pka < ph else (name if name == "LYS" else None)


def _add_hydrogens(
    topology: app.Topology, positions: NDArray[np.float64], variants: list[str | None]
) -> tuple[app.Topology, NDArray[np.float64]]:
    random.seed(_SEED)  # OpenMM starts each hydrogen at a random place.
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.addHydrogens(app.ForceField(_FORCE_FIELD), variants=variants)
    return modeller.topology, _straightened(modeller.topology, _nm(modeller.positions))


def _straightened(topology: app.Topology, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put each hydrogen that its neighbours determine where they say.

    A hydrogen that started on the wrong side of a chiral carbon stays trapped there and turns
    the carbon over in the minimisation.
    """
    neighbours: dict[int, list[app.topology.Atom]] = {a.index: [] for a in topology.atoms()}
    for first, second in topology.bonds():
        neighbours[first.index].append(second)
        neighbours[second.index].append(first)
    placed = positions.copy()
    for parent in topology.atoms():
        around = neighbours[parent.index]
        heavy = [a.index for a in around if a.element.symbol != "H"]
        light = [a.index for a in around if a.element.symbol == "H"]
        if len(light) != 1 or len(heavy) < 2:
            continue
        bonds = positions[heavy] - positions[parent.index]
        away = -(bonds / np.linalg.norm(bonds, axis=1)[:, None]).sum(axis=0)
        placed[light[0]] = positions[parent.index] + _X_H_NM * away / np.linalg.norm(away)
    return placed


def _deposited(entry: Entry) -> dict[tuple[str, int], dict[str, NDArray[np.float64]]]:
    return {
        (chain.letter, number): {name: place / 10 for name, place in residue.atoms.items()}
        for chain in entry.chains
        for number, residue in chain.residues.items()
    }


def _minimise(
    topology: app.Topology,
    positions: NDArray[np.float64],
    residues: Sequence[ReceptorResidue],
    deposited: Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """Relax strain with observed atoms held at their deposited place."""
    system = app.ForceField(_FORCE_FIELD).createSystem(
        topology, nonbondedMethod=app.CutoffNonPeriodic, nonbondedCutoff=1.0 * unit.nanometer
    )
    hold = openmm.CustomExternalForce("0.5*k*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    for parameter in ("k", "x0", "y0", "z0"):
        hold.addPerParticleParameter(parameter)
    for ours, theirs in zip(residues, topology.residues(), strict=True):
        seen = deposited.get((ours.chain, ours.number), {}) if ours.status != CAP else {}
        for atom in theirs.atoms():
            if atom.name in seen:
                k = _HOLD_CA if atom.name == "CA" else _HOLD_OBSERVED
                hold.addParticle(atom.index, [k, *seen[atom.name]])
            elif ours.status in (REBUILT, CAP) and atom.name in ("N", "CA", "C", "O"):
                hold.addParticle(atom.index, [_HOLD_COPIED, *positions[atom.index]])
    system.addForce(hold)
    system.addForce(_hold_geometry(topology))
    positions = _minimised(_softened(system, topology), positions)
    positions = _minimised(system, positions)
    if not np.isfinite(positions).all():
        raise ReceptorError(
            "the completed model has no finite energy: atoms of the deposited entry overlap; "
            "use another entry"
        )
    return positions


def _hold_geometry(topology: app.Topology) -> openmm.CustomTorsionForce:
    """Keep chiral centres and trans peptides while clashes are pushed apart."""
    force = openmm.CustomTorsionForce(
        "0.5*k*min(turn, 2*pi-turn)^2; turn=abs(theta-theta0); pi=3.141592653589793"
    )
    force.addPerTorsionParameter("theta0")
    force.addPerTorsionParameter("k")
    before: dict[str, int] = {}
    for residue in topology.residues():
        index = {atom.name: atom.index for atom in residue.atoms()}
        for names in (_CHIRAL_CA, _CHIRAL_CB.get(residue.name, ())):
            if names and set(names) <= index.keys():
                improper = [index[name] for name in names]
                force.addTorsion(*improper, [_L_IMPROPER, _HOLD_IMPROPER])
        if before and "CA" in index:
            peptide = [before["CA"], before["C"], index["N"], index["CA"]]
            force.addTorsion(*peptide, [np.pi, _HOLD_PEPTIDE])
        before = index if {"CA", "C"} <= index.keys() else {}
    return force


def _softened(system: openmm.System, topology: app.Topology) -> openmm.System:
    """Replace the non-bonded forces by a soft repulsion, which clashes cannot blow up."""
    soft = openmm.XmlSerializer.clone(system)
    index = next(
        i for i, force in enumerate(soft.getForces()) if isinstance(force, openmm.NonbondedForce)
    )
    nonbonded = soft.getForce(index)
    repulsion = openmm.CustomNonbondedForce(
        "k*max(0, r0-r)^2; r0=0.5*(sigma1+sigma2)*0.95; k=20000"
    )
    repulsion.addPerParticleParameter("sigma")
    for particle in range(nonbonded.getNumParticles()):
        _, sigma, _ = nonbonded.getParticleParameters(particle)
        repulsion.addParticle([sigma])
    bonds = [(a.index, b.index) for a, b in topology.bonds()]
    repulsion.createExclusionsFromBonds(bonds, 3)
    repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
    repulsion.setCutoffDistance(0.5 * unit.nanometer)
    soft.removeForce(index)
    soft.addForce(repulsion)
    return soft


def _minimised(system: openmm.System, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001))
    context.setPositions(positions * unit.nanometer)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=_MAX_ITERATIONS)
    return _nm(context.getState(positions=True).getPositions())


def _frame(
    topology: app.Topology, positions: NDArray[np.float64], residues: Sequence[ReceptorResidue]
) -> PoreFrame:
    ca = {
        (ours.chain, ours.number): positions[atom.index]
        for ours, theirs in zip(residues, topology.residues(), strict=True)
        for atom in theirs.atoms()
        if atom.name == "CA" and ours.status != CAP
    }
    subunit_of = {r.chain: r.subunit for r in residues}

    def ring(name: str) -> NDArray[np.float64]:
        return np.array([ca[c, subunits()[s].rings[name]] for c, s in subunit_of.items()])

    first, second = (c for c, s in subunit_of.items() if s == "GluN1")
    m3 = [n for n in subunits()["GluN1"].segments["m3"] if (first, n) in ca and (second, n) in ca]
    direction = np.mean([ca[first, n] - ca[second, n] for n in m3], axis=0)
    return fit_pore_frame(
        n_site_ca=ring("asparagine"), threonine_ca=ring("threonine"), glun1_direction=direction
    )


def _moved(mol: Chem.Mol, frame: PoreFrame) -> Chem.Mol:
    moved = Chem.Mol(mol)
    moved.GetConformer().SetPositions(10 * to_pore(frame, _positions_nm(mol)))
    return moved


def _positions_nm(mol: Chem.Mol) -> NDArray[np.float64]:
    return np.array(mol.GetConformer().GetPositions()) / 10


def _describe(
    entry: Entry, heavy: _HeavyModel, protonation: tuple[str, ...], ph: float, name: str
) -> dict[str, str]:
    gaps = "; ".join(
        f"{gap.chain} {gap.numbers[0]}-{gap.numbers[-1]} from chain {gap.template} by the "
        f"two-fold axis (bent by up to {10 * gap.bend_nm:.1f} A to join)"
        for gap in heavy.gaps
    )
    ends = "; ".join(f"{letter} {_pieces(residues)}" for letter, _, residues in heavy.chains)
    return {
        "name": name,
        **entry.source,
        "subunits": ", ".join(f"{letter} {subunit}" for letter, subunit, _ in heavy.chains),
        "pieces": ends,
        "gaps_rebuilt": gaps or "none",
        "caps": "ACE and NME at every cut",
        "left_out": ", ".join(entry.left_out) + "; binding domains and their linkers",
        "ph": f"{ph:g}",
        "protonation": "; ".join(protonation) or "all residues in their usual form",
        "force_field": "ff14SB",
    }


def _pieces(residues: Sequence[Residue]) -> str:
    starts = [r.number + 1 for r in residues if r.name == "ACE"]
    ends = [r.number - 1 for r in residues if r.name == "NME"]
    return ", ".join(f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def _nm(quantity: unit.Quantity) -> NDArray[np.float64]:
    return np.array(quantity.value_in_unit(unit.nanometer), dtype=float)
