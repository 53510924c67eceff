import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmdasim.subunits import (
    ONE_LETTER,
    RING_NAMES,
    Recognised,
    recognise_subunit,
    ring_of,
    subunits,
)

NAMES = ("GluN1", "GluN2A", "GluN2B")
# End of M3, the same in all subunits.
MOTIF = "SYTANLAAF"
# Close to GluA2, pre-M1 to the end of M3: another ionotropic glutamate receptor, with the same
# motif. Its exact letters do not matter here.
AMPA = (
    "GVFSFLDPLAYEIWMCIVFAYIGVSVVLFLVSRFSPYEWHTEEFEDGRETQSSESTNEFGIFNSLWFSLGAFMQQGCDISPRSLSGR"
    "IVGGVWWFFTLIIISSYTANLAAFLTVERMVSPIESAEDLSKQTEIAYGTLDSGSTKEFFRRSKIAVFDKMWTYMRS"
)


def letters(name, numbers):
    return {number: subunits()[name].sequence[number - 1] for number in numbers}


@pytest.mark.parametrize("name", NAMES)
def test_rings_hold_the_letters_that_name_them(name):
    subunit = subunits()[name]
    ring = {ring: subunit.sequence[number - 1] for ring, number in subunit.rings.items()}
    assert tuple(subunit.rings) == RING_NAMES
    assert (ring["asparagine"], ring["threonine"], ring["a652"]) == ("N", "T", "A")
    assert ring["hydrophobic_1"] == ("V" if name == "GluN1" else "L")
    assert ring["vivi"] == ("V" if name == "GluN1" else "I")


@pytest.mark.parametrize("name", NAMES)
def test_rings_lie_on_the_gate_motif(name):
    subunit = subunits()[name]
    start = subunit.sequence.index(MOTIF) + 1
    assert subunit.sequence.count(MOTIF) == 1
    assert subunit.rings["threonine"] == start + MOTIF.index("T")
    assert subunit.rings["a652"] == start + MOTIF.rindex("AA")


@pytest.mark.parametrize("name", NAMES)
def test_segments_are_in_order_and_hold_their_rings(name):
    subunit = subunits()[name]
    order = [subunit.segments[segment] for segment in ("m1", "m2", "m2_m3", "m3", "m4")]
    for before, after in itertools.pairwise(order):
        assert before.stop <= after.start
    assert subunit.rings["asparagine"] in subunit.segments["m2"]
    for ring in RING_NAMES[1:]:
        assert subunit.rings[ring] in subunit.segments["m3"]


@given(
    name=st.sampled_from(NAMES),
    shift=st.integers(-100, 100),
    first=st.integers(530, 600),
    kept=st.integers(40, 200),
    seed=st.randoms(use_true_random=False),
)
@settings(max_examples=30, deadline=None)
def test_a_chain_is_recognised_with_gaps_and_a_shift(name, shift, first, kept, seed):
    length = len(subunits()[name].sequence)
    numbers = seed.sample(range(first, length + 1), min(kept, length + 1 - first))
    shifted = {number - shift: letter for number, letter in letters(name, numbers).items()}
    assert recognise_subunit(shifted) == Recognised(subunit=name, shift=shift, identity=1.0)


@given(st.permutations(range(560, 660)))
@settings(max_examples=5, deadline=None)
def test_order_of_the_residues_does_not_matter(numbers):
    recognised = recognise_subunit(letters("GluN2B", numbers))
    assert (recognised.subunit, recognised.shift) == ("GluN2B", 0)


@pytest.mark.parametrize(("name", "other"), [("GluN2A", "GluN2B"), ("GluN2B", "GluN2A")])
def test_a_few_mutations_do_not_hide_the_subunit(name, other):
    chain = letters(name, range(400, 840))
    for number in range(405, 840, 40):
        chain[number] = "W" if chain[number] != "W" else "A"
    recognised = recognise_subunit(chain)
    assert recognised.subunit == name
    assert recognised.identity == pytest.approx(1 - 11 / 440)


def test_another_glutamate_receptor_is_not_taken():
    assert recognise_subunit(dict(enumerate(AMPA, start=550))) is None


def test_a_handful_of_residues_is_not_enough():
    assert recognise_subunit(letters("GluN1", range(640, 651))) is None
    assert recognise_subunit(letters("GluN1", range(640, 652))) is not None


@pytest.mark.parametrize("name", NAMES)
def test_ring_of_inverts_the_table(name):
    for ring, number in subunits()[name].rings.items():
        assert ring_of(name, number) == ring
    assert ring_of(name, subunits()[name].rings["vivi"] + 1) is None


def test_every_form_of_a_residue_has_its_letter():
    assert {ONE_LETTER[name] for name in ("HIS", "HID", "HIE", "HIP", "HSD")} == {"H"}
    assert len({letter for name, letter in ONE_LETTER.items()}) == 20
