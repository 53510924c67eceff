import math
import string
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import Chem

from nmdasim.errors import LigandError, RunStorageError
from nmdasim.ligand import (
    find_entry,
    library,
    ligand_svg,
    load_ligand,
    read_ligand_sdf,
    state_of,
    write_ligand,
)

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


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
class TestLibrary:
    def test_labels_agree_with_the_older_algorithm(self, entry):
        # Chem.FindMolChiralCenters with the legacy code labels independently of rdCIPLabeler.
        mol = Chem.MolFromSmiles(entry.smiles)
        Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
        legacy = [atom.GetProp("_CIPCode") for atom in mol.GetAtoms() if atom.HasProp("_CIPCode")]
        assert sorted(legacy) == sorted(load_ligand(entry.name).cip.replace(",", ""))

    def test_every_name_finds_it(self, entry):
        for name in (entry.name, *entry.synonyms):
            assert find_entry(f" {name.upper()} ") == entry

    def test_its_structure_is_recognised(self, entry):
        assert load_ligand(entry.smiles).name == entry.name

    def test_coordinates_show_the_written_stereochemistry(self, entry):
        # A cage shows centres that need not be written, hence no comparison of texts.
        for state in load_ligand(entry.name).states:
            shown = Chem.MolFromSmiles(shown_smiles(state.mol))
            written = Chem.MolFromSmiles(state.smiles)
            assert shown.GetNumAtoms() == written.GetNumAtoms()
            assert shown.HasSubstructMatch(written, useChirality=True)

    def test_pka_states_its_source_and_mark(self, entry):
        assert math.isnan(entry.pka) or (entry.pka_source and entry.pka_mark)


def test_no_name_means_two_ligands():
    every = [name.casefold() for entry in library() for name in (entry.name, *entry.synonyms)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    ("name", "formula", "inchikey"),
    [
        ("S-norketamine", "C12H14ClNO", "BEQZHFIKTBVCAU"),
        ("R-norketamine", "C12H14ClNO", "BEQZHFIKTBVCAU"),
    ],
)
def test_formula_and_skeleton_agree_with_records(name, formula, inchikey):
    # reference/physchem.csv; the first block of the key does not depend on stereo.
    ligand = load_ligand(name)
    assert ligand.formula == formula
    assert ligand.inchikey.split("-")[0] == inchikey


def test_s_ketamine_is_s(s_ketamine):
    assert load_ligand(S_KETAMINE).name == "S-ketamine"
    assert s_ketamine.cip == "S"
    assert load_ligand("arketamine").cip == "R"
    assert s_ketamine.formula == "C13H16ClNO"


@given(ph=st.floats(0.0, 14.0))
@settings(max_examples=5, deadline=None)
def test_populations_follow_henderson_and_hasselbalch(ph):
    states = {state.charge: state for state in load_ligand("S-ketamine", ph=ph).states}
    ratio = states[1].population / states[0].population
    assert math.log10(ratio) == pytest.approx(7.5 - ph, abs=1e-6)
    assert states[1].population + states[0].population == pytest.approx(1.0)


def test_protonated_share_at_physiological_ph(s_ketamine):
    # reference/physchem.csv: 0.557 at pH 7.4.
    assert s_ketamine.states[0].population == pytest.approx(0.557, abs=5e-4)
    assert s_ketamine.states[0].charge == 1


@pytest.mark.parametrize("seed", range(3))
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
    first, again, other = (
        load_ligand("CCCCCNCC", seed=seed).states[0].mol.GetConformer().GetPositions()
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize(
    ("smiles", "protonated"),
    [
        ("NC(=O)CCN", "NC(=O)CC[NH3+]"),  # amide against amine
        ("CNc1ccc(CN)cc1", "CNc1ccc(C[NH3+])cc1"),  # aniline against benzylamine
        ("FCCNCCCCNC", "C[NH2+]CCCCNCCF"),  # fluoroethylamine against alkylamine
        ("CN1CCCC1c1cccnc1", None),  # an undefined centre is refused
        ("C[C@H]1CCCCN1", "C[C@H]1CCCC[NH2+]1"),
        ("OC(=O)CC[NH2+]C", "C[NH2+]CCC(=O)O"),  # given protonated
    ],
)
def test_the_most_basic_amine_is_protonated(smiles, protonated):
    if protonated is None:
        with pytest.raises(LigandError, match="1 stereocentre undefined"):
            load_ligand(smiles)
        return
    ligand = load_ligand(smiles)
    assert ligand.states[0].smiles == Chem.CanonSmiles(protonated)
    assert math.isnan(ligand.states[0].population)
    assert "unweighted" in ligand.notes[0]


def test_cages_have_no_false_stereocentres():
    memantine = load_ligand("CC12CC3CC(C)(C1)CC(N)(C3)C2")
    assert memantine.inchikey == "BUGYDGFZZOZRHP-UHFFFAOYSA-N"  # reference/physchem.csv
    assert [state.charge for state in memantine.states] == [1, 0]


def test_without_an_amine_the_given_state_is_kept():
    (state,) = load_ligand("C[N+](C)(C)CC(=O)[O-]").states
    assert (state.charge, math.isnan(state.population)) == (0, True)


def test_choosing_a_state(s_ketamine):
    assert state_of(s_ketamine).name == "S-ketamine+1"
    assert state_of(s_ketamine, 0).name == "S-ketamine+0"
    with pytest.raises(LigandError, match=r"no state of charge \+2: .* \+1 and \+0"):
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
        ("C1CC", "unclosed ring"),
        ("CC(=O) N", "character 7, ' '"),
        ("CN(C)(C)(C)C", "the atom at character 2, N, has too many bonds"),
        ("c1cccc1", "alternating double bonds"),
        ("CN[C@@]1(CCCCC1=O)c1ccccc1Cl.Cl", "2 separate molecules"),
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


EDITS = st.lists(
    st.tuples(
        st.integers(0, 2000),
        st.sampled_from(["insert", "replace", "delete", "swap"]),
        st.sampled_from("CNOSPFclnos[]()=#@+-123%./\\* \x00é") | st.sampled_from(string.printable),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@given(
    base=st.sampled_from(
        [S_KETAMINE, "CNCCc1ccccc1Cl", "C1CC2CCC1CN2", "NC(N)=NCC", "CCS(=O)(=O)NCCN", "C/C=C/CN"]
    ),
    edits=EDITS,
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_mutated_smiles_give_a_ligand_or_a_ligand_error(base, edits):
    ligand, message = outcome(mutate(base, edits))
    assert "\n" not in message
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
def test_mutated_files_give_a_ligand_or_a_ligand_error(s_ketamine, tmp_path_factory, edits):
    path = Path(tmp_path_factory.getbasetemp()) / "mutated.sdf"
    path.write_text(mutate(sdf_text(s_ketamine.states[1].mol), edits), encoding="utf-8")
    ligand, message = outcome(path)
    assert "\n" not in message
    if ligand is not None:
        assert ligand.states[0].mol.GetNumConformers() == 1
