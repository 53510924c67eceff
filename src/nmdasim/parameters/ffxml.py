"""The force-field file: written for a molecule, taken over for an ion or a mirror image."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree

import openmm
from openmm import app, unit
from rdkit import Chem

from nmdasim.errors import ParametersError
from nmdasim.ligand import ChargeState
from nmdasim.parameters.charges import MICRO
from nmdasim.parameters.model import Parameters, sha256

#: The water model's file that ions are taken from, as OpenMM names it.
ION_FORCE_FIELD = "amber14/tip3p.xml"
# As Amber's own files write it; OpenMM refuses files that differ by more than 1e-5. Sage
# writes 0.8333333333, which is the same to 4e-11.
_COULOMB_14, _LJ_14 = "0.8333333333333334", "0.5"


def molecule_ffxml(state: ChargeState, charges: Sequence[int], system: openmm.System) -> str:
    """Write an OpenMM force-field file with one atom type for each atom."""
    prefix = _type_prefix(state)
    names = atom_names(state.mol)
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
        attributes = {"name": name, "type": type_name, "charge": f"{charge / MICRO:.6f}"}
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


def renamed(parameters: Parameters, state: ChargeState) -> Parameters:
    """Give a molecule's parameters to its mirror image.

    Nothing in a force field of bonds, angles, torsions and charges tells left from right, so
    that only the names of atoms and types change.
    """
    root = ElementTree.fromstring(parameters.ffxml)
    (residue,) = root.iter("Residue")
    prefix = _type_prefix(state)
    places = {atom.get("name", ""): i for i, atom in enumerate(residue.iter("Atom"))}
    match = _bare(state.mol).GetSubstructMatch(_template_graph(root, residue, places))
    if len(match) != state.mol.GetNumAtoms():
        raise ParametersError(f"the kept parameters do not fit the atoms of {state.name}")
    new_names = atom_names(state.mol)
    names = {name: new_names[match[place]] for name, place in places.items()}
    types = {
        atom.get("type", ""): f"{prefix}-{names[atom.get('name', '')]}"
        for atom in residue.iter("Atom")
    }
    residue.set("name", prefix)
    new = {**names, **types}
    for element in root.iter():
        for key, value in element.attrib.items():
            if key.startswith(("name", "type", "class", "atomName")) and value in new:
                element.set(key, new[value])
    ffxml = ElementTree.tostring(root, encoding="unicode") + "\n"
    old_charges = {names[name]: charge for name, charge in parameters.record["charges"].items()}
    record = {
        **parameters.record,
        "smiles": state.smiles,
        "mirror_image_of": parameters.record["smiles"],
        "charges": {name: old_charges[name] for name in new_names},
        "sha256": sha256(ffxml),
    }
    return Parameters(ffxml=ffxml, method=parameters.method, record=MappingProxyType(record))


def _bare(mol: Chem.Mol) -> Chem.Mol:
    """Keep the elements and which atoms are bonded, as OpenMM matches templates."""
    graph = Chem.RWMol()
    for atom in mol.GetAtoms():
        graph.AddAtom(Chem.Atom(atom.GetAtomicNum()))
    for bond in mol.GetBonds():
        graph.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return graph.GetMol()


def _template_graph(
    root: ElementTree.Element, residue: ElementTree.Element, places: Mapping[str, int]
) -> Chem.Mol:
    elements = {kind.get("name"): kind.get("element", "") for kind in root.iter("Type")}
    graph = Chem.RWMol()
    for atom in residue.iter("Atom"):
        graph.AddAtom(Chem.Atom(elements[atom.get("type")]))
    for bond in residue.iter("Bond"):
        ends = (places[bond.get("atomName1", "")], places[bond.get("atomName2", "")])
        graph.AddBond(*ends, Chem.BondType.SINGLE)
    return graph.GetMol()


def ion_ffxml(state: ChargeState) -> str:
    """Copy the parameters of an ion from the file of the water model.

    The copy overrides the original's template and names the same type, so that it may be
    loaded alone or beside that file.
    """
    path = Path(app.__file__).parent / "data" / ION_FORCE_FIELD
    original = ElementTree.parse(path).getroot()
    symbol = state.mol.GetAtomWithIdx(0).GetSymbol()
    kinds = {k.get("name"): k for k in original.iter("Type") if k.get("element") == symbol}
    ((residue, type_name),) = (
        (residue, atom.get("type"))
        for residue in original.iter("Residue")
        for atom in residue.iter("Atom")
        if atom.get("type") in kinds and float(atom.get("charge", "nan")) == state.charge
    )
    (lennard_jones,) = (
        atom for atom in original.iterfind("NonbondedForce/Atom") if atom.get("type") == type_name
    )
    residue.set("override", "1")
    root = ElementTree.Element("ForceField")
    ElementTree.SubElement(root, "AtomTypes").append(kinds[type_name])
    ElementTree.SubElement(root, "Residues").append(residue)
    force = ElementTree.SubElement(
        root, "NonbondedForce", coulomb14scale=_COULOMB_14, lj14scale=_LJ_14
    )
    ElementTree.SubElement(force, "UseAttributeFromResidue", name="charge")
    force.append(lennard_jones)
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _type_prefix(state: ChargeState) -> str:
    return f"LIG-{sha256(state.smiles)[:8]}"


def atom_names(mol: Chem.Mol) -> list[str]:
    """List the names of atoms as they stand in the residue information."""
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
