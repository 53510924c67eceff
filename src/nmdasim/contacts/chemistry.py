"""Which atoms can take part in which contact: the ligand's molecule, the protein's templates."""

from collections.abc import Iterable, Mapping, Sequence

import mdtraj as md
import numpy as np
from numpy.typing import ArrayLike
from rdkit import Chem

from nmdasim.contacts.kernel import KINDS, Typed
from nmdasim.contacts.model import (
    INTERACTION_TYPES,
    PLIP,
    ContactResidue,
    Indices,
    InteractionSites,
    InteractionThresholds,
)
from nmdasim.errors import SelectionError
from nmdasim.subunits import ONE_LETTER, without_end

_BACKBONE = "N-CA CA-C C-O C-OXT CA-CB"

# Bonds between heavy atoms beyond the backbone, in the names of the PDB.
_BONDS = {
    "ALA": "",
    "ARG": "CB-CG CG-CD CD-NE NE-CZ CZ-NH1 CZ-NH2",
    "ASN": "CB-CG CG-OD1 CG-ND2",
    "ASP": "CB-CG CG-OD1 CG-OD2",
    "CYS": "CB-SG",
    "GLN": "CB-CG CG-CD CD-OE1 CD-NE2",
    "GLU": "CB-CG CG-CD CD-OE1 CD-OE2",
    "GLY": "",
    "HIS": "CB-CG CG-ND1 ND1-CE1 CE1-NE2 NE2-CD2 CD2-CG",
    "ILE": "CB-CG1 CB-CG2 CG1-CD1",
    "LEU": "CB-CG CG-CD1 CG-CD2",
    "LYS": "CB-CG CG-CD CD-CE CE-NZ",
    "MET": "CB-CG CG-SD SD-CE",
    "PHE": "CB-CG CG-CD1 CD1-CE1 CE1-CZ CZ-CE2 CE2-CD2 CD2-CG",
    "PRO": "CB-CG CG-CD CD-N",
    "SER": "CB-OG",
    "THR": "CB-OG1 CB-CG2",
    "TRP": "CB-CG CG-CD1 CD1-NE1 NE1-CE2 CE2-CD2 CD2-CG CE2-CZ2 CZ2-CH2 CH2-CZ3 CZ3-CE3 CE3-CD2",
    "TYR": "CB-CG CG-CD1 CD1-CE1 CE1-CZ CZ-CE2 CE2-CD2 CD2-CG CZ-OH",
    "VAL": "CB-CG1 CB-CG2",
    "ACE": "CH3-C",
    "NME": "N-C N-CH3",
    "NH2": "",
}

_RINGS = {
    "HIS": ("CG ND1 CE1 NE2 CD2",),
    "PHE": ("CG CD1 CE1 CZ CE2 CD2",),
    "TRP": ("CG CD1 NE1 CE2 CD2", "CD2 CE2 CZ2 CH2 CZ3 CE3"),
    "TYR": ("CG CD1 CE1 CZ CE2 CD2",),
}

# Carbons of aliphatic rings, for rules that ask for open chains.
_ALIPHATIC_RING = {"PRO": frozenset({"CB", "CG", "CD"})}

# Groups that carry a charge unless their name or their hydrogens say otherwise.
_ANIONS = {"ASP": ("OD1", "OD2"), "GLU": ("OE1", "OE2")}
_CATIONS = {"ARG": ("NE", "NH1", "NH2"), "LYS": ("NZ",), "HIS": ("ND1", "NE2")}

_FROM_LETTER = {ONE_LETTER[name]: name for name in _BONDS if name in ONE_LETTER}
_CAPS = {"NHE": "NH2", "NMA": "NME"}
# Forms that their name tells; hydrogens decide where there are any.
_NEUTRAL = frozenset(
    {"ASH", "ASPP", "ASPH", "GLH", "GLUP", "GLUH", "LYN", "LSN", "ARN", "ARGN"}
)  # fmt: skip
_CHARGED_HISTIDINE = frozenset({"HIP", "HSP", "HISH"})
_DISULFIDE = frozenset({"CYX", "CYS2"})
_OTHER_ATOMS = {"OT1": "O", "OT2": "OXT", "OC1": "O", "OC2": "OXT", "O1": "O", "O2": "OXT"}

_BACKBONE_HYDROGENS = frozenset({"H", "HN", "H1", "H2", "H3", "HT1", "HT2", "HT3", "HN1", "HN2"})

_LIGAND_ACCEPTOR = Chem.MolFromSmarts(
    # Oxygen unless positive, the bridging oxygen of an ester or an aryl ether, or in a furan.
    "[$([O;!+;!$([OX2](C)C=O);!$([OX2](c)[#6])]),"
    # Nitrogen with a free lone pair: neither positive, nor amide, aniline or pyrrole.
    "$([N;!+;!$([NX3]-*=[O,N,P,S]);!$([NX3]-c)]),$([n;!+;!X3])]"
)
_METALS = frozenset(
    {"Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Cd"}
)
_AMIDINIUM = Chem.MolFromSmarts("[#7X3;+0]-[#6]=[#7+]")
_RESONANT_ANION = Chem.MolFromSmarts("[O;+0]=[C,S,P]-[O-]")
_HYDROPHOBIC = {
    "plip": Chem.MolFromSmarts("[#6;!$([#6]~[!#6;!#1])]"),
    # Neither methyl nor ring CH2, and no carbon beside nitrogen, oxygen or fluorine; as in
    # ProLIF's documentation of its hydrophobic pattern.
    "prolif": Chem.MolFromSmarts(
        "[c,s,Br,I,$([#16;H0;X2;+0]),$([C;X4;H2;R0]),$([C;X4;H1]),$([C;X4;H0]),"
        "$([C;X3;H1;R0]),$([C;X3;H0]),$([C;X2;H0;R0]);+0;!$([#6]~[#7,#8,#9])]"
    ),
}


def interaction_sites(
    topology: md.Topology,
    *,
    ligand: Chem.Mol,
    ligand_atoms: ArrayLike,
    protein: ArrayLike | None = None,
    thresholds: InteractionThresholds = PLIP,
) -> InteractionSites:
    """Read once what `find_interactions` needs for every frame.

    Parameters
    ----------
    topology : mdtraj.Topology
        All atoms of the frames. Bonds are not used.
    ligand : rdkit.Chem.Mol
        The ligand as it was simulated: charges, bond orders and, where the frames have them,
        explicit hydrogens. Its conformer is not used.
    ligand_atoms : array_like of int, shape (n_ligand,)
        Atom of the topology for each atom of `ligand`, in the molecule's order.
    protein : array_like of int, optional
        Atoms whose residues are looked at; every amino acid and cap by default. Residues that
        are no amino acids (lipids, glycans) can be given here; only their close contacts are
        told.
    thresholds : InteractionThresholds
        When a geometry counts.

    Returns
    -------
    sites : InteractionSites

    Raises
    ------
    SelectionError
        If the molecule does not fit the atoms, or there is no residue to look at.

    Notes
    -----
    Charges of the protein follow residue names (ASH, GLH, LYN, HIP and their synonyms) and, when
    the topology has hydrogens, the hydrogens themselves, because readers rename such residues.
    Without hydrogens a histidine that is not called HIP, HSP or HISH is taken as neutral.
    """
    atoms = np.asarray(ligand_atoms, dtype=np.intp)
    _check_ligand(topology, ligand, atoms)
    chosen = None if protein is None else frozenset(np.asarray(protein, dtype=np.intp).tolist())
    taken = frozenset(atoms.tolist())
    groups = [
        (residue, [atom for atom in residue.atoms if atom.index not in taken])
        for residue in topology.residues
        if (_standard_name(residue.name) in _BONDS if chosen is None else True)
    ]
    groups = [
        (residue, members)
        for residue, members in groups
        if members and (chosen is None or any(atom.index in chosen for atom in members))
    ]
    if not groups:
        raise SelectionError(
            "there is no residue besides the ligand to look at; need amino acids or an explicit "
            "selection: check the topology and the selection of the protein"
        )
    builder = _Builder(thresholds.atom_rules)
    for residue, members in groups:
        builder.add(residue.name, members)
    donors = bool(builder.found["donors"])
    hydrogens = ligand.GetNumHeavyAtoms() < ligand.GetNumAtoms() and donors
    own = _ligand_chemistry(ligand, atoms, thresholds.atom_rules)
    metal = bool(own["metals"])
    told = {
        "hydrogen bond": hydrogens,
        "water bridge": hydrogens or metal,
        "metal coordination": metal,
    }
    return InteractionSites(
        residues=tuple(_residue_of(residue) for residue, _ in groups),
        types=tuple(kind for kind in INTERACTION_TYPES if told.get(kind, True)),
        thresholds=thresholds,
        n_atoms=topology.n_atoms,
        anchors=_frozen([_anchor(residue, members) for residue, members in groups]),
        typed=builder.finish(own),
    )


def _check_ligand(topology: md.Topology, ligand: Chem.Mol, atoms: Indices) -> None:
    """Refuse a molecule that is not the one in the topology."""
    if atoms.shape != (ligand.GetNumAtoms(),) or not len(atoms):
        raise SelectionError(
            f"the molecule has {ligand.GetNumAtoms()} atoms and the selection {atoms.size}; "
            "both must list the same atoms in the same order: add or remove explicit hydrogens"
        )
    if atoms.min() < 0 or atoms.max() >= topology.n_atoms or len(set(atoms.tolist())) < len(atoms):
        raise SelectionError(
            f"the ligand's atoms must be different numbers from 0 to {topology.n_atoms - 1}: "
            "check the selection of the ligand"
        )
    for index, atom in zip(atoms.tolist(), ligand.GetAtoms(), strict=True):
        element = topology.atom(index).element
        if element is not None and element.symbol != atom.GetSymbol():
            raise SelectionError(
                f"atom {index} of the topology is {element.symbol} but atom {atom.GetIdx()} of "
                f"the molecule is {atom.GetSymbol()}; both must have the same order: "
                "match the molecule to the topology first"
            )


def _residue_of(residue: md.core.topology.Residue) -> ContactResidue:
    """Name a residue by what the topology says."""
    chain = getattr(residue.chain, "chain_id", None)
    if not chain or not str(chain).strip():
        place = residue.chain.index
        chain = chr(ord("A") + place) if place < 26 else str(place)
    return ContactResidue(
        index=residue.index, chain=str(chain).strip(), number=residue.resSeq, name=residue.name
    )


def _standard_name(name: str) -> str:
    """Name of the standard residue behind a force field's name; unknown names stay."""
    name = name.upper()
    if name in ONE_LETTER:
        return _FROM_LETTER[ONE_LETTER[name]]
    return _CAPS.get(name, name)


def _standard_atom(residue: str, name: str) -> str:
    """PDB name of an atom under the names of the common force fields."""
    if name[0].isdigit():
        name = name[1:] + name[0]
    if residue == "ILE" and name == "CD":
        return "CD1"
    return _OTHER_ATOMS.get(name, name) if residue in ONE_LETTER else name


def _anchor(residue: md.core.topology.Residue, members: Sequence[md.core.topology.Atom]) -> int:
    """CA of an amino acid; -1 for residues of any other size."""
    if _standard_name(residue.name) not in _BONDS:
        return -1
    return next((atom.index for atom in members if atom.name == "CA"), -1)


class _Builder:
    """Collects the typed atoms of the protein residue by residue."""

    def __init__(self, rules: str) -> None:
        self.rules = rules
        self.n_residues = 0
        # Of each kind: the residue's place and its atoms.
        self.found: dict[str, list[tuple[int, list[int]]]] = {kind: [] for kind in KINDS}

    def _keep(self, kind: str, atoms: Iterable[Sequence[int]]) -> None:
        self.found[kind] += [(self.n_residues - 1, list(group)) for group in atoms]

    def add(self, name: str, members: Sequence[md.core.topology.Atom]) -> None:
        """Type the atoms of the next residue."""
        self.n_residues += 1
        standard, form = _standard_name(name), without_end(name)
        index: dict[str, int] = {}
        hydrogens: dict[str, int] = {}
        for atom in members:
            label = _standard_atom(standard, atom.name)
            symbol = atom.element.symbol if atom.element is not None else ""
            if symbol in ("H", "D"):
                hydrogens[label] = atom.index
            elif symbol and symbol != "VS":
                index[label] = atom.index
        self._keep("heavy", [[atom] for atom in index.values()])
        if standard in _BONDS:
            self._add_typed(standard, form, index, hydrogens)

    def _add_typed(
        self, standard: str, form: str, index: Mapping[str, int], hydrogens: Mapping[str, int]
    ) -> None:
        bonds = _neighbours(standard, index)
        donors = _protein_donors(index, hydrogens)
        cations, anions = _charged_groups(standard, form, index, donors, bool(hydrogens))
        rings = [ring.split() for ring in _RINGS.get(standard, ())]
        rings = [ring for ring in rings if all(atom in index for atom in ring)]
        aromatic = frozenset(atom for ring in rings for atom in ring)
        cationic = frozenset(atom for group in cations for atom in group)
        disulfide = form in _DISULFIDE or (bool(hydrogens) and "SG" not in donors)
        acceptors = _acceptors(standard, index, donors, cationic)
        self._keep(
            "donors",
            [
                [index[heavy], hydrogens[h]]
                for heavy, bound in donors.items()
                for h in bound
                if heavy[0] != "S" or self.rules == "prolif"
            ],
        )
        self._keep("acceptors", [[index[a]] for a in acceptors])
        self._keep("metals", [[index[a]] for a in (*acceptors, *_thiols(index))])
        greasy = self._greasy(standard, bonds, aromatic, disulfide)
        self._keep("greasy", [[index[a]] for a in greasy])
        self._keep(
            "halogens",
            [[index[a], index[b]] for a, b in self._halogen_acceptors(bonds, aromatic, cationic)],
        )
        self._keep("rings", [[index[atom] for atom in ring] for ring in rings])
        for kind, groups in (("cations", cations), ("anions", anions)):
            self._keep(kind, _as_charges([[index[a] for a in g] for g in groups], self.rules))

    def _greasy(
        self,
        residue: str,
        bonds: Mapping[str, set[str]],
        aromatic: frozenset[str],
        disulfide: bool,
    ) -> Iterable[str]:
        """Hydrophobic atoms of a residue."""
        for atom, partners in bonds.items():
            elements = {partner[0] for partner in partners}
            if self.rules == "plip":
                if atom[0] == "C" and elements <= {"C"}:
                    yield atom
            elif atom[0] == "S":
                if len(partners) > 1 or disulfide:
                    yield atom
            elif atom[0] == "C" and not elements & {"N", "O"}:
                ring = atom in _ALIPHATIC_RING.get(residue, ())
                if atom in aromatic or (len(partners) > 1 and not ring):
                    yield atom

    def _halogen_acceptors(
        self, bonds: Mapping[str, set[str]], aromatic: frozenset[str], cationic: frozenset[str]
    ) -> Iterable[tuple[str, str]]:
        """Acceptors of a halogen bond with each of their antecedents."""
        for atom, partners in bonds.items():
            # The backbone nitrogen is also bonded to the residue before.
            single = len(partners) == 1 and atom != "N"
            if atom in cationic or (self.rules == "plip" and not single):
                continue
            if atom[0] in "NOS" or (self.rules == "prolif" and atom in aromatic):
                for partner in sorted(partners):
                    yield atom, partner

    def finish(self, ligand: Mapping[str, Sequence[Sequence[int]]]) -> Typed:
        """Lay all sites out as the rows of one table, the ligand's as those of a last residue."""
        for kind in KINDS:
            self.found[kind] += [(self.n_residues, list(atoms)) for atoms in ligand[kind]]
        rows = [atoms for kind in KINDS for _, atoms in self.found[kind]]
        # Two columns at least: some kinds are pairs, even where there are none of them.
        table = np.full((len(rows), max([2, *map(len, rows)])), -1, dtype=np.int64)
        for place, atoms in enumerate(rows):
            table[place, : len(atoms)] = atoms
        of, first = np.empty((len(KINDS), self.n_residues + 2), dtype=np.int64), 0
        for number, kind in enumerate(KINDS):
            owners = [place for place, _ in self.found[kind]]
            of[number] = first + np.searchsorted(owners, np.arange(self.n_residues + 2))
            first += len(owners)
        return Typed(table=_frozen(table), of=_frozen(of))


def _neighbours(residue: str, atoms: Iterable[str]) -> dict[str, set[str]]:
    """Heavy neighbours of each heavy atom within its residue, by the template."""
    bonds: dict[str, set[str]] = {atom: set() for atom in atoms}
    for bond in f"{_BACKBONE} {_BONDS[residue]}".split():
        first, second = bond.split("-")
        if first in bonds and second in bonds:
            bonds[first].add(second)
            bonds[second].add(first)
    return bonds


def _protein_donors(heavy: Iterable[str], hydrogens: Iterable[str]) -> dict[str, list[str]]:
    """Hydrogens on each nitrogen, oxygen and sulfur of a residue, by their names."""
    donors: dict[str, list[str]] = {}
    for atom in heavy:
        if atom[0] not in "NOS":
            continue
        if atom == "N":
            bound = [h for h in hydrogens if h in _BACKBONE_HYDROGENS]
        else:
            # PDB names put the place of the heavy atom into its hydrogens: ND2 has HD21, HD22.
            stem = "H" + atom[1:]
            bound = [h for h in hydrogens if h == stem or (h[:-1] == stem and h[-1].isdigit())]
        if bound:
            donors[atom] = bound
    return donors


def _thiols(heavy: Iterable[str]) -> list[str]:
    """Sulfur that binds a metal ion beside the acceptors."""
    return [atom for atom in heavy if atom == "SG"]


def _acceptors(
    residue: str,
    heavy: Iterable[str],
    donors: Mapping[str, list[str]],
    cationic: frozenset[str],
) -> list[str]:
    """Hydrogen-bond acceptors: every oxygen, and nitrogen with a free lone pair."""
    lone_pair = {("HIS", "ND1"), ("HIS", "NE2"), ("LYS", "NZ")}
    return [
        atom
        for atom in heavy
        if atom[0] == "O"
        or (
            (residue, atom) in lone_pair
            and atom not in cationic
            and (residue == "LYS" or atom not in donors)
        )
    ]


def _charged_groups(
    residue: str,
    name: str,
    heavy: Iterable[str],
    donors: Mapping[str, list[str]],
    explicit: bool,
) -> tuple[list[list[str]], list[list[str]]]:
    """Positive and negative groups of a residue, side chain and chain ends."""
    present = frozenset(heavy)
    cations: list[list[str]] = []
    anions: list[list[str]] = []
    basic = [atom for atom in _CATIONS.get(residue, ()) if atom in present]
    acidic = [atom for atom in _ANIONS.get(residue, ()) if atom in present]
    if basic and _is_cation(residue, name, donors, explicit):
        cations.append(basic)
    if acidic and name not in _NEUTRAL and not any(atom in donors for atom in acidic):
        anions.append(acidic)
    if name == "CYM" and "SG" in present:
        anions.append(["SG"])
    if {"O", "OXT"} <= present and "OXT" not in donors:
        anions.append(["O", "OXT"])
    if residue in ONE_LETTER and len(donors.get("N", ())) == (2 if residue == "PRO" else 3):
        cations.append(["N"])
    return cations, anions


def _is_cation(residue: str, name: str, donors: Mapping[str, list[str]], explicit: bool) -> bool:
    """Whether a basic side chain is protonated: hydrogens decide, else the name."""
    if residue == "HIS":
        return {"ND1", "NE2"} <= donors.keys() or (not explicit and name in _CHARGED_HISTIDINE)
    if residue == "LYS" and "NZ" in donors:
        return len(donors["NZ"]) == 3
    return name not in _NEUTRAL


def _as_charges(groups: Iterable[list[int]], rules: str) -> list[list[int]]:
    """Charges as the rules count them: one per group, or one per atom."""
    if rules == "plip":
        return [group for group in groups if group]
    return [[atom] for group in groups for atom in group]


def _ligand_chemistry(ligand: Chem.Mol, atoms: Indices, rules: str) -> dict[str, list[list[int]]]:
    """Type the atoms of the ligand by its molecule."""
    mol = Chem.Mol(ligand)
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    donor_elements = (7, 8) if rules == "plip" else (7, 8, 16)
    cations, anions = _ligand_charges(mol)
    metals = [atom.GetIdx() for atom in mol.GetAtoms() if _is_metal_ion(atom)]
    rings = [
        ring
        for ring in mol.GetRingInfo().AtomRings()
        if len(ring) in (5, 6) and all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)
    ]
    found: dict[str, list[Sequence[int]]] = {
        "heavy": [(atom.GetIdx(),) for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1],
        "greasy": list(mol.GetSubstructMatches(_HYDROPHOBIC[rules])),
        "acceptors": list(mol.GetSubstructMatches(_LIGAND_ACCEPTOR)),
        # A metal ion stands for donor and hydrogen in water bridges.
        "donors": [*_bonded(mol, donor_elements, (1,)), *((i, i) for i in metals)],
        "halogens": list(_bonded(mol, (17, 35, 53), (6,))),
        "cations": list(_as_charges(cations, rules)),
        "anions": list(_as_charges(anions, rules)),
        "rings": rings,
        "metals": [(i,) for i in metals],
    }
    return {kind: [atoms[list(g)].tolist() for g in groups] for kind, groups in found.items()}


def _bonded(
    mol: Chem.Mol, first: Sequence[int], second: Sequence[int]
) -> Iterable[tuple[int, int]]:
    """Pairs of bonded atoms of the given atomic numbers."""
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() in first:
            for other in atom.GetNeighbors():
                if other.GetAtomicNum() in second:
                    yield atom.GetIdx(), other.GetIdx()


def _is_metal_ion(atom: Chem.Atom) -> bool:
    return atom.GetSymbol() in _METALS and atom.GetFormalCharge() > 0 and not atom.GetTotalDegree()


def _ligand_charges(mol: Chem.Mol) -> tuple[list[list[int]], list[list[int]]]:
    """Positive and negative groups; a charge beside its opposite (nitro, N-oxide) is none."""
    charges = {atom.GetIdx(): atom.GetFormalCharge() for atom in mol.GetAtoms()}
    free = {
        atom.GetIdx(): atom.GetFormalCharge()
        for atom in mol.GetAtoms()
        if atom.GetFormalCharge()
        and not any(
            charges[other.GetIdx()] * atom.GetFormalCharge() < 0 for other in atom.GetNeighbors()
        )
    }
    shared = {index: {index} for index in free}
    for pattern in (_AMIDINIUM, _RESONANT_ANION):
        for neutral, _, charged in mol.GetSubstructMatches(pattern, uniquify=False):
            if charged in shared:
                shared[charged].add(neutral)
    cations = [sorted(shared[index]) for index, charge in free.items() if charge > 0]
    anions = [sorted(shared[index]) for index, charge in free.items() if charge < 0]
    return cations, anions


def _frozen(values: ArrayLike) -> Indices:
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array
