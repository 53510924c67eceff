import csv
import math
import re
import string
from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from nmdasim import cli
from nmdasim.errors import LigandError, RunStorageError
from nmdasim.ligand import (
    MARKS,
    conformers,
    find_entry,
    formula_svg,
    is_confirmed,
    library,
    library_protomers,
    ligand_svg,
    load_ligand,
    mixtures,
    names_of,
    potencies,
    protonated_share,
    read_ligand_sdf,
    ring_form,
    state_of,
    stereoisomers,
    strain,
    write_ligand,
)
from nmdasim.ligand.conformers import _built
from nmdasim.structures import structures_folder

S_KETAMINE = "CN[C@@]1(CCCCC1=O)c1ccccc1Cl"


@pytest.fixture(scope="module")
def s_ketamine():
    return load_ligand("S-ketamine")


def names(mol):
    return [atom.GetPDBResidueInfo().GetName().strip() for atom in mol.GetAtoms()]


def shown_smiles(mol):
    """Read the stereochemistry that the coordinates show, forgetting what is written."""
    mol = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(mol)
    return Chem.MolToSmiles(Chem.RemoveHs(mol))


@cache
def loaded(name):
    """A library ligand, prepared once for all tests."""
    return load_ligand(name)


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
class TestLibrary:
    def test_labels_agree_with_the_older_algorithm(self, entry):
        # Chem.FindMolChiralCenters with the legacy code labels independently of rdCIPLabeler.
        mol = Chem.MolFromSmiles(entry.smiles)
        Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
        legacy = [atom.GetProp("_CIPCode") for atom in mol.GetAtoms() if atom.HasProp("_CIPCode")]
        assert tuple(legacy) == entry.cip
        assert sorted(legacy) == sorted(loaded(entry.name).cip.replace(",", ""))

    def test_name_and_title_say_its_labels(self, entry):
        written = re.match(r"((?:\d?[RS])+)-", entry.name)
        if written:
            assert tuple(re.findall("[RS]", written[1])) == entry.cip
            locants = re.match(r"\(([^()]+)\)-", entry.title)[1]
            assert locants.replace(",", "") == written[1]

    def test_every_name_finds_it(self, entry):
        for name in names_of(entry):
            assert find_entry(f" {name.upper()} ") == entry

    def test_coordinates_show_the_written_stereochemistry(self, entry):
        # A cage shows centres that need not be written, hence no comparison of texts.
        for state in loaded(entry.name).states:
            shown = Chem.MolFromSmiles(shown_smiles(state.mol))
            written = Chem.MolFromSmiles(state.smiles)
            assert shown.GetNumAtoms() == written.GetNumAtoms()
            assert shown.HasSubstructMatch(written, useChirality=True)

    def test_figures_state_source_and_mark(self, entry):
        for finding in entry.properties:
            assert finding.mark in MARKS
            assert finding.source or not is_confirmed(finding.mark) or finding.mark == "SEEN-2nd"
        assert math.isnan(entry.pka) or loaded(entry.name).pka_source

    def test_listing_and_preparation_give_the_same_states(self, entry):
        listed, states = library_protomers(entry), loaded(entry.name).states
        assert [p.smiles for p in listed] == [s.smiles for s in states]
        for protomer, state in zip(listed, states, strict=True):
            assert protomer.population == pytest.approx(state.population, nan_ok=True)

    def test_metabolites_differ_from_their_parents_by_the_reaction(self, entry):
        # A closed form: what each kind of reaction adds to the molecular formula.
        change = {
            "N-demethylation": {"C": -1, "H": -2},
            "O-demethylation": {"C": -1, "H": -2},
            "5,6-dehydrogenation": {"H": -2},
            "hydroxylation": {"O": 1},
        }
        for reaction in entry.reactions:
            expected = change[reaction.name if "demethyl" in reaction.name or "dehydro" in
                              reaction.name else "hydroxylation"]  # fmt: skip
            made, parent = (
                composition(find_entry(n).smiles) for n in (entry.name, reaction.parent)
            )
            difference = {e: made[e] - parent[e] for e in made | parent if made[e] != parent[e]}
            assert difference == expected
            assert reaction.mark in MARKS
            assert reaction.source


@pytest.mark.parametrize("entry", library()[::6], ids=lambda entry: entry.name)
def test_a_structure_is_recognised(entry):
    written = Chem.MolToSmiles(Chem.MolFromSmiles(entry.smiles), doRandom=True)
    assert load_ligand(written).name == entry.name


def composition(smiles):
    return Counter(atom.GetSymbol() for atom in Chem.AddHs(Chem.MolFromSmiles(smiles)).GetAtoms())


def test_the_library_is_complete():
    names = {entry.name for entry in library()}
    for hand in "RS":
        assert {f"{hand}-{kind}" for kind in ("ketamine", "norketamine", "dehydronorketamine",
                                              "methoxetamine")} <= names  # fmt: skip
    isomers = [f"2{one}{place}{two}" for place in "456" for one in "RS" for two in "RS"]
    assert {f"{isomer}-hydroxynorketamine" for isomer in isomers} <= names
    assert {f"2{hand}6{hand}-hydroxyketamine" for hand in "RS"} <= names
    assert {"plus-MK-801", "minus-MK-801", "phencyclidine", "memantine", "amantadine",
            "dextromethorphan", "dextrorphan", "magnesium"} <= names  # fmt: skip


def test_no_name_means_two_things():
    every = [name.casefold() for entry in library() for name in names_of(entry)]
    assert len(set(every)) == len(every)
    for mixture, components in mixtures().items():
        assert mixture.casefold() not in every
        assert {find_entry(name).name for name in components} == set(components)


def test_position_of_the_hydroxyl_is_that_of_the_name():
    # Steps from the carbonyl carbon to the carbon of the hydroxyl, the short way round.
    for entry in library():
        position = re.search(r"-(\d)-hydroxynor", entry.title)
        if position:
            mol = Chem.MolFromSmiles(entry.smiles)
            ((carbonyl, _),) = mol.GetSubstructMatches(Chem.MolFromSmarts("C=O"))
            ((carbon, _),) = mol.GetSubstructMatches(Chem.MolFromSmarts("[CX4][OH]"))
            steps = int(Chem.GetDistanceMatrix(mol)[carbonyl, carbon])
            assert steps == {"6": 1, "5": 2, "4": 3}[position[1]]


@pytest.mark.parametrize(
    ("name", "inchikey"),
    [
        # Keys of the deposited compounds, read in public records.
        ("plus-MK-801", "LBOJYSIDWZQNJS-CVEARBPZSA-N"),
        ("minus-MK-801", "LBOJYSIDWZQNJS-JKSUJKDBSA-N"),
        ("dextromethorphan", "MKXZASYAUGDDCJ-NJAFHUGGSA-N"),
        ("dextrorphan", "JAQUASYNZVUNQP-PVAVHDDUSA-N"),
        ("phencyclidine", "JTJMJGYZQZDUJJ-UHFFFAOYSA-N"),
        ("memantine", "BUGYDGFZZOZRHP-UHFFFAOYSA-N"),
    ],
)
def test_configuration_agrees_with_public_records(name, inchikey):
    assert Chem.MolToInchiKey(Chem.MolFromSmiles(find_entry(name).smiles)) == inchikey


def recorded(quantity):
    """Formulas and keys of physchem.csv with the library's ligands that they are about."""
    with (structures_folder() / "ligands" / "physchem.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == quantity]
    return [
        (row["text_value"], name)
        for row in rows
        if is_confirmed(row["mark"])
        for name in mixtures().get(row["ligand"], (row["ligand"],))
    ]


def test_formulas_and_keys_agree_with_the_records():
    formulas, keys = recorded("formula"), recorded("inchikey")
    assert len(formulas) >= 8
    assert len(keys) >= 8
    for formula, name in formulas:
        assert Counter(loaded(name).formula) == Counter(formula)
    for key, name in keys:
        # Where the record has no stereo, only the first block of the key, the skeleton, counts.
        n_blocks = 1 if key.endswith("-UHFFFAOYSA-N") else 3
        assert loaded(name).inchikey.split("-")[:n_blocks] == key.split("-")[:n_blocks]


def test_s_ketamine_is_s(s_ketamine):
    assert load_ligand(S_KETAMINE).name == "S-ketamine"
    assert s_ketamine.cip == "S"
    assert load_ligand("arketamine").cip == "R"
    assert s_ketamine.formula == "C13H16ClNO"


@given(ph=st.floats(0.0, 14.0))
@settings(deadline=None)
def test_populations_follow_henderson_and_hasselbalch(ph):
    states = {p.charge: p for p in library_protomers(find_entry("S-ketamine"), ph=ph)}
    ratio = states[1].population / states[0].population
    assert math.log10(ratio) == pytest.approx(7.5 - ph, abs=1e-6)
    assert states[1].population + states[0].population == pytest.approx(1.0)


def test_protonated_share_at_physiological_ph(s_ketamine):
    # reference/physchem.csv: 0.557 at pH 7.4.
    assert s_ketamine.states[0].population == pytest.approx(0.557, abs=5e-4)
    assert s_ketamine.states[0].charge == 1


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("smiles", [S_KETAMINE, "C[NH2+][C@]1(CCCCC1=O)c1ccccc1Cl"])
def test_the_way_of_writing_does_not_matter(smiles, seed):
    reference = load_ligand(smiles)
    mol = Chem.MolFromSmiles(smiles)
    order = np.random.default_rng(seed).permutation(mol.GetNumAtoms()).tolist()
    written = Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)
    ligand = load_ligand(written)
    assert ligand.name == reference.name
    for one, other in zip(ligand.states, reference.states, strict=True):
        assert one.smiles == other.smiles
        assert names(one.mol) == names(other.mol)
        np.testing.assert_array_equal(
            one.mol.GetConformer().GetPositions(), other.mol.GetConformer().GetPositions()
        )


def test_charge_states_share_the_names_of_their_heavy_atoms(s_ketamine):
    plus, neutral = (state.mol for state in s_ketamine.states)
    n_heavy = plus.GetNumHeavyAtoms()
    assert names(plus)[:n_heavy] == names(neutral)[:n_heavy]
    assert len(set(names(plus))) == plus.GetNumAtoms() == neutral.GetNumAtoms() + 1


def test_conformers_depend_on_the_seed_alone():
    places = []
    for seed in (1, 1, 2):
        # What was built before is kept, and would be equal for that alone.
        _built.cache_clear()
        mol = load_ligand("CCCCCNCC", seed=seed).states[0].mol
        places.append(mol.GetConformer().GetPositions())
    first, again, other = places
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_molecule_that_is_changed_leaves_those_loaded_later_alone():
    first = state_of(load_ligand("S-ketamine")).mol
    before = first.GetConformer().GetPositions()
    first.GetConformer().SetAtomPosition(0, (9.0, 9.0, 9.0))
    first.GetAtomWithIdx(0).SetProp("_Name", "spoilt")
    later = state_of(load_ligand("S-ketamine")).mol
    np.testing.assert_array_equal(later.GetConformer().GetPositions(), before)
    assert later.GetAtomWithIdx(0).GetProp("_Name") == "C1"


def test_other_molecules_have_the_states_near_the_ph():
    # Typical amines are protonated up to pH 9 or so, carboxylic acids below 4.
    for ph, charges in ((1.0, [1]), (7.4, [0]), (13.5, [-1])):
        ligand = load_ligand("OC(=O)CCCCCCNC", ph=ph)
        assert [state.charge for state in ligand.states] == charges
    zwitterion = load_ligand("OC(=O)CCCCCCNC").states[0].mol
    assert {atom.GetFormalCharge() for atom in zwitterion.GetAtoms()} == {-1, 0, 1}


def test_of_forms_with_one_charge_the_most_basic_amine_is_protonated():
    ligand = load_ligand("FCCNCCCCNC")
    by_charge = {state.charge: state.smiles for state in ligand.states}
    assert by_charge[1] == Chem.CanonSmiles("C[NH2+]CCCCNCCF")
    nicotine = load_ligand("CN1CCC[C@H]1c1cccnc1")
    assert state_of(nicotine, 1).smiles == Chem.CanonSmiles("C[NH+]1CCC[C@H]1c1cccnc1")
    triamine = load_ligand("NCCNCCN")
    charges = [state.charge for state in triamine.states]
    assert charges == sorted(set(charges), reverse=True)
    others = {note.split(": ")[1] for note in triamine.notes if "another form" in note}
    assert Chem.CanonSmiles("NCCNCC[NH3+]") in others | {s.smiles for s in triamine.states}
    assert not others & {state.smiles for state in triamine.states}
    assert others


@pytest.mark.parametrize(
    "pair",
    [
        ("OC(=O)CC[NH2+]C", "[O-]C(=O)CCNC"),
        ("C[NH2+]CCC(=O)[O-]", "CNCCC(=O)O"),
        ("[NH3+][C@]1(c2ccccc2Cl)CCCCC1=O", "N[C@@]1(CCCCC1=O)c1ccccc1Cl"),
        ("[O-]c1ccccc1CN", "Oc1ccccc1C[NH3+]"),
    ],
)
def test_the_charge_as_given_does_not_matter(pair):
    one, other = map(load_ligand, pair)
    assert one.inchikey == other.inchikey
    assert [state.smiles for state in one.states] == [state.smiles for state in other.states]


def test_share_at_the_pka_is_half():
    assert protonated_share(8.3, 8.3) == 0.5
    assert protonated_share(8.3, 7.3) == pytest.approx(10.0 / 11.0)


def test_a_range_of_pka_gives_no_weights_but_a_range_of_shares():
    ligand = loaded("S-norketamine")
    assert all(math.isnan(state.population) for state in ligand.states)
    assert find_entry("S-norketamine").pka_range == (6.7, 7.5)
    (note,) = ligand.notes
    assert "MEM-lo" in note
    assert f"between {protonated_share(6.7, 7.4):.0%} and {protonated_share(7.5, 7.4):.0%}" in note


def test_an_unconfirmed_pka_is_said_to_be_so():
    (note,) = loaded("memantine").notes
    assert note == "pKa not confirmed (MEM-hi): so are the populations"
    assert loaded("S-ketamine").notes == ()


@pytest.mark.parametrize(
    ("smiles", "protonated"),
    [
        ("NC(=O)CCN", "NC(=O)CC[NH3+]"),  # amide against amine
        ("CNc1ccc(CN)cc1", "CNc1ccc(C[NH3+])cc1"),  # aniline against benzylamine
        ("CN1CCCC1c1cccnc1", None),  # an undefined centre is refused
        ("C[C@H]1CCCCN1", "C[C@H]1CCCC[NH2+]1"),
    ],
)
def test_the_most_basic_amine_is_protonated(smiles, protonated):
    if protonated is None:
        with pytest.raises(LigandError, match="1 stereocentre undefined"):
            load_ligand(smiles)
        return
    ligand = load_ligand(smiles)
    assert ligand.states[0].smiles == Chem.CanonSmiles(protonated)
    assert all(math.isnan(state.population) for state in ligand.states)
    assert "unweighted" in ligand.notes[0]


def test_cages_have_no_false_stereocentres():
    memantine = load_ligand("CC12CC3CC(C)(C1)CC(N)(C3)C2")
    assert memantine.inchikey == "BUGYDGFZZOZRHP-UHFFFAOYSA-N"  # reference/physchem.csv
    assert [state.charge for state in memantine.states] == [1, 0]


def test_without_an_amine_the_given_state_is_kept():
    (state,) = load_ligand("C[N+](C)(C)CC(=O)[O-]").states
    assert (state.charge, math.isnan(state.population)) == (0, True)


KETAMINE_SALTS = {
    "hydrogen chloride": f"{S_KETAMINE}.Cl",
    "hydrogen bromide": "[Br-].C[NH2+][C@]1(c2ccccc2Cl)CCCCC1=O",
    "maleic or fumaric acid": f"OC(=O)/C=C\\C(=O)O.{S_KETAMINE}",
    "2 x water, tartaric acid": f"{S_KETAMINE}.O.O.O[C@H]([C@@H](O)C(=O)O)C(=O)O",
    "sulfuric acid, a second copy of the ligand": f"{S_KETAMINE}.OS(=O)(=O)O.{S_KETAMINE}",
}


@pytest.mark.parametrize(("left_out", "smiles"), KETAMINE_SALTS.items())
def test_the_parent_of_a_salt_is_kept_and_that_is_said(s_ketamine, left_out, smiles):
    ligand = load_ligand(smiles)
    assert ligand.name == "S-ketamine"
    assert [state.smiles for state in ligand.states] == [s.smiles for s in s_ketamine.states]
    (note,) = ligand.notes
    assert note.endswith(f"left out: {left_out}")


def test_coordinates_of_the_parent_survive_the_salt(s_ketamine, tmp_path):
    salt = Chem.CombineMols(s_ketamine.states[0].mol, positioned("[Cl-]", [9.0, 0.0, 0.0]))
    path = tmp_path / "salt.sdf"
    path.write_text(sdf_text(salt), encoding="utf-8")
    ligand = load_ligand(path)
    np.testing.assert_allclose(
        ligand.states[1].mol.GetConformer().GetPositions()[:16],
        s_ketamine.states[0].mol.GetConformer().GetPositions()[:16],
        atol=6e-5,
    )
    assert "left out: hydrogen chloride" in ligand.notes[0]


def positioned(smiles, position):
    atom = Chem.MolFromSmiles(smiles)
    conformer = Chem.Conformer(1)
    conformer.Set3D(True)
    conformer.SetAtomPosition(0, position)
    atom.AddConformer(conformer)
    return atom


@pytest.mark.slow
def test_stereoisomers_of_what_is_left_open():
    assert stereoisomers("ketamine") == ("S-ketamine", "R-ketamine")
    found = stereoisomers("CNC1(CCCCC1=O)c1ccccc1Cl")
    assert {load_ligand(smiles).name for smiles in found} == {"S-ketamine", "R-ketamine"}
    half = stereoisomers("N[C@@]1(CCCC(O)C1=O)c1ccccc1Cl")
    assert {load_ligand(smiles).name for smiles in half} == {
        "2S6S-hydroxynorketamine", "2S6R-hydroxynorketamine",
    }  # fmt: skip
    assert stereoisomers("esketamine") == ("esketamine",)
    assert stereoisomers("CC12CC3CC(C)(C1)CC(N)(C3)C2") == ("CC12CC3CC(C)(C1)CC(N)(C3)C2",)
    # The bridge of MK-801 allows two of its four written isomers.
    bridged = stereoisomers("CC12NC(Cc3ccccc31)c1ccccc12")
    assert {load_ligand(s).name for s in bridged} == {"plus-MK-801", "minus-MK-801"}
    with pytest.raises(LigandError, match="more than 64 stereoisomers"):
        stereoisomers("NC(F)" * 8 + "C")


# ------------------------------------------------------------------------------- the ion


def test_magnesium_is_an_ion_of_fixed_charge(tmp_path):
    for name in ("magnesium", "Mg2+", "[Mg+2]", "[Mg++]"):
        ligand = load_ligand(name)
        (state,) = ligand.states
        assert (ligand.name, state.name) == ("magnesium", "magnesium+2")
        assert (state.charge, state.population, state.smiles) == (2, 1.0, "[Mg+2]")
        assert any("do not apply" in note for note in ligand.notes)
    (only,) = conformers(state.mol)
    assert (only.energy_kj_mol, only.form, strain(state.mol).energy_kj_mol) == (0.0, "", 0.0)
    write_ligand(state, tmp_path / "ion.sdf")
    assert load_ligand(tmp_path / "ion.sdf").name == "magnesium"
    assert names(read_ligand_sdf(tmp_path / "ion.sdf")) == ["Mg1"]


# --------------------------------------------------------------- conformers and strain


@pytest.fixture(scope="module")
def ensemble(s_ketamine):
    return conformers(s_ketamine.states[0].mol)


def aryl_torsion(mol):
    """Angle between the aryl bond and the ring: gauche when axial, anti when equatorial."""
    match = mol.GetSubstructMatch(Chem.MolFromSmarts("c[C@@]1(N)C(=O)CCCC1"))
    match = match or mol.GetSubstructMatch(Chem.MolFromSmarts("cC1(N)C(=O)CCCC1"))
    aryl, quaternary, last, before = match[0], match[1], match[8], match[7]
    angle = rdMolTransforms.GetDihedralDeg(mol.GetConformer(), aryl, quaternary, last, before)
    return abs(angle)


def test_both_chairs_of_ketamine_are_conformers(ensemble):
    forms = {c.form for c in ensemble}
    assert {"chair, aryl axial", "chair, aryl equatorial"} <= forms
    energies = [c.energy_kj_mol for c in ensemble]
    assert energies[0] == 0.0
    assert energies == sorted(energies)
    for conformer in ensemble:
        if conformer.form == "chair, aryl axial":
            assert 45.0 < aryl_torsion(conformer.mol) < 100.0
        if conformer.form == "chair, aryl equatorial":
            assert 140.0 < aryl_torsion(conformer.mol) <= 180.0


@pytest.mark.slow
def test_mirror_images_have_the_same_conformers(ensemble):
    mirrored = conformers(loaded("R-ketamine").states[0].mol)
    assert mirrored[0].form == ensemble[0].form
    for one, other in zip(ensemble[:3], mirrored[:3], strict=True):
        assert one.energy_kj_mol == pytest.approx(other.energy_kj_mol, abs=0.2)


def test_all_conformers_are_the_same_compound(s_ketamine, ensemble):
    assert {shown_smiles(c.mol) for c in ensemble} == {s_ketamine.states[0].smiles}


@pytest.mark.parametrize(
    ("smiles", "forms"),
    [
        ("CC1CCCCC1", ("chair, alkyl equatorial", "chair, alkyl axial")),
        ("CC(C)(C)C1CCCCC1", ("chair, alkyl equatorial",)),
        ("C1=CCCCC1", ("half-chair",)),
        ("CN1CCCCC1", ("chair, alkyl equatorial", "chair, alkyl axial")),
        ("c1ccccc1", ("",)),
        ("O=C1C=CC(=O)C=C1", ("flat",)),
        ("C1CC2CCC1CC2", ("",)),  # the boats of a bridged cage are no choice
    ],
)
def test_forms_of_known_rings(smiles, forms):
    found = conformers(Chem.AddHs(Chem.MolFromSmiles(smiles)))
    assert tuple(dict.fromkeys(c.form for c in found))[: len(forms)] == forms


def test_the_equatorial_methyl_is_lower_by_its_a_value():
    # 7.1 kJ/mol: the A value of methyl, as measured; MMFF94s agrees within chemical accuracy.
    equatorial, axial = conformers(Chem.AddHs(Chem.MolFromSmiles("CC1CCCCC1")))[:2]
    assert axial.energy_kj_mol - equatorial.energy_kj_mol == pytest.approx(7.1, abs=2.0)


def test_a_minimum_is_strained_by_its_own_energy(ensemble):
    for conformer in (ensemble[0], ensemble[2]):
        found = strain(conformer.mol, ensemble=ensemble)
        assert found.energy_kj_mol == pytest.approx(conformer.energy_kj_mol, abs=0.05)
        assert found.conformer_kj_mol == pytest.approx(conformer.energy_kj_mol, abs=0.05)
        assert found.shift_nm < 1e-4
        assert found.form == conformer.form


def test_strain_does_not_depend_on_place_and_orientation(ensemble):
    moved = Chem.Mol(ensemble[1].mol)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    positions = moved.GetConformer().GetPositions() @ turn + [30.0, -20.0, 5.0]
    moved.GetConformer().SetPositions(positions)
    assert strain(moved, ensemble=ensemble).energy_kj_mol == pytest.approx(
        ensemble[1].energy_kj_mol, abs=0.1
    )
    assert ring_form(moved) == ensemble[1].form


def test_a_bent_shape_is_strained_beyond_its_minimum(ensemble):
    bent = Chem.Mol(ensemble[0].mol)
    match = bent.GetSubstructMatch(Chem.MolFromSmarts("[NH2+]C(C)c:c"))
    first, second, third = match[1], match[3], match[4]
    rdMolTransforms.SetDihedralDeg(
        bent.GetConformer(), match[0], first, second, third,
        rdMolTransforms.GetDihedralDeg(bent.GetConformer(), match[0], first, second, third) + 60.0,
    )  # fmt: skip
    found = strain(bent, ensemble=ensemble)
    assert found.energy_kj_mol > found.conformer_kj_mol + 5.0
    assert 0.0 < found.shift_nm < 0.06
    assert found.best_form == ensemble[0].form


# ----------------------------------------------------------------------------- potencies


def test_potencies_keep_source_mark_and_condition():
    rows = potencies()
    assert len(rows) > 100
    known = {entry.name for entry in library()} | set(mixtures())
    for finding in rows:
        assert finding.subject in known
        assert finding.mark in MARKS
        assert finding.source
        assert finding.assay
        assert bool(finding.form) == (finding.subject in mixtures())


def test_potencies_agree_with_the_reference_row_by_row():
    reference = Path(__file__).parents[2] / "shared" / "reference" / "blockers.csv"
    if not reference.is_file():
        pytest.skip("needs the reference data beside the checkout")
    with reference.open(newline="") as file:
        given = Counter(
            (
                r["quantity"],
                r["relation"],
                r["value"],
                r["source"],
                r["mark"],
                r["note"],
                r["assay"],
            )
            for r in csv.DictReader(file)
        )
    kept = Counter(
        (f.quantity, f.relation, f.text, f.source, f.mark, f.note, f.assay) for f in potencies()
    )
    assert kept <= given


def test_potencies_of_a_ligand_include_those_of_its_racemate():
    subjects = {f.subject for f in potencies("S-ketamine")}
    assert subjects == {"S-ketamine", "ketamine"}


def test_affinities_of_the_enantiomers_are_those_of_the_paper():
    # Ebert et al. 1997, SEEN.
    found = {f.subject: f.value for f in potencies() if "Ebert" in f.source and f.quantity == "Ki"}
    assert found == {
        "S-ketamine": 0.3, "R-ketamine": 1.4, "S-norketamine": 1.7, "R-norketamine": 13.0,
    }  # fmt: skip


def test_choosing_a_state(s_ketamine):
    assert state_of(s_ketamine).name == "S-ketamine+1"
    assert state_of(s_ketamine, 0).name == "S-ketamine+0"
    with pytest.raises(LigandError, match=r"no state of charge \+2 at pH 7.4: .* \+1 and \+0"):
        state_of(s_ketamine, 2)


@pytest.mark.parametrize("charge", [0, 1])
def test_sdf_round_trip(s_ketamine, tmp_path, charge):
    state = state_of(s_ketamine, charge)
    path = tmp_path / "ligand.sdf"
    write_ligand(state, path)
    read = read_ligand_sdf(path)
    assert names(read) == names(state.mol)
    assert Chem.GetFormalCharge(read) == charge
    assert Chem.MolToSmiles(Chem.RemoveHs(read)) == state.smiles
    np.testing.assert_allclose(
        read.GetConformer().GetPositions(), state.mol.GetConformer().GetPositions(), atol=6e-5
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["ligand.sdf"]


def test_sdf_keeps_heavy_coordinates_in_both_states(s_ketamine, tmp_path):
    path = tmp_path / "pose.sdf"
    write_ligand(s_ketamine.states[0], path)
    expected = s_ketamine.states[0].mol.GetConformer().GetPositions()[:16]
    ligand = load_ligand(path)
    assert ligand.name == "S-ketamine"
    for state in ligand.states:
        found = state.mol.GetConformer().GetPositions()
        np.testing.assert_allclose(found[:16], expected, atol=6e-5)
        assert shown_smiles(state.mol) == state.smiles


def test_mirrored_coordinates_are_the_other_enantiomer(s_ketamine, tmp_path):
    mol = Chem.Mol(s_ketamine.states[0].mol)
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions() * [-1.0, 1.0, 1.0])
    path = tmp_path / "mirrored.sdf"
    path.write_text(Chem.MolToMolBlock(mol), encoding="utf-8")
    assert load_ligand(path).name == "R-ketamine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no ligand was given"),
        ("ketamine", "mixture of stereoisomers: choose S-ketamine or R-ketamine"),
        ("esketamin", "unknown ligand 'esketamin': the nearest in the library is S-ketamine"),
        ("quetzalcoatl", "unknown ligand 'quetzalcoatl': give a name"),
        ("CN[C@@]1(CCCCC1=O", r"extra open parentheses at character 9, '\('"),
        ("CC(=O)X", "syntax error at character 7, 'X'"),
        ("C1CC", "unclosed ring.* at character 2, '1'"),
        ("CC[1NH2]C1CC%12CC1", "unclosed ring.* at character 13, '%'"),
        ("CC(=O) N", "character 7, ' '"),
        ("CN(C)(C)(C)C", "the atom at character 2, N, has too many bonds"),
        ("c1cccc1", "alternating double bonds"),
        ("CCCN.CCCCN", "2 separate molecules, 'CCCN' and 'CCCCN': give the one that is meant"),
        ("C.CC.CCC.CCCC.CCCCC", "5 separate molecules"),
        ("[Na+].[Cl-]", "2 separate molecules, nothing but acids, bases and solvents"),
        ("[Zn+2]", "holds the metal Zn"),
        ("[Mg]", "holds the metal Mg"),
        ("CNC1(CCCCC1=O)c1ccccc1Cl", r"1 stereocentre undefined.*\(S\); .*\(R\)"),
        ("CC=CCN", r"1 stereocentre undefined.*\(E\); .*\(Z\)"),
        ("C[CH]C", r"a radical at C \(atom 2\)"),
        ("C[Pt]N", "holds the metal Pt"),
        ("C[Si](C)(C)C", "holds an atom Si"),
        ("[13CH3]N", "isotope"),
        ("*CN", r"holds an atom \*"),
        ("CC~N", "not single, double, triple or aromatic"),
        ("CNc1ccc#cc1", "into a ring"),
        ("CNC1C=C=CC1", "into a ring"),
        ("OO", "no carbon"),
        ("C" * 81, "81 heavy atoms: at most 80"),
        ("C" * 1001, "1001 characters"),
        ("nothing/here.sdf", "cannot be read: No such file"),
    ],
)
def test_bad_text_is_refused_in_one_sentence(text, message, capfd):
    with pytest.raises(LigandError, match=message) as caught:
        load_ligand(text)
    assert "\n" not in str(caught.value)
    # RDKit's own messages must not reach the user's terminal.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("ph", "seed"), [(-1.0, 1), (math.nan, 1), (7.4, -1), (7.4, 2**31)])
def test_settings_out_of_range_are_refused(ph, seed):
    with pytest.raises(LigandError, match="must lie between 0 and"):
        load_ligand("S-ketamine", ph=ph, seed=seed)


def sdf_text(mol):
    return Chem.MolToMolBlock(mol) + "$$$$\n"


def flat(mol):
    mol = Chem.Mol(mol)
    Chem.rdDepictor.Compute2DCoords(mol)
    return mol


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda mol: "", "is empty"),
        (lambda mol: "\n\n$$$$\n", "is empty"),
        (lambda mol: "this is no molecule\n", "damaged or not in SDF format"),
        (lambda mol: sdf_text(mol)[:900], "damaged or not in SDF format"),
        (lambda mol: sdf_text(mol) * 2, "holds 2 molecules"),
        (lambda mol: sdf_text(flat(mol)), "without 3-D coordinates"),
        (lambda mol: sdf_text(Chem.Mol()), "without atoms"),
        (lambda mol: b"\xff\xfe\x00\x80", "is not text"),
    ],
)
@pytest.mark.parametrize("read", [load_ligand, read_ligand_sdf])
def test_bad_files_are_refused_in_one_sentence(s_ketamine, tmp_path, content, message, read, capfd):
    path = tmp_path / "bad.sdf"
    made = content(s_ketamine.states[0].mol)
    path.write_bytes(made if isinstance(made, bytes) else made.encode())
    with pytest.raises(LigandError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_run_needs_all_hydrogens(s_ketamine, tmp_path):
    path = tmp_path / "bare.sdf"
    path.write_text(sdf_text(Chem.RemoveHs(s_ketamine.states[0].mol)), encoding="utf-8")
    with pytest.raises(LigandError, match="lacks hydrogens"):
        read_ligand_sdf(path)
    assert load_ligand(path).name == "S-ketamine"


def test_other_formats_are_refused(tmp_path):
    path = tmp_path / "ligand.pdb"
    path.write_text("HETATM\n", encoding="utf-8")
    with pytest.raises(LigandError, match=r"is not an \.sdf file"):
        load_ligand(str(path))


def test_an_unwritable_place_is_said(s_ketamine, tmp_path):
    with pytest.raises(RunStorageError, match="cannot write the ligand"):
        write_ligand(s_ketamine.states[0], tmp_path / "missing" / "ligand.sdf")


def test_the_drawing_is_an_svg_of_the_state(s_ketamine):
    root = ElementTree.fromstring(ligand_svg(s_ketamine))
    assert root.tag.endswith("svg")
    assert ligand_svg(s_ketamine) != ligand_svg(s_ketamine, charge=0)


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
def test_every_formula_is_drawn(entry):
    root = ElementTree.fromstring(formula_svg(entry.smiles, width=200, height=150))
    assert root.get("width") == "200px"
    assert len(list(root.iter())) > 3


def mutate(text, edits):
    for place, action, character in edits:
        at = place % (len(text) + 1)
        if action == "delete":
            text = text[:at] + text[at + 1 :]
        elif action == "replace":
            text = text[:at] + character + text[at + 1 :]
        elif action == "swap":
            text = text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
        else:
            text = text[:at] + character + text[at:]
    return text


def outcome(text_or_path):
    try:
        return load_ligand(text_or_path), ""
    except LigandError as error:
        return None, str(error)


def refused_by_the_command_line(text, capsys):
    """Run `nmdasim ligand` on what the loader refused; give the line that the user sees."""
    assert cli.main(["ligand", "--out", "nowhere", "--", text]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    (line,) = err.splitlines()
    return line


EDITS = st.lists(
    st.tuples(
        st.integers(0, 2000),
        st.sampled_from(["insert", "replace", "delete", "swap"]),
        st.sampled_from("CNOSPFclnos[]()=#@+-123%./\\* \x00é") | st.sampled_from(string.printable),
    ),
    min_size=1,
    max_size=4,
)


@given(text=st.text("CNOclnos[]()=#@+-123%./\\* ", max_size=30))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_text_that_looks_like_smiles_gives_no_traceback(text, capsys):
    try:
        parts = stereoisomers(text)
    except LigandError as error:
        message = str(error)
        assert "\n" not in message
        assert refused_by_the_command_line(text, capsys) == f"nmdasim: {message}"
    else:
        assert parts


@pytest.mark.slow
@given(
    base=st.sampled_from(
        [S_KETAMINE, "CNCCc1ccccc1Cl", "C1CC2CCC1CN2", "NC(N)=NCC", "CCS(=O)(=O)NCCN", "C/C=C/CN"]
    ),
    edits=EDITS,
)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_mutated_smiles_give_a_ligand_or_a_ligand_error(base, edits, capsys):
    text = mutate(base, edits)
    ligand, message = outcome(text)
    assert "\n" not in message
    if ligand is None and "\x00" not in text:
        assert refused_by_the_command_line(text, capsys) == f"nmdasim: {message}"
    if ligand is not None:
        assert all(np.isfinite(s.mol.GetConformer().GetPositions()).all() for s in ligand.states)
        assert load_ligand(ligand.smiles).inchikey == ligand.inchikey


@pytest.mark.slow
@given(edits=EDITS)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_mutated_files_give_a_ligand_or_a_ligand_error(s_ketamine, tmp_path_factory, edits, capsys):
    path = Path(tmp_path_factory.getbasetemp()) / "mutated.sdf"
    path.write_text(mutate(sdf_text(s_ketamine.states[1].mol), edits), encoding="utf-8")
    ligand, message = outcome(path)
    assert "\n" not in message
    if ligand is None:
        assert refused_by_the_command_line(str(path), capsys) == f"nmdasim: {message}"
    if ligand is not None:
        assert ligand.states[0].mol.GetNumConformers() == 1
