import gzip
import itertools
import re
from collections import Counter, defaultdict

import numpy as np
import openmm
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from openmm import app, unit
from rdkit import Chem
from receptor_files import deposited_like, drop, write
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from nmdasim.errors import ReceptorError
from nmdasim.pore import superpose
from nmdasim.receptor import load_receptor, receptor_file, receptor_names, write_receptor
from nmdasim.receptor.entry import Chain, Residue, membrane_pieces, read_entry
from nmdasim.receptor.prepare import prepare_receptor
from nmdasim.receptor.quality import check_receptor, clashes, dihedral_angle
from nmdasim.receptor.rebuild import (
    cap_after,
    cap_before,
    choose_rotamers,
    close_gaps,
    complete_side_chain,
    place_atom,
)
from nmdasim.subunits import ONE_LETTER, RING_NAMES, recognise_subunit, subunits

AMINO_ACIDS = sorted(
    {"ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE"}
    | {"LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"}
)
# Heavy atoms of each residue inside a chain.
N_HEAVY = {
    "ALA": 5, "ARG": 11, "ASN": 8, "ASP": 8, "CYS": 6, "GLN": 9, "GLU": 9, "GLY": 4,
    "HIS": 10, "ILE": 8, "LEU": 8, "LYS": 9, "MET": 8, "PHE": 11, "PRO": 7, "SER": 6,
    "THR": 7, "TRP": 14, "TYR": 12, "VAL": 7,
}  # fmt: skip
CAPS = ("ACE", "NME")


def named(receptor):
    """Atoms by chain, number, residue name and atom name; caps have the number of a residue."""
    return {
        (atom.residue.chain.id, int(atom.residue.id), atom.residue.name, atom.name): atom.index
        for atom in receptor.topology.atoms()
    }


def ca_of(receptor):
    """Position of each CA by chain and number, nm."""
    return {
        (chain, number): receptor.positions[index]
        for (chain, number, residue, name), index in named(receptor).items()
        if name == "CA" and residue not in CAPS
    }


def ring_of_ca(ca, subunit_of, ring):
    return np.array(
        [ca[chain, subunits()[subunit].rings[ring]] for chain, subunit in subunit_of.items()]
    )


@pytest.fixture(scope="module")
def subunit_of(receptor):
    return {residue.chain: residue.subunit for residue in receptor.residues}


@pytest.fixture(scope="module")
def structure():
    return deposited_like()


@pytest.fixture(scope="module")
def entry(structure, tmp_path_factory):
    return read_entry(write(structure, tmp_path_factory.mktemp("entry") / "entry.cif"))


# ---------------------------------------------------------------- the receptor that ships


def test_every_residue_says_where_it_comes_from(receptor):
    assert Counter(residue.status for residue in receptor.residues) == {
        "observed": 285,
        "side chain rebuilt": 199,
        "rebuilt": 7,
        "cap": 24,
    }
    rebuilt = {(r.chain, r.number) for r in receptor.residues if r.status == "rebuilt"}
    assert rebuilt == {("A", number) for number in range(619, 626)}


def test_residue_table_follows_the_topology(receptor):
    for ours, theirs in zip(receptor.residues, receptor.topology.residues(), strict=True):
        assert (ours.chain, ours.number, ours.name) == (
            theirs.chain.id,
            int(theirs.id),
            theirs.name,
        )
        assert (ours.status == "cap") == (ours.name in CAPS)


def test_numbering_is_that_of_uniprot(receptor, subunit_of):
    assert subunit_of == {"A": "GluN1", "B": "GluN2B", "C": "GluN1", "D": "GluN2B"}
    for residue in receptor.residues:
        if residue.status != "cap":
            sequence = subunits()[residue.subunit].sequence
            assert sequence[residue.number - 1] == ONE_LETTER[residue.name]


def test_all_of_the_transmembrane_helices_is_there(receptor, subunit_of):
    # The ends of M1 and the pre-M4 linker are not in the entry.
    present = {(r.chain, r.number) for r in receptor.residues if r.status != "cap"}
    for chain, subunit in subunit_of.items():
        segments = subunits()[subunit].segments
        for segment in ("m2_m3", "m3"):
            assert {(chain, number) for number in segments[segment]} <= present
        assert {(chain, n) for n in subunits()[subunit].rings.values()} <= present


def test_no_heavy_atom_is_missing(receptor):
    for residue in receptor.topology.residues():
        if residue.name not in CAPS:
            heavy = [atom.name for atom in residue.atoms() if atom.element.symbol != "H"]
            assert len(heavy) == N_HEAVY[residue.name], residue
            assert len(set(heavy)) == len(heavy)


def test_every_cut_is_capped_and_no_end_is_charged(receptor):
    for _, group in itertools.groupby(receptor.residues, key=lambda residue: residue.chain):
        previous = None
        for residue in group:
            if previous is None or previous.name == "NME":
                assert residue.name == "ACE"
            else:
                assert residue.name != "ACE"
                assert residue.number == previous.number + 1
            previous = residue
        assert previous.name == "NME"
    names = {atom.name for atom in receptor.topology.atoms()}
    assert not names & {"OXT", "HXT"}
    for residue in receptor.topology.residues():
        if residue.name not in CAPS:
            amide = {a.name for a in residue.atoms()} & {"H", "H1", "H2", "H3"}
            assert amide == (set() if residue.name == "PRO" else {"H"})


def test_the_force_field_knows_every_atom(receptor):
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(receptor.topology)
    assert system.getNumParticles() == len(receptor.positions)
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    charge = sum(
        nonbonded.getParticleParameters(i)[0]._value for i in range(len(receptor.positions))
    )
    names = Counter(residue.name for residue in receptor.residues)
    expected = names["ARG"] + names["LYS"] - names["ASP"] - names["GLU"]
    assert charge == pytest.approx(expected, abs=1e-3)


def test_coordinates_lie_in_the_pore_frame(receptor, subunit_of):
    ca = ca_of(receptor)
    np.testing.assert_allclose(ring_of_ca(ca, subunit_of, "asparagine").mean(axis=0), 0, atol=1e-3)
    x, y, z = ring_of_ca(ca, subunit_of, "threonine").mean(axis=0)
    assert np.hypot(x, y) < 1e-3
    assert 1.0 < z < 2.0
    m3 = subunits()["GluN1"].segments["m3"]
    across = np.mean([ca["A", number] - ca["C", number] for number in m3], axis=0)
    assert abs(across[1]) < 1e-3
    assert across[0] > 1.0


def test_rings_follow_each_other_along_the_pore(receptor, subunit_of):
    ca = ca_of(receptor)
    heights = [ring_of_ca(ca, subunit_of, ring)[:, 2].mean() for ring in RING_NAMES]
    assert heights == sorted(heights)
    assert heights[-1] - heights[0] > 1.5


def test_stored_checks_are_those_of_the_stored_coordinates(receptor):
    here = defaultdict(dict)
    for (chain, number, residue, name), index in named(receptor).items():
        if residue not in CAPS:
            here[chain, number][name] = receptor.positions[index]
    again = check_receptor(receptor.topology, receptor.positions, receptor.residues, here)
    stored = {check.name: check for check in receptor.checks}
    assert [check.name for check in again] == [check.name for check in receptor.checks]
    for check in again:
        if not check.name.startswith("largest shift"):
            # Rounded coordinates can bring a pair across the limit of a clash.
            assert check.value == pytest.approx(stored[check.name].value, abs=0.3), check.name
    for words in ("cis peptides", "peptides twisted", "residues of wrong", "clashes", "largest"):
        assert next(c for c in receptor.checks if c.name.startswith(words)).passed


def test_source_names_the_entry_and_what_was_done(receptor):
    assert receptor.source["entry"] == "7EU8"
    assert receptor.source["revision"] == "2024-11-06"
    assert re.fullmatch(r"[0-9a-f]{64}", receptor.source["sha256"])
    assert "A 619-625 from chain C" in receptor.source["gaps_rebuilt"]
    assert "NAG" in receptor.source["left_out"]
    assert receptor.source["ph"] == "7.4"


def test_blocker_is_s_ketamine_in_the_vestibule(receptor):
    mol = receptor.reference_ligand
    assert Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False) == "CNC1(c2ccccc2Cl)CCCCC1=O"
    centroid = mol.GetConformer().GetPositions().mean(axis=0)
    assert np.hypot(*centroid[:2]) < 4.0
    assert 0 < centroid[2] < 15


def test_positions_cannot_be_written_to(receptor):
    with pytest.raises(ValueError, match="read-only"):
        receptor.positions[0] = 0


# ---------------------------------------------------------------- against the deposited entry


@pytest.fixture(scope="module")
def deposited(deposited_7eu8):
    return read_entry(deposited_7eu8)


def test_the_entry_is_the_one_that_the_file_names(receptor, deposited):
    for key in ("entry", "revision", "sha256", "doi", "citation_doi"):
        assert deposited.source[key] == receptor.source[key]


def test_observed_ca_stay_within_half_an_angstrom(receptor, deposited):
    theirs = {
        (chain.letter, number): residue.atoms["CA"] / 10
        for chain in deposited.chains
        for number, residue in chain.residues.items()
    }
    seen = {(r.chain, r.number) for r in receptor.residues if r.status not in ("cap", "rebuilt")}
    assert len(seen) == 285 + 199
    ours = ca_of(receptor)
    keys = sorted(seen)
    target = np.array([ours[key] for key in keys])
    moving = np.array([[theirs[key] for key in keys]])
    fitted, rmsd = superpose(moving, reference=target, fit=np.arange(len(keys)))
    assert np.linalg.norm(fitted[0] - target, axis=1).max() <= 0.05
    assert rmsd[0] < 0.02


def test_rings_are_as_wide_as_deposited(receptor, deposited, subunit_of):
    ours = ca_of(receptor)
    theirs = {
        (chain.letter, number): residue.atoms["CA"] / 10
        for chain in deposited.chains
        for number, residue in chain.residues.items()
    }
    for ring in RING_NAMES:
        here, there = (ring_of_ca(ca, subunit_of, ring) for ca in (ours, theirs))
        np.testing.assert_allclose(cdist(here, here), cdist(there, there), atol=0.06)


@pytest.mark.slow
def test_preparation_of_the_entry_gives_the_receptor_that_ships(receptor, deposited_7eu8):
    again = prepare_receptor(deposited_7eu8)
    assert again.residues == receptor.residues
    assert list(named(again)) == list(named(receptor))
    ours, shipped = ca_of(again), ca_of(receptor)
    shifts = [np.linalg.norm(ours[key] - shipped[key]) for key in shipped]
    assert max(shifts) < 0.1
    assert dict(again.source) == dict(receptor.source)
    now = {check.name: check.passed for check in again.checks}
    assert all(now[check.name] for check in receptor.checks if check.passed)
    ligand, before = (r.reference_ligand.GetConformer().GetPositions() for r in (again, receptor))
    np.testing.assert_allclose(ligand, before, atol=0.1)


# ---------------------------------------------------------------- the file


def test_a_written_receptor_reads_the_same(receptor, tmp_path):
    written = write_receptor(receptor, tmp_path / "new" / "7eu8")
    for given_as in (written, written.parent, str(written)):
        again = load_receptor(given_as)
        assert again.residues == receptor.residues
        assert again.checks == receptor.checks
        assert dict(again.source) == dict(receptor.source)
        np.testing.assert_allclose(again.positions, receptor.positions, atol=1e-5)
        assert again.topology.getNumBonds() == receptor.topology.getNumBonds()
    ligand, before = (Chem.MolToSmiles(r.reference_ligand) for r in (again, receptor))
    assert ligand == before


def test_what_ships_is_listed_and_found_in_any_case():
    assert receptor_names() == ("7eu8",)
    assert receptor_file("7EU8") == receptor_file("7eu8")


def test_an_unknown_receptor_is_answered_with_the_nearest():
    with pytest.raises(ReceptorError, match=r"unknown receptor '7eu9': did you mean 7eu8\?"):
        load_receptor("7eu9")
    with pytest.raises(ReceptorError, match="ships 7eu8"):
        load_receptor("nothing alike")


SHIPPED = receptor_file("7eu8").read_text()
LINES = SHIPPED.splitlines(keepends=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data_nothing\n",
        SHIPPED[: len(SHIPPED) // 2],
        SHIPPED[:200],
        SHIPPED.replace("_nmdasim_source.", "_other."),
        SHIPPED.replace("_nmdasim_residue.", "_other."),
        SHIPPED.replace("_atom_site.", "_other."),
        SHIPPED.replace("_nmdasim_check.", "_other."),
        "\x00\x01\x02",
    ],
    ids=["empty", "no data", "half", "head", "no source", "no residues", "no atoms", "no checks",
         "binary"],
)  # fmt: skip
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "receptor.cif"
    path.write_text(text)
    with pytest.raises(ReceptorError, match="not a complete receptor file") as caught:
        load_receptor(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_lost", [1, 2, 5, 8, 20, 300, 600, 4000])
def test_a_file_cut_between_lines_is_refused(tmp_path, n_lost):
    path = tmp_path / "receptor.cif"
    path.write_text("".join(LINES[:-n_lost]))
    with pytest.raises(ReceptorError, match="not a complete receptor file"):
        load_receptor(path)


def test_a_damaged_blocker_is_refused(tmp_path):
    (tmp_path / "receptor.cif").write_text(SHIPPED)
    ligand = receptor_file("7eu8").with_name("reference_ligand.sdf").read_text()
    for text in (ligand[:300], ""):
        (tmp_path / "reference_ligand.sdf").write_text(text)
        with pytest.raises(ReceptorError, match="no readable molecule"):
            load_receptor(tmp_path)


# ---------------------------------------------------------------- quality


def test_mirroring_turns_every_chiral_centre(receptor):
    mirrored = receptor.positions * [1, 1, -1]
    here = {
        (r.chain, r.number): {a.name: mirrored[a.index] for a in t.atoms()}
        for r, t in zip(receptor.residues, receptor.topology.residues(), strict=True)
        if r.status != "cap"
    }
    checks = check_receptor(receptor.topology, mirrored, receptor.residues, here)
    chirality = next(check for check in checks if "chirality" in check.name)
    names = Counter(r.name for r in receptor.residues if r.status != "cap")
    assert not chirality.passed
    assert chirality.value == sum(names.values()) - names["GLY"] + names["ILE"] + names["THR"]


def test_an_atom_pushed_into_another_is_a_clash(receptor):
    index = named(receptor)
    moved, target = index["B", 643, "LEU", "CD1"], index["D", 647, "THR", "CG2"]
    before = clashes(receptor.topology, receptor.positions)
    assert not [pair for pair in before if {moved, target} == set(pair[:2])]
    positions = receptor.positions.copy()
    positions[moved] = positions[target] + [0.2, 0, 0]
    overlap = next(
        pair[2]
        for pair in clashes(receptor.topology, positions)
        if {moved, target} == set(pair[:2])
    )
    assert overlap == pytest.approx(2 * 1.75 - 2.0)


def test_shift_from_the_deposit_is_found_with_its_residue(receptor):
    here = {
        (r.chain, r.number): {a.name: receptor.positions[a.index] for a in t.atoms()}
        for r, t in zip(receptor.residues, receptor.topology.residues(), strict=True)
        if r.status != "cap"
    }
    positions = receptor.positions.copy()
    positions[ca_index(receptor, "C", 640)] += [0.06, 0.0, 0.08]
    shift = next(
        check
        for check in check_receptor(receptor.topology, positions, receptor.residues, here)
        if check.name.startswith("largest shift")
    )
    assert shift.value == pytest.approx(1.0)
    assert not shift.passed
    assert "C640" in shift.detail


def ca_index(receptor, chain, number):
    return next(
        index
        for (letter, place, residue, name), index in named(receptor).items()
        if (letter, place, name) == (chain, number, "CA") and residue not in CAPS
    )


@given(angle=st.floats(-179, 179), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_dihedral_has_the_sign_of_iupac_in_any_frame(angle, seed):
    # Looking along b to c, d lies clockwise of a by the angle.
    turned = np.radians(angle)
    points = np.array(
        [[1.0, 0, 0], [0, 0, 0], [0, 0, -1.0], [np.cos(turned), -np.sin(turned), -1.0]]
    )
    rotation = Rotation.random(rng=seed)
    a, b, c, d = rotation.apply(points) + np.array([3.0, -2.0, 5.0])
    assert dihedral_angle(a, b, c, d) == pytest.approx(angle, abs=1e-6)


# ---------------------------------------------------------------- reading an entry


def test_subunits_and_pieces_of_an_entry(entry):
    found = {chain.letter: chain.recognised.subunit for chain in entry.chains}
    assert found == {"A": "GluN1", "B": "GluN2B", "C": "GluN1", "D": "GluN2B"}
    assert [(p[0], p[-1]) for p in membrane_pieces(entry.chains[0])] == [
        (552, 582),
        (603, 663),
        (807, 838),
    ]


@pytest.mark.parametrize("ending", [".pdb", ".cif", ".pdb.gz", ".cif.gz"])
def test_every_format_reads_the_same(structure, entry, tmp_path, ending):
    path = write(structure, tmp_path / f"entry{ending.removesuffix('.gz')}")
    if ending.endswith(".gz"):
        packed = tmp_path / f"entry{ending}"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    again = read_entry(path)
    for ours, theirs in zip(again.chains, entry.chains, strict=True):
        assert ours.recognised == theirs.recognised
        assert ours.residues.keys() == theirs.residues.keys()
        np.testing.assert_allclose(
            ours.residues[640].atoms["CA"], theirs.residues[640].atoms["CA"], atol=2e-3
        )


@pytest.mark.parametrize("letters", ["BADC", "CDAB", "WXYZ", "DCBA"])
@pytest.mark.parametrize("shift", [-26, 0, 17])
def test_letters_order_and_numbering_do_not_matter(structure, tmp_path, letters, shift):
    def change(model):
        for chain, letter in zip(model, letters, strict=True):
            chain.name = letter
            for residue in chain:
                residue.seqid.num += shift

    path = write(structure, tmp_path / "entry.cif", change)
    entry = read_entry(path)
    assert {c.letter: c.recognised.subunit for c in entry.chains} == dict(
        zip(letters, ["GluN1", "GluN2B"] * 2, strict=True)
    )
    assert {c.recognised.shift for c in entry.chains} == {-shift}
    for chain in entry.chains:
        sequence = subunits()[chain.recognised.subunit].sequence
        assert all(sequence[n - 1] == ONE_LETTER[r.name] for n, r in chain.residues.items())


def test_order_of_the_chains_in_the_file_does_not_matter(structure, tmp_path):
    def reverse(model):
        chains = [chain.clone() for chain in model]
        for letter in "ABCD":
            model.remove_chain(letter)
        for chain in reversed(chains):
            model.add_chain(chain)

    entry = read_entry(write(structure, tmp_path / "entry.cif", reverse))
    found = {c.letter: c.recognised.subunit for c in entry.chains}
    assert found == {"A": "GluN1", "B": "GluN2B", "C": "GluN1", "D": "GluN2B"}


def one_chain(model):
    for letter in "BCD":
        model.remove_chain(letter)


def another_protein(model):
    # The letters in another order: the same composition and another protein.
    for chain in model:
        names = [residue.name for residue in chain]
        for residue, name in zip(chain, sorted(names), strict=True):
            residue.name = name


def four_of_a_kind(model):
    for letter, copy in (("B", "A"), ("D", "C")):
        chain = model[copy].clone()
        chain.name = letter
        model.remove_chain(letter)
        model.add_chain(chain)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_chain, "holds A GluN1: .* two GluN1 and two GluN2"),
        (another_protein, "no NMDA subunit"),
        (four_of_a_kind, "two GluN1 and two GluN2"),
        (lambda model: drop(model, "A", range(616, 617)), "616 of the asparagine ring"),
    ],
    ids=["one chain", "another protein", "four GluN1", "no asparagine ring"],
)
def test_what_is_no_channel_is_refused(structure, tmp_path, change, words):
    path = write(structure, tmp_path / "entry.cif", change)
    with pytest.raises(ReceptorError, match=words) as caught:
        read_entry(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or "asparagine" in words


def test_a_lost_helix_is_refused(structure, tmp_path):
    path = write(structure, tmp_path / "e.cif", lambda model: drop(model, "D", range(800, 900)))
    chain = next(chain for chain in read_entry(path).chains if chain.letter == "D")
    with pytest.raises(ReceptorError, match=r"chain D \(GluN2B\) shows only 0 of .* M4"):
        membrane_pieces(chain)


@pytest.mark.parametrize("name", ["entry.cif", "entry.pdb", "entry.cif.gz", "entry.txt"])
@pytest.mark.parametrize(
    "content",
    [b"", b"data_x\n", b"loop_ _atom_site.id 1 2", bytes(range(256)), b"\x1f\x8b\x08\x00cut"],
    ids=["empty", "no atoms", "half a loop", "bytes", "cut gzip"],
)
def test_an_unreadable_file_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReceptorError) as caught:
        read_entry(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
@pytest.mark.parametrize("ending", ["cif", "pdb"])
def test_a_file_cut_short_is_refused(structure, tmp_path, ending, share):
    whole = write(structure, tmp_path / f"whole.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ReceptorError):
        [membrane_pieces(chain) for chain in read_entry(path).chains]


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(ReceptorError, match="no such file"):
        read_entry(tmp_path / "none.cif")
    with pytest.raises(ReceptorError, match="no such file"):
        read_entry(tmp_path)


# ---------------------------------------------------------------- rebuilding

coordinate = st.floats(-5, 5)
point = st.tuples(coordinate, coordinate, coordinate).map(np.array)


@given(
    a=point, b=point, c=point,
    length=st.floats(0.5, 3), angle=st.floats(5, 175), torsion=st.floats(-175, 175),
)  # fmt: skip
@settings(deadline=None)
def test_a_placed_atom_has_the_asked_geometry(a, b, c, length, angle, torsion):
    bonds = [np.linalg.norm(first - second) for first, second in ((a, b), (b, c))]
    assume(min(bonds) > 0.5)
    assume(np.linalg.norm(np.cross(b - a, c - b)) > 0.1 * bonds[0] * bonds[1])
    d = place_atom(a, b, c, length, angle, torsion)
    to_d, to_b = d - c, b - c
    assert np.linalg.norm(to_d) == pytest.approx(length)
    cosine = to_d @ to_b / np.linalg.norm(to_d) / np.linalg.norm(to_b)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(angle, abs=1e-5)
    assert dihedral_angle(a, b, c, d) == pytest.approx(torsion, abs=1e-5)


@pytest.fixture(scope="module")
def backbone(entry):
    atoms = entry.chains[0].residues[640].atoms
    return {name: atoms[name] for name in ("N", "CA", "C", "O")}


def labels(residue):
    """Read CIP labels from coordinates with RDKit; bonds come from OpenMM's templates."""
    topology, positions = alone(residue)
    topology.createStandardBonds()
    mol = Chem.RWMol()
    for atom in topology.atoms():
        mol.AddAtom(Chem.Atom(atom.element.symbol))
    for first, second in topology.bonds():
        double = {first.name, second.name} == {"C", "O"}
        order = Chem.BondType.DOUBLE if double else Chem.BondType.SINGLE
        mol.AddBond(first.index, second.index, order)
    conformer = Chem.Conformer(len(positions))
    for index, place in enumerate(10 * positions):
        conformer.SetAtomPosition(index, place)
    mol.AddConformer(conformer)
    Chem.SanitizeMol(mol)
    Chem.AssignStereochemistryFrom3D(mol)
    names = [atom.name for atom in topology.atoms()]
    # Ring carbons are saturated here, which makes them centres that they are not.
    return {
        names[atom.GetIdx()]: atom.GetProp("_CIPCode")
        for atom in mol.GetAtoms()
        if atom.HasProp("_CIPCode") and names[atom.GetIdx()] in ("CA", "CB")
    }


@pytest.mark.parametrize("name", AMINO_ACIDS)
def test_a_side_chain_built_from_nothing_is_that_of_an_l_amino_acid(backbone, name):
    built = complete_side_chain(Residue(number=1, name=name, atoms=backbone))
    assert len(built.atoms) == N_HEAVY[name]
    for atom, place in backbone.items():
        np.testing.assert_array_equal(built.atoms[atom], place)
    expected = {} if name == "GLY" else {"CA": "R" if name == "CYS" else "S"}
    expected |= {"ILE": {"CB": "S"}, "THR": {"CB": "R"}}.get(name, {})
    assert labels(built) == expected
    if name != "GLY":
        ca, cb = built.atoms["CA"], built.atoms["CB"]
        assert np.linalg.norm(cb - ca) == pytest.approx(1.54, abs=0.04)
        for atom in ("N", "C"):
            assert np.linalg.norm(cb - backbone[atom]) == pytest.approx(2.47, abs=0.13)


@pytest.mark.parametrize("name", AMINO_ACIDS)
def test_a_side_chain_is_completed_from_what_is_there(entry, name):
    for chain in entry.chains:
        for residue in chain.residues.values():
            if residue.name != name or name in ("GLY", "ALA"):
                continue
            kept = {n: p for n, p in residue.atoms.items() if n in ("N", "CA", "C", "O", "CB")}
            built = complete_side_chain(Residue(number=1, name=name, atoms=kept))
            assert built.atoms.keys() == residue.atoms.keys()
            assert labels(built) == labels(residue)
            # Whatever the angles, atoms one bond beyond CB are where they must be.
            for atom in built.atoms.keys() & {"CG", "CG1", "CG2", "OG", "OG1", "SG"}:
                ours, theirs = (r.atoms[atom] - r.atoms["CB"] for r in (built, residue))
                assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), abs=0.08)
            return


def chi_of(atoms, names):
    return dihedral_angle(*(atoms[name] for name in names.split()))


def alone(residue):
    """Give one residue as a topology of heavy atoms, positions in nm."""
    topology = app.Topology()
    new = topology.addResidue(residue.name, topology.addChain("A"), "1")
    for name in residue.atoms:
        topology.addAtom(name, app.Element.getBySymbol(name[0]), new)
    return topology, np.array(list(residue.atoms.values())) / 10


@pytest.mark.parametrize(
    ("name", "chis", "grids"),
    [
        ("SER", ["N CA CB OG"], [(-60, 180, 60)]),
        ("LEU", ["N CA CB CG", "CA CB CG CD1"], [(-60, 180, 60)] * 2),
        (
            "MET",
            ["N CA CB CG", "CA CB CG SD", "CB CG SD CE"],
            [(-60, 180, 60)] * 3,
        ),
    ],
)
def test_a_side_chain_turns_away_from_an_obstacle_to_a_staggered_place(backbone, name, chis, grids):
    built = complete_side_chain(Residue(number=1, name=name, atoms=backbone))
    topology, start = alone(built)
    names = list(built.atoms)
    missing = frozenset(n for n in names if n not in ("N", "CA", "C", "O", "CB"))
    first = chis[0].split()[3]
    nothing = np.empty((0, 3))
    start = choose_rotamers(topology, start, {0: missing}, nothing)
    obstacle = start[names.index(first)] + [0.0, 0.01, 0.0]
    placed = choose_rotamers(topology, start, {0: missing}, obstacle[None])
    moving = [i for i, n in enumerate(names) if n in missing]
    assert cdist(start[moving], obstacle[None]).min() < 0.02
    # A third of a turn moves the first atom behind CB by 0.25 nm.
    assert cdist(placed[moving], obstacle[None]).min() > 0.2
    for index, atom in enumerate(names):
        if atom not in missing:
            np.testing.assert_array_equal(placed[index], start[index])
    atoms = dict(zip(names, placed, strict=True))
    shake = 0 if len(chis) > 2 else 20
    for chi, grid in zip(chis, grids, strict=True):
        off = [abs((chi_of(atoms, chi) - angle + 180) % 360 - 180) for angle in grid]
        assert min(off) <= shake + 1e-6
        assert min(off) % 10 == pytest.approx(0, abs=1e-6) or min(off) % 10 > 10 - 1e-6
    # Turning changes no bond and no angle: distances over up to two bonds stay.
    bonded = cdist(start, start) < 0.28
    before, after = cdist(start, start)[bonded], cdist(placed, placed)[bonded]
    near = before < 0.18
    np.testing.assert_allclose(after[near], before[near], atol=1e-9)


def test_observed_atoms_are_never_turned(receptor):
    topology, positions = receptor.topology, receptor.positions
    heavy = app.Modeller(topology, positions)
    heavy.delete([atom for atom in topology.atoms() if atom.element.symbol == "H"])
    start = np.array(heavy.positions.value_in_unit(unit.nanometer))
    leu = next(r for r in heavy.topology.residues() if r.name == "LEU" and r.id == "643")
    placed = choose_rotamers(heavy.topology, start, {leu.index: frozenset({"CD1", "CD2"})},
                             np.empty((0, 3)))  # fmt: skip
    free = [atom.index for atom in leu.atoms() if atom.name in ("CD1", "CD2")]
    moved = np.flatnonzero(np.abs(placed - start).max(axis=1) > 0)
    assert set(moved) <= set(free)


def peptide_geometry(residues):
    """Bond lengths C-N and dihedrals omega over consecutive residues."""
    bonds, omegas = [], []
    for before, after in itertools.pairwise(residues):
        bonds.append(np.linalg.norm(before.atoms["C"] - after.atoms["N"]))
        omegas.append(
            dihedral_angle(
                before.atoms["CA"], before.atoms["C"], after.atoms["N"], after.atoms["CA"]
            )
        )
    return np.array(bonds), np.array(omegas)


def without(chain, numbers):
    kept = {number: r for number, r in chain.residues.items() if number not in numbers}
    return Chain(letter=chain.letter, recognised=chain.recognised, residues=kept)


def all_atoms(*chains):
    return np.array([p for c in chains for r in c.residues.values() for p in r.atoms.values()])


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(range(619, 626), marks=pytest.mark.slow),
        range(630, 633),
        range(640, 641),
    ],
)
def test_a_gap_is_closed_with_peptide_geometry(entry, numbers):
    chain, partner = entry.chains[0], entry.chains[2]
    cut = without(chain, numbers)
    others = [cut, *entry.chains[1:]]
    closed, gaps = close_gaps(cut, partner, range(603, 664), all_atoms(*others))
    assert [(g.chain, g.template, g.numbers) for g in gaps] == [("A", "C", numbers)]
    assert list(closed) == list(range(603, 664))
    for number in cut.residues.keys() & closed.keys():
        assert closed[number] is cut.residues[number]
    around = [closed[n] for n in range(numbers[0] - 1, numbers[-1] + 2)]
    bonds, omegas = peptide_geometry(around)
    # Fixed neighbours that lie too far apart leave the join a little long.
    np.testing.assert_allclose(bonds, 1.329, atol=0.1)
    # The minimisation flattens peptides and cannot turn a cis one over.
    assert (np.abs(omegas) > 100).all()
    sequence = subunits()["GluN1"].sequence
    for number in numbers:
        assert ONE_LETTER[closed[number].name] == sequence[number - 1]
        assert closed[number].atoms.keys() <= {"N", "CA", "C", "O", "CB"}


@pytest.mark.parametrize("seed", range(3))
def test_a_gap_closed_from_an_exact_copy_is_the_original(entry, seed):
    chain, numbers = entry.chains[1], range(634, 639)
    turn = Rotation.random(rng=seed)
    copy = {
        n: Residue(number=n, name=r.name, atoms={k: turn.apply(p) + 40 for k, p in r.atoms.items()})
        for n, r in chain.residues.items()
    }
    partner = Chain(letter="X", recognised=chain.recognised, residues=copy)
    cut = without(chain, numbers)
    closed, (gap,) = close_gaps(cut, partner, range(600, 663), np.empty((0, 3)))
    assert gap.bend_nm == pytest.approx(0, abs=1e-6)
    for number in numbers:
        for atom, place in closed[number].atoms.items():
            # Bonds and angles become ideal; nothing else may change.
            if atom == "CA":
                assert np.linalg.norm(place - chain.residues[number].atoms[atom]) < 0.8


def test_a_gap_in_both_copies_is_refused(entry):
    chain, partner = (without(entry.chains[i], range(640, 643)) for i in (0, 2))
    with pytest.raises(ReceptorError, match="640-642 are missing in both A and C"):
        close_gaps(chain, partner, range(603, 664), all_atoms(chain, partner))


def test_a_cap_takes_the_place_of_a_neighbour_that_was_seen(entry):
    residues = entry.chains[0].residues
    ace = cap_before(residues[610], residues[609], np.empty((0, 3)))
    nme = cap_after(residues[650], residues[651])
    assert (ace.name, ace.number, nme.name, nme.number) == ("ACE", 609, "NME", 651)
    for cap, source, names in (
        (ace, residues[609], {"CH3": "CA", "C": "C", "O": "O"}),
        (nme, residues[651], {"N": "N", "C": "CA"}),
    ):
        assert cap.atoms.keys() == names.keys()
        for ours, theirs in names.items():
            np.testing.assert_array_equal(cap.atoms[ours], source.atoms[theirs])


def test_a_cap_built_from_nothing_has_peptide_geometry_and_room(entry):
    residues = entry.chains[0].residues
    first, last = residues[610], residues[650]
    neighbours = np.array(list(residues[609].atoms.values()))
    ace = cap_before(first, None, neighbours)
    nme = cap_after(last, None)
    assert np.linalg.norm(ace.atoms["C"] - first.atoms["N"]) == pytest.approx(1.329)
    assert np.linalg.norm(ace.atoms["C"] - ace.atoms["O"]) == pytest.approx(1.231)
    omega = dihedral_angle(ace.atoms["CH3"], ace.atoms["C"], first.atoms["N"], first.atoms["CA"])
    assert abs(omega) == pytest.approx(180)
    assert np.linalg.norm(last.atoms["C"] - nme.atoms["N"]) == pytest.approx(1.329)
    flat = dihedral_angle(last.atoms["O"], last.atoms["C"], nme.atoms["N"], nme.atoms["C"])
    assert abs(flat) < 15
    # Of the places tried, the one with most room is taken: an obstacle there is avoided.
    blocked = cap_before(first, None, np.array(list(ace.atoms.values())))
    assert np.linalg.norm(blocked.atoms["CH3"] - ace.atoms["CH3"]) > 1.0


def test_recognition_by_chain_of_the_shipped_receptor(receptor, subunit_of):
    for chain, subunit in subunit_of.items():
        residues = {
            r.number: ONE_LETTER[r.name]
            for r in receptor.residues
            if r.chain == chain and r.status != "cap"
        }
        recognised = recognise_subunit(residues)
        assert (recognised.subunit, recognised.shift, recognised.identity) == (subunit, 0, 1.0)
