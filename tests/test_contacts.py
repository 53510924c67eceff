import dataclasses
import io
import itertools
import json
import math
from pathlib import Path

import gemmi
import mdtraj as md
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prolif_frames import make_frames, read_residues
from rdkit import Chem
from scipy.spatial.transform import Rotation

from nmdasim.contacts import (
    INTERACTION_TYPES,
    PLIP,
    PROLIF,
    REGIONS,
    ResidueRegions,
    StoredInteractions,
    contact_lifetimes,
    contact_lifetimes_table,
    contact_occupancies,
    contacts_by_frame_table,
    contacts_table,
    find_interactions,
    interaction_sites,
    interactions,
    merge_interactions,
    regions_table,
    residue_regions,
    ring_contacts_table,
    ring_occupancies,
    store,
)
from nmdasim.errors import SelectionError, StatisticsError, TrajectoryError
from nmdasim.pore import to_pore
from nmdasim.subunits import subunits
from nmdasim.trajectory import pore_frame

SHARED = Path(__file__).parents[2] / "shared"
DATA = Path(__file__).parent / "data"
ORACLES = SHARED / "reference" / "oracles"

# Just inside and just outside a threshold: 0.0005 nm, half a degree.
STEP_NM = 5e-4
STEP_DEG = 0.5

# Types that a complex of protein and organic molecule without water can show.
DRY = tuple(k for k in INTERACTION_TYPES if k not in ("water bridge", "metal coordination"))

PHE = ("CG", "CD1", "CE1", "CZ", "CE2", "CD2")


def hexagon(centre=(0.0, 0.0, 0.0), normal=(0.0, 0.0, 1.0), radius=0.139):
    """Six corners of a ring about a centre, perpendicular to a normal, nm."""
    n = np.array(normal) / np.linalg.norm(normal)
    a = np.cross(n, [1.0, 0.0, 0.0] if abs(n[0]) < 0.9 else [0.0, 1.0, 0.0])
    a /= np.linalg.norm(a)
    angles = np.arange(6) * math.pi / 3.0
    return np.array(centre) + radius * (
        np.cos(angles)[:, None] * a + np.sin(angles)[:, None] * np.cross(n, a)
    )


def scene(ligand, ligand_xyz, residues):
    """One frame of residues [(name, {atom: place})], chain A from number 1, and a ligand."""
    topology = md.Topology()
    chain = topology.add_chain("A")
    places = []
    for number, (name, atoms) in enumerate(residues, start=1):
        residue = topology.add_residue(name, chain, resSeq=number)
        for atom, place in atoms.items():
            topology.add_atom(atom, md.element.get_by_symbol(atom[0]), residue)
            places.append(place)
    first = len(places)
    residue = topology.add_residue("LIG", topology.add_chain("L"), resSeq=1)
    for atom in ligand.GetAtoms():
        topology.add_atom(
            f"{atom.GetSymbol()}{atom.GetIdx()}",
            md.element.get_by_symbol(atom.GetSymbol()),
            residue,
        )
    places.extend(ligand_xyz)
    return (
        md.Trajectory(np.array([places], dtype=np.float32), topology),
        np.arange(first, len(places)),
    )


def kinds(ligand, ligand_xyz, residues, thresholds):
    """Types of contact in a scene, without the close contact, and their distances in nm."""
    frame, atoms = scene(ligand, ligand_xyz, residues)
    found = interactions(frame, ligand=ligand, ligand_atoms=atoms, thresholds=thresholds)
    return {
        found.types[kind]: float(distance)
        for kind, distance in zip(found.type, found.distance, strict=True)
        if found.types[kind] != "close contact"
    }


def molecule(smiles, *, hydrogens=False):
    mol = Chem.MolFromSmiles(smiles)
    return Chem.AddHs(mol) if hydrogens else mol


# What the two programs publish, kept apart from the module's own numbers.
PUBLISHED_NM = {
    ("PLIP", "hydrophobic"): 0.40,
    ("ProLIF", "hydrophobic"): 0.45,
    ("PLIP", "salt bridge"): 0.55,
    ("ProLIF", "salt bridge"): 0.45,
}

BOTH = pytest.mark.parametrize("thresholds", [PLIP, PROLIF], ids=lambda t: t.name)


# --- Each type on either side of its thresholds -------------------------------------------------


@pytest.mark.parametrize("distance", [0.45 - STEP_NM, 0.45 + STEP_NM])
def test_close_contact_is_the_nearest_heavy_pair_within_its_limit(distance):
    frame, atoms = scene(
        molecule("C"), [(distance, 0, 0)], [("GLY", {"CA": (0, 0, 0), "HA2": (0.1, 0, 0)})]
    )
    found = interactions(frame, ligand=molecule("C"), ligand_atoms=atoms)
    assert found.nearest[0, 0] == pytest.approx(distance, abs=1e-5)
    assert found.occupied[0, 0, found.types.index("close contact")] == (distance <= 0.45)


@BOTH
@pytest.mark.parametrize("step", [-STEP_NM, STEP_NM])
def test_hydrophobic_contact_up_to_its_distance(thresholds, step):
    # A quaternary carbon and a CH2 are hydrophobic under both rules.
    carbon = molecule("CC(C)(C)C")
    away = [(2.0, 0, 0), (2.0, 0.1, 0), (2.0, 0, 0.1), (2.0, -0.1, 0)]
    distance = PUBLISHED_NM[thresholds.name, "hydrophobic"] + step
    xyz = [away[0], (distance, 0, 0), *away[1:]]
    full = {"CG": (0, 0, 0), "CB": (-1.0, 0, 0), "CD1": (-1.0, 0.1, 0), "CD2": (-1.0, 0, 0.1)}
    found = kinds(carbon, xyz, [("LEU", full)], thresholds)
    assert found == ({"hydrophobic": pytest.approx(distance, abs=1e-5)} if step < 0 else {})


@pytest.mark.parametrize(("thresholds", "held"), [(PLIP, True), (PROLIF, False)])
def test_methyl_carbons_are_hydrophobic_for_plip_alone(thresholds, held):
    residue = ("ALA", {"CA": (-0.15, 0, 0), "CB": (0, 0, 0)})
    found = kinds(molecule("c1ccccc1"), hexagon((0.37, 0, 0), (1, 0, 0)), [residue], thresholds)
    assert ("hydrophobic" in found) == held


@BOTH
def test_carbon_beside_oxygen_is_not_hydrophobic(thresholds):
    residue = ("SER", {"CA": (-0.15, 0, 0), "CB": (0, 0, 0), "OG": (-0.1, 0.1, 0)})
    found = kinds(molecule("c1ccccc1"), hexagon((0.37, 0, 0), (1, 0, 0)), [residue], thresholds)
    assert "hydrophobic" not in found


@BOTH
@pytest.mark.parametrize("step", [-STEP_NM, STEP_NM])
@pytest.mark.parametrize("positive", ["ligand", "protein"])
def test_salt_bridge_up_to_its_distance(thresholds, step, positive):
    distance = PUBLISHED_NM[thresholds.name, "salt bridge"] + step
    if positive == "ligand":
        # Both oxygens as far away as their centre, so that the two rules agree.
        height = math.sqrt(distance**2 - 0.11**2) if thresholds is PROLIF else distance
        residue = ("ASP", {"CG": (-0.1, 0, 0), "OD1": (0, 0.11, 0), "OD2": (0, -0.11, 0)})
        found = kinds(molecule("[NH4+]"), [(height, 0, 0)], [residue], thresholds)
    else:
        residue = ("LYS", {"CE": (-0.15, 0, 0), "NZ": (0, 0, 0)})
        found = kinds(molecule("[OH-]"), [(distance, 0, 0)], [residue], thresholds)
    held = {"salt bridge": pytest.approx(distance, abs=1e-5)} if step < 0 else {}
    assert {k: v for k, v in found.items() if k == "salt bridge"} == held


@BOTH
def test_like_charges_form_no_salt_bridge(thresholds):
    residue = ("LYS", {"NZ": (0, 0, 0)})
    assert kinds(molecule("[NH4+]"), [(0.3, 0, 0)], [residue], thresholds) == {}


@pytest.mark.parametrize(
    ("name", "extra"), [("ASH", {}), ("ASP", {"HD2": (0.05, -0.2, 0)})], ids=["name", "hydrogen"]
)
def test_protonated_aspartate_carries_no_charge(name, extra):
    residue = (name, {"CG": (-0.1, 0, 0), "OD1": (0, 0.1, 0), "OD2": (0, -0.1, 0), **extra})
    found = kinds(molecule("[NH4+]"), [(0.3, 0, 0)], [residue], PLIP)
    assert "salt bridge" not in found


@pytest.mark.parametrize(
    ("name", "hydrogens", "held"),
    [
        ("HIP", {}, True),
        ("HSP", {}, True),
        ("HIS", {}, False),
        ("HIS", {"HD1": (0, 0.2, 0), "HE2": (0, -0.2, 0)}, True),
        ("HIE", {"HE2": (0, -0.2, 0)}, False),
        ("HSD", {"HD1": (0, 0.2, 0)}, False),
    ],
)
def test_histidine_is_charged_by_name_or_hydrogens(name, hydrogens, held):
    residue = (name, {"ND1": (0, 0.1, 0), "NE2": (0, -0.1, 0), **hydrogens})
    found = kinds(molecule("[OH-]"), [(0.35, 0, 0)], [residue], PLIP)
    assert ("salt bridge" in found) == held


def test_ends_of_a_chain_are_charged():
    start = ("ALA", {"N": (0, 0, 0), "H1": (0.1, 0, 0), "H2": (0, 0.1, 0), "H3": (0, 0, 0.1)})
    end = ("ALA", {"C": (0.1, 0, 0), "O": (0, 0.11, 0), "OXT": (0, -0.11, 0)})
    assert "salt bridge" in kinds(molecule("[OH-]"), [(0.3, 0.3, 0)], [start], PLIP)
    assert "salt bridge" in kinds(molecule("[NH4+]"), [(-0.4, 0, 0)], [end], PLIP)


CATION_PI = [
    (PLIP, (0, 0, 0.60 - STEP_NM), True),
    (PLIP, (0, 0, 0.60 + STEP_NM), False),
    (PLIP, (0.20 - STEP_NM, 0, 0.4), True),
    (PLIP, (0.20 + STEP_NM, 0, 0.4), False),
    (PROLIF, (0, 0, 0.45 - STEP_NM), True),
    (PROLIF, (0, 0, 0.45 + STEP_NM), False),
    (PROLIF, (0.4 * math.sin(math.radians(29.5)), 0, 0.4 * math.cos(math.radians(29.5))), True),
    (PROLIF, (0.4 * math.sin(math.radians(30.5)), 0, 0.4 * math.cos(math.radians(30.5))), False),
]


@pytest.mark.parametrize(("thresholds", "place", "held"), CATION_PI)
@pytest.mark.parametrize("cation", ["ligand", "protein"])
def test_cation_pi_within_distance_and_above_the_ring(thresholds, place, held, cation):
    if cation == "ligand":
        residue = ("PHE", dict(zip(PHE, hexagon(), strict=True)))
        found = kinds(molecule("[NH4+]"), [place], [residue], thresholds)
    else:
        found = kinds(molecule("c1ccccc1"), hexagon(), [("LYS", {"NZ": place})], thresholds)
    expected = {"cation-pi": pytest.approx(np.linalg.norm(place), abs=1e-5)} if held else {}
    assert {k: v for k, v in found.items() if k == "cation-pi"} == expected


def turned(degrees):
    return (math.sin(math.radians(degrees)), 0.0, math.cos(math.radians(degrees)))


STACKS = [
    # Face to face: distance, angle of the planes, offset.
    (PLIP, (0, 0, 0.55 - STEP_NM), turned(0), True),
    (PLIP, (0, 0, 0.55 + STEP_NM), turned(0), False),
    (PLIP, (0, 0, 0.4), turned(30 - STEP_DEG), True),
    (PLIP, (0, 0, 0.4), turned(30 + STEP_DEG), False),
    (PLIP, (0.20 - STEP_NM, 0, 0.4), turned(0), True),
    (PLIP, (0.20 + STEP_NM, 0, 0.4), turned(0), False),
    (PROLIF, (0, 0, 0.55 - STEP_NM), turned(0), True),
    (PROLIF, (0, 0, 0.55 + STEP_NM), turned(0), False),
    (PROLIF, (0, 0, 0.4), turned(35 - STEP_DEG), True),
    (PROLIF, (0, 0, 0.4), turned(35 + STEP_DEG), False),
    (PROLIF, tuple(0.45 * np.array(turned(33 - STEP_DEG))), turned(0), True),
    (PROLIF, tuple(0.45 * np.array(turned(33 + STEP_DEG))), turned(0), False),
    # Edge to face.
    (PLIP, (0, 0, 0.5), turned(90), True),
    (PLIP, (0, 0, 0.5), turned(60 + STEP_DEG), True),
    (PLIP, (0, 0, 0.5), turned(60 - STEP_DEG), False),
    (PLIP, (0, 0, 0.55 + STEP_NM), turned(90), False),
    (PROLIF, (0, 0, 0.65 - STEP_NM), turned(90), True),
    (PROLIF, (0, 0, 0.65 + STEP_NM), turned(90), False),
    (PROLIF, (0, 0, 0.5), turned(45), False),
    (PROLIF, (-0.21, 0, 0.4), turned(50 + STEP_DEG), True),
    (PROLIF, (-0.21, 0, 0.4), turned(50 - STEP_DEG), False),
    (PROLIF, tuple(0.29 * np.array(turned(30 - STEP_DEG))), turned(90), True),
    (PROLIF, tuple(0.29 * np.array(turned(30 + STEP_DEG))), turned(90), False),
    # The planes meet on the axis of the first ring, 0.15 nm * tan away from its centre.
    (PROLIF, (0.15 - STEP_NM, 0, 0.5), turned(90), True),
    (PROLIF, (0.15 + STEP_NM, 0, 0.5), turned(90), False),
]


@pytest.mark.parametrize(("thresholds", "centre", "normal", "held"), STACKS)
@pytest.mark.parametrize("swap", [False, True], ids=["ligand first", "protein first"])
def test_stacking_within_distance_angle_and_offset(thresholds, centre, normal, held, swap):
    ours, theirs = hexagon(), hexagon(centre, normal)
    if swap:
        ours, theirs = theirs, ours
    residue = ("PHE", dict(zip(PHE, theirs, strict=True)))
    found = kinds(molecule("c1ccccc1"), ours, [residue], thresholds)
    expected = {"pi-stacking": pytest.approx(np.linalg.norm(centre), abs=1e-5)} if held else {}
    assert {k: v for k, v in found.items() if k == "pi-stacking"} == expected


def bent(distance, degrees, *, donor_hydrogen=0.1):
    """Hydrogen and acceptor of a donor at the origin: donor-acceptor distance, D-H-A angle."""
    angle = math.radians(degrees)
    # Law of cosines for the hydrogen-acceptor distance.
    half = donor_hydrogen * math.cos(angle)
    reach = half + math.sqrt(half**2 + distance**2 - donor_hydrogen**2)
    hydrogen = np.array([donor_hydrogen, 0.0, 0.0])
    acceptor = hydrogen + reach * np.array([-math.cos(angle), math.sin(angle), 0.0])
    return hydrogen, acceptor


BONDS = [
    (PLIP, 0.41 - STEP_NM, 170.0, True),
    (PLIP, 0.41 + STEP_NM, 170.0, False),
    (PLIP, 0.30, 100.0 + STEP_DEG, True),
    (PLIP, 0.30, 100.0 - STEP_DEG, False),
    (PROLIF, 0.35 - STEP_NM, 170.0, True),
    (PROLIF, 0.35 + STEP_NM, 170.0, False),
    (PROLIF, 0.30, 130.0 + STEP_DEG, True),
    (PROLIF, 0.30, 130.0 - STEP_DEG, False),
]


@pytest.mark.parametrize(("thresholds", "distance", "angle", "held"), BONDS)
def test_hydrogen_bond_given_by_the_ligand(thresholds, distance, angle, held):
    ammonium = molecule("[NH4+]", hydrogens=True)
    hydrogen, acceptor = bent(distance, angle)
    away = [(-0.1, 0, 0), (0, -0.1, 0), (-0.05, -0.05, 0.05)]
    # The amide hydrogen shows that the protein has hydrogens.
    amide = {"N": acceptor + np.array([0, 1.2, 0]), "H": acceptor + np.array([0, 1.3, 0])}
    residue = ("GLY", {"O": acceptor, **amide})
    found = kinds(ammonium, [(0, 0, 0), hydrogen, *away], [residue], thresholds)
    expected = {"hydrogen bond": pytest.approx(distance, abs=1e-5)} if held else {}
    assert {k: v for k, v in found.items() if k == "hydrogen bond"} == expected


@pytest.mark.parametrize(("thresholds", "distance", "angle", "held"), BONDS)
@pytest.mark.parametrize("name", ["HG", "HG1"], ids=["Amber", "CHARMM"])
def test_hydrogen_bond_taken_by_the_ligand(thresholds, distance, angle, held, name):
    formaldehyde = molecule("C=O", hydrogens=True)
    hydrogen, acceptor = bent(distance, angle)
    away = acceptor + np.array([[0, 0.12, 0], [0.1, 0.2, 0], [-0.1, 0.2, 0]])
    residue = ("SER", {"OG": (0, 0, 0), name: hydrogen})
    found = kinds(formaldehyde, [away[0], acceptor, *away[1:]], [residue], thresholds)
    expected = {"hydrogen bond": pytest.approx(distance, abs=1e-5)} if held else {}
    assert {k: v for k, v in found.items() if k == "hydrogen bond"} == expected


def test_without_hydrogens_the_hydrogen_bond_is_left_out_of_the_types():
    frame, atoms = scene(molecule("C=O"), [(0.4, 0, 0), (0.3, 0, 0)], [("SER", {"OG": (0, 0, 0)})])
    found = interactions(frame, ligand=molecule("C=O"), ligand_atoms=atoms)
    assert found.types == DRY[1:]
    assert found.occupied[0, 0, found.types.index("close contact")]


def chloride(distance, at_halogen, at_acceptor):
    """Chloromethane before a carbonyl: places of C and Cl, of the carbonyl's O and C, nm."""
    a, b = math.radians(at_halogen), math.radians(at_acceptor)
    carbon = 0.177 * np.array([math.cos(a), math.sin(a), 0.0])
    oxygen = np.array([distance, 0.0, 0.0])
    root = oxygen + 0.123 * np.array([-math.cos(b), math.sin(b), 0.0])
    return [carbon, (0, 0, 0)], {"O": oxygen, "C": root}


HALOGENS = [
    (PLIP, 0.40 - STEP_NM, 165, 120, True),
    (PLIP, 0.40 + STEP_NM, 165, 120, False),
    (PLIP, 0.33, 135 + STEP_DEG, 120, True),
    (PLIP, 0.33, 135 - STEP_DEG, 120, False),
    (PLIP, 0.33, 165, 150 - STEP_DEG, True),
    (PLIP, 0.33, 165, 150 + STEP_DEG, False),
    (PLIP, 0.33, 165, 90 + STEP_DEG, True),
    (PLIP, 0.33, 165, 90 - STEP_DEG, False),
    (PROLIF, 0.35 - STEP_NM, 165, 120, True),
    (PROLIF, 0.35 + STEP_NM, 165, 120, False),
    (PROLIF, 0.33, 130 + STEP_DEG, 120, True),
    (PROLIF, 0.33, 130 - STEP_DEG, 120, False),
    (PROLIF, 0.33, 165, 140 - STEP_DEG, True),
    (PROLIF, 0.33, 165, 140 + STEP_DEG, False),
    (PROLIF, 0.33, 165, 80 + STEP_DEG, True),
    (PROLIF, 0.33, 165, 80 - STEP_DEG, False),
]


@pytest.mark.parametrize(("thresholds", "distance", "donor", "acceptor", "held"), HALOGENS)
def test_halogen_bond_within_distance_and_both_angles(thresholds, distance, donor, acceptor, held):
    ligand_xyz, carbonyl = chloride(distance, donor, acceptor)
    found = kinds(molecule("CCl"), ligand_xyz, [("GLY", carbonyl)], thresholds)
    expected = {"halogen": pytest.approx(distance, abs=1e-5)} if held else {}
    assert {k: v for k, v in found.items() if k == "halogen"} == expected


def test_fluorine_is_no_halogen_donor():
    ligand_xyz, carbonyl = chloride(0.3, 165, 120)
    assert "halogen" not in kinds(molecule("CF"), ligand_xyz, [("GLY", carbonyl)], PLIP)


# --- Water bridges and metal ions ---------------------------------------------------------------


def bridge(distance, theta, omega, *, leg=0.3, ligand="C=O"):
    """Amide of a residue, its hydrogen, a water and the ligand's acceptor.

    `distance` is that of the donor from the water, `theta` the angle at the hydrogen, `omega`
    that at the water between acceptor and hydrogen; `leg` is the distance of the acceptor.
    """
    hydrogen, water = bent(distance, theta)
    to_hydrogen = (hydrogen - water) / np.linalg.norm(hydrogen - water)
    across = np.cross(to_hydrogen, [0.0, 0.0, 1.0])
    angle = math.radians(omega)
    line = math.cos(angle) * to_hydrogen - math.sin(angle) * across
    acceptor = water + leg * line
    away = acceptor + 0.122 * line
    mol = molecule(ligand, hydrogens=True)
    rest = away + np.array([[0.05, 0.1, 0.0], [0.05, -0.1, 0.0]])
    frame, atoms = scene(mol, [away, acceptor, *rest], [("GLY", {"N": (0, 0, 0), "H": hydrogen})])
    sites = {
        t.name: interaction_sites(frame.topology, ligand=mol, ligand_atoms=atoms, thresholds=t)
        for t in (PLIP, PROLIF)
    }
    return frame, sites, water


BRIDGES = [
    (PLIP, 0.41 - STEP_NM, 160, 110, 0.3, True),
    (PLIP, 0.41 + STEP_NM, 160, 110, 0.3, False),
    (PLIP, 0.25 + STEP_NM, 160, 110, 0.3, True),
    (PLIP, 0.25 - STEP_NM, 160, 110, 0.3, False),
    (PLIP, 0.3, 160, 110, 0.41 - STEP_NM, True),
    (PLIP, 0.3, 160, 110, 0.41 + STEP_NM, False),
    (PLIP, 0.3, 160, 110, 0.25 - STEP_NM, False),
    (PLIP, 0.3, 100 + STEP_DEG, 110, 0.3, True),
    (PLIP, 0.3, 100 - STEP_DEG, 110, 0.3, False),
    (PLIP, 0.3, 160, 71 + STEP_DEG, 0.3, True),
    (PLIP, 0.3, 160, 71 - STEP_DEG, 0.3, False),
    (PLIP, 0.3, 160, 140 - STEP_DEG, 0.3, True),
    (PLIP, 0.3, 160, 140 + STEP_DEG, 0.3, False),
    (PROLIF, 0.35 - STEP_NM, 160, 160, 0.3, True),
    (PROLIF, 0.35 + STEP_NM, 160, 110, 0.3, False),
    (PROLIF, 0.3, 130 + STEP_DEG, 110, 0.3, True),
    (PROLIF, 0.3, 130 - STEP_DEG, 110, 0.3, False),
    (PROLIF, 0.3, 160, 110, 0.35 - STEP_NM, True),
    (PROLIF, 0.3, 160, 110, 0.35 + STEP_NM, False),
]


@pytest.mark.parametrize(("thresholds", "distance", "theta", "omega", "leg", "held"), BRIDGES)
def test_water_bridge_within_both_distances_and_both_angles(
    thresholds, distance, theta, omega, leg, held
):
    frame, sites, water = bridge(distance, theta, omega, leg=leg)
    found = find_interactions(frame, sites=sites[thresholds.name], water=water[None, None])
    length = found.distances[0, :, found.types.index("water bridge")]
    expected = [distance + leg] if held else []
    assert length[~np.isnan(length)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("towards", "held"), [(1.0, True), (-1.0, False)])
def test_hydrogens_of_the_water_count_for_prolif_alone(towards, held):
    frame, sites, water = bridge(0.3, 160, 110)
    acceptor = frame.xyz[0, 3]
    line = towards * 0.096 * (acceptor - water) / np.linalg.norm(acceptor - water)
    hydrogens = np.stack([water + line, water + line])[None, None]
    for name, expected in (("ProLIF", held), ("PLIP", True)):
        found = find_interactions(
            frame, sites=sites[name], water=water[None, None], water_hydrogens=hydrogens
        )
        assert found.occupied[0, :, found.types.index("water bridge")].any() == expected


def test_a_water_bridges_two_acceptors_at_most_those_with_the_best_angles():
    # One donor of the ligand, three carbonyls around one water at 110, 105 and 80 degrees.
    ammonium = molecule("[NH4+]", hydrogens=True)
    ligand_xyz = [(-0.3, 0, 0), (-0.2, 0, 0), (-0.35, 0.08, 0), (-0.35, -0.08, 0), (-0.33, 0, 0.1)]
    angles = (110, 105, 80)
    residues = [
        ("GLY", {"O": 0.3 * np.array([-math.cos(a), math.sin(a) * c, math.sin(a) * s])})
        for a, (c, s) in zip(np.radians(angles), ((1, 0), (-1, 0), (0, 1)), strict=True)
    ]
    residues.append(("ALA", {"N": (3, 3, 3), "H": (3, 3, 3.1)}))
    frame, atoms = scene(ammonium, ligand_xyz, residues)
    water = np.zeros((1, 1, 3))
    for most, expected in ((2, {1, 2}), (1, {1}), (0, {1, 2, 3})):
        rules = dataclasses.replace(PLIP, bridges_per_water=most)
        sites = interaction_sites(
            frame.topology, ligand=ammonium, ligand_atoms=atoms, thresholds=rules
        )
        found = find_interactions(frame, sites=sites, water=water)
        held = found.occupied[0, :, found.types.index("water bridge")]
        assert {r.number for r, h in zip(found.residues, held, strict=True) if h} == expected


@pytest.mark.parametrize(("thresholds", "held"), [(PLIP, False), (PROLIF, True)])
def test_two_acceptors_are_bridged_for_prolif_alone(thresholds, held):
    mol = molecule("C=O", hydrogens=True)
    ligand_xyz = [(0.42, 0, 0), (0.3, 0, 0), (0.47, 0.1, 0), (0.47, -0.1, 0)]
    # The amide far away tells that the protein has hydrogens.
    residue = ("GLY", {"O": (-0.1, 0.28, 0), "N": (9, 9, 9), "H": (9, 9, 9.1)})
    frame, atoms = scene(mol, ligand_xyz, [residue])
    sites = interaction_sites(frame.topology, ligand=mol, ligand_atoms=atoms, thresholds=thresholds)
    found = find_interactions(frame, sites=sites, water=np.zeros((1, 1, 3)))
    assert found.occupied[0, :, found.types.index("water bridge")].any() == held


def test_water_of_a_trajectory_is_found_by_its_name():
    frame, _, water = bridge(0.3, 160, 110)
    topology = frame.topology.copy()
    residue = topology.add_residue("TIP3", topology.add_chain("W"), resSeq=1)
    topology.add_atom("OH2", md.element.oxygen, residue)
    wet = md.Trajectory(np.concatenate([frame.xyz, water[None, None]], axis=1), topology)
    mol = molecule("C=O", hydrogens=True)
    found = interactions(wet, ligand=mol, ligand_atoms=range(2, 6))
    assert found.occupied[0, :, found.types.index("water bridge")].any()
    dry = interactions(frame, ligand=mol, ligand_atoms=range(2, 6))
    assert "water bridge" not in dry.types


def test_water_of_other_frames_is_refused():
    frame, sites, water = bridge(0.3, 160, 110)
    with pytest.raises(TrajectoryError, match="got water of the shape"):
        find_interactions(frame, sites=sites["PLIP"], water=np.stack([water, water])[:, None])


MAGNESIUM = Chem.MolFromSmiles("[Mg+2]")


@pytest.mark.parametrize(
    ("thresholds", "distance", "held"),
    [
        (PLIP, 0.30 - STEP_NM, True),
        (PLIP, 0.30 + STEP_NM, False),
        (PROLIF, 0.28 - STEP_NM, True),
        (PROLIF, 0.28 + STEP_NM, False),
    ],
)
def test_metal_ion_is_held_by_the_amide_oxygen(thresholds, distance, held):
    residue = ("ASN", {"OD1": (distance, 0, 0), "CG": (distance + 0.12, 0, 0)})
    found = kinds(MAGNESIUM, [(0, 0, 0)], [residue], thresholds)
    assert found == ({"metal coordination": pytest.approx(distance, abs=1e-5)} if held else {})


def test_metal_ion_makes_a_salt_bridge_and_no_hydrogen_bond():
    acid = ("ASP", {"OD1": (0.2, 0.1, 0), "OD2": (0.2, -0.1, 0), "N": (2, 0, 0), "H": (2, 0, 0.1)})
    frame, atoms = scene(MAGNESIUM, [(0, 0, 0)], [acid])
    found = interactions(frame, ligand=MAGNESIUM, ligand_atoms=atoms)
    assert "hydrogen bond" not in found.types
    held = {found.types[kind] for kind in found.type}
    assert held == {"salt bridge", "metal coordination", "close contact"}


@pytest.mark.parametrize(("leg", "held"), [(0.21, True), (0.31, False)])
def test_hydrated_metal_ion_bridges_over_its_water(leg, held):
    residue = ("ASN", {"OD1": (0.3 * math.cos(1.9), 0.3 * math.sin(1.9), 0)})
    frame, atoms = scene(MAGNESIUM, [(leg, 0, 0)], [residue])
    sites = interaction_sites(frame.topology, ligand=MAGNESIUM, ligand_atoms=atoms)
    found = find_interactions(frame, sites=sites, water=np.zeros((1, 1, 3)))
    assert found.occupied[0, :, found.types.index("water bridge")].any() == held


@pytest.mark.parametrize(
    "smiles",
    [
        "C[C@@]12[NH2+][C@@H](Cc3ccccc31)c1ccccc12",
        "CC12CC3CC(C)(C1)CC([NH3+])(C3)C2",
        "C1CC[NH+](CC1)C1(CCCCC1)c1ccccc1",
        "CC[NH2+]C1(CCCCC1=O)c1cccc(OC)c1",
        "[NH3+]C1(CCCC(O)C1=O)c1ccccc1Cl",
    ],
)
@BOTH
def test_other_blockers_are_typed_and_touch_the_site(complex_, smiles, thresholds):
    frame, _, ligand = complex_
    mol = molecule(smiles, hydrogens=True)
    pocket = frame.atom_slice(np.setdiff1d(np.arange(frame.n_atoms), ligand))
    topology = pocket.topology.copy()
    residue = topology.add_residue("LIG", topology.add_chain("L"), resSeq=1)
    for atom in mol.GetAtoms():
        element = md.element.get_by_symbol(atom.GetSymbol())
        topology.add_atom(f"X{atom.GetIdx()}", element, residue)
    place = np.resize(frame.xyz[0, ligand], (mol.GetNumAtoms(), 3))
    moved = md.Trajectory(np.concatenate([pocket.xyz, place[None]], axis=1), topology)
    atoms = np.arange(pocket.n_atoms, moved.n_atoms)
    found = interactions(moved, ligand=mol, ligand_atoms=atoms, thresholds=thresholds)
    assert residues_of(found, "hydrophobic")
    assert found.types == DRY


# --- Names of the common force fields -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "charged"),
    [
        ("ASP", True), ("NASP", True), ("CASP", True), ("ASH", False), ("ASPP", False),
        ("ASPH", False), ("GLU", True), ("CGLU", True), ("GLH", False), ("GLUP", False),
        ("GLUH", False),
    ],
)  # fmt: skip
def test_acids_are_charged_by_their_names(name, charged):
    ends = ("OD1", "OD2") if "AS" in name else ("OE1", "OE2")
    residue = (name, dict(zip(ends, [(0, 0.1, 0), (0, -0.1, 0)], strict=True)))
    found = kinds(molecule("[NH4+]"), [(0.3, 0, 0)], [residue], PLIP)
    assert ("salt bridge" in found) == charged


@pytest.mark.parametrize(
    ("name", "charged"),
    [
        ("LYS", True), ("NLYS", True), ("LYN", False), ("LSN", False), ("LYSH", True),
        ("ARG", True), ("CARG", True), ("ARN", False), ("ARGN", False), ("HIP", True),
        ("NHIP", True), ("HSP", True), ("HISH", True), ("HIS", False), ("HID", False),
        ("HIE", False), ("HSD", False), ("HSE", False), ("HISD", False), ("HISE", False),
        ("CHIE", False), ("HISA", False), ("HISB", False),
    ],
)  # fmt: skip
def test_bases_are_charged_by_their_names(name, charged):
    atoms = {"LY": ("NZ",), "LS": ("NZ",), "AR": ("NE", "NH1", "NH2"), "HI": ("ND1", "NE2"),
             "HS": ("ND1", "NE2")}  # fmt: skip
    core = name[1:] if len(name) == 4 and name[0] in "NC" else name
    residue = (name, dict.fromkeys(atoms[core[:2]], (0, 0, 0)))
    found = kinds(molecule("[OH-]"), [(0.35, 0, 0)], [residue], PLIP)
    assert ("salt bridge" in found) == charged


@pytest.mark.parametrize("name", ["CYX", "CYS2", "CCYX"])
def test_disulfide_sulfur_is_hydrophobic_for_prolif(name):
    residue = (name, {"CB": (-0.18, 0, 0), "SG": (0, 0, 0)})
    xyz = hexagon((0.42, 0, 0), (1, 0, 0))
    assert "hydrophobic" in kinds(molecule("c1ccccc1"), xyz, [residue], PROLIF)


def test_caps_are_touched_like_residues():
    found = kinds(
        molecule("C"), [(0.35, 0, 0)], [("ACE", {"CH3": (0, 0, 0), "C": (0, 1, 0)})], PLIP
    )
    assert found == {"hydrophobic": pytest.approx(0.35, abs=1e-5)}


def test_old_hydrogen_names_are_understood():
    hydrogen, acceptor = bent(0.3, 170)
    away = acceptor + np.array([[0, 0.12, 0], [0.1, 0.2, 0], [-0.1, 0.2, 0]])
    residue = ("ASN", {"ND2": (0, 0, 0), "HD22": hydrogen})
    frame, atoms = scene(molecule("C=O", hydrogens=True), [away[0], acceptor, *away[1:]], [residue])
    frame.topology.atom(1).name = "2HD2"
    found = interactions(frame, ligand=molecule("C=O", hydrogens=True), ligand_atoms=atoms)
    assert found.occupied[0, 0, found.types.index("hydrogen bond")]


# --- The real complex ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """Membrane domain of 7EU8 with S-ketamine, its molecule and the ligand's atoms."""
    if not ORACLES.is_dir():
        pytest.skip("the reference data are not beside the checkout")
    return read_complex(
        ORACLES / "7eu8_TMD_S-ketamine_complex.pdb", ORACLES / "7eu8_TMD_S-ketamine_ligand.sdf"
    )


@pytest.fixture(scope="module")
def complex_():
    """Pocket of the same complex, which comes with the tests."""
    return read_complex(DATA / "interactions_pocket.pdb", DATA / "interactions_ligand.sdf")


def read_complex(pdb, sdf):
    frame = md.load(str(pdb))
    mol = Chem.MolFromMolFile(str(sdf), removeHs=False)
    return frame, mol, frame.topology.select("resname JC9")


@pytest.fixture(scope="module")
def noisy(complex_):
    """Pocket in 60 frames that differ by Gaussian noise of 0.02 nm."""
    frame, mol, ligand = complex_
    noise = np.random.default_rng(7).normal(0.0, 0.02, (60, frame.n_atoms, 3))
    return md.Trajectory((frame.xyz + noise).astype(np.float32), frame.topology), mol, ligand


def residues_of(found, kind):
    """Distances in Angstrom of one type by "chain:NAMEnumber", first frame."""
    column = found.distances[0, :, found.types.index(kind)]
    return {
        f"{residue.chain}:{residue.name}{residue.number}": float(distance) * 10.0
        for residue, distance in zip(found.residues, column, strict=True)
        if not math.isnan(distance)
    }


def test_nearest_distances_equal_mdtraj(whole):
    frame, mol, ligand = whole
    oracle = json.loads((ORACLES / "mdtraj_contacts.json").read_text())["distances"]
    wide = dataclasses.replace(PLIP, nearest_nm=1.0)
    found = interactions(frame, ligand=mol, ligand_atoms=ligand, thresholds=wide)
    ours = {
        f"{residue.chain}:{residue.name}{residue.number}": float(distance) * 10.0
        for residue, distance in zip(found.residues, found.nearest[0], strict=True)
    }
    # The oracle was read from an XTC: coordinates rounded to 0.01 A.
    assert {name: ours[name] for name in oracle} == pytest.approx(oracle, abs=0.012)


@pytest.mark.parametrize("kind", DRY[:-1])
def test_contacts_equal_plip(whole, kind):
    frame, mol, ligand = whole
    found = residues_of(interactions(frame, ligand=mol, ligand_atoms=ligand), kind)
    names = {"hydrophobic": "hydroph_interaction", "halogen": "halogenbond"}
    rows = [
        line.split(",") for line in (ORACLES / "7EU8_plip_interactions.csv").read_text().split()
    ]
    expected = {
        row[2]: float(row[3])
        for row in rows
        if row[0].endswith("PLIP_reprotonates") and row[1] == names.get(kind)
    }
    assert found == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("kind", DRY[:-1])
def test_contacts_equal_prolif(whole, kind):
    frame, mol, ligand = whole
    found = interactions(frame, ligand=mol, ligand_atoms=ligand, thresholds=PROLIF)
    rows = [
        line.split(",") for line in (ORACLES / "7EU8_prolif_interactions.csv").read_text().split()
    ]
    expected = {}
    for row in rows:
        if row[0].lower() == kind:
            name, chain = row[1].split(".")
            expected[f"{chain}:{name}"] = min(float(row[2]), expected.get(f"{chain}:{name}", 9.0))
    assert residues_of(found, kind) == pytest.approx(expected, abs=0.012)


@BOTH
def test_far_residues_are_screened_out_not_lost(whole, complex_, thresholds):
    one, two = (
        interactions(frame, ligand=mol, ligand_atoms=ligand, thresholds=thresholds)
        for frame, mol, ligand in (whole, complex_)
    )
    same(one, two, atol=1e-6)


def test_residues_and_distances_of_the_deposited_site():
    entry = SHARED / "structures" / "7eu8.cif"
    if not entry.exists():
        pytest.skip("the deposited entry is not beside the checkout")
    frame, mol, ligand = deposited_pocket(entry)
    found = residues_of(interactions(frame, ligand=mol, ligand_atoms=ligand), "close contact")
    rows = [
        line.split(",") for line in (SHARED / "reference" / "site_7eu8.csv").read_text().split()[1:]
    ]
    expected = {f"{row[0]}:{row[2]}{row[3]}": float(row[6]) for row in rows}
    assert found == pytest.approx(expected, abs=0.006)


def deposited_pocket(path):
    """Residues within 12 A of the deposited ligand, without hydrogens; ligand as written there."""
    model = gemmi.read_structure(str(path))[0]
    reference = Chem.MolFromMolFile(str(ORACLES / "7eu8_TMD_S-ketamine_ligand.sdf"))
    places, topology = [], md.Topology()
    ligand = next(r for chain in model for r in chain if r.name == "JC9")
    centre = np.mean([atom.pos.tolist() for atom in ligand], axis=0)
    for chain in model:
        out = topology.add_chain(chain.name)
        for residue in chain:
            xyz = np.array([atom.pos.tolist() for atom in residue])
            if residue is ligand or np.linalg.norm(xyz - centre, axis=1).min() > 12.0:
                continue
            new = topology.add_residue(residue.name, out, resSeq=residue.seqid.num)
            for atom in residue:
                topology.add_atom(atom.name, md.element.get_by_symbol(atom.element.name), new)
            places.extend(xyz)
    # The molecule's own coordinates are the deposited ones: heavy atoms are found by place.
    new = topology.add_residue("JC9", topology.add_chain("L"), resSeq=903)
    first = len(places)
    for atom, place in zip(
        reference.GetAtoms(), reference.GetConformer().GetPositions(), strict=True
    ):
        assert min(np.linalg.norm(place - a.pos.tolist()) for a in ligand) < 0.002
        topology.add_atom(atom.GetSymbol(), md.element.get_by_symbol(atom.GetSymbol()), new)
        places.append(place)
    frame = md.Trajectory(np.array([places], dtype=np.float32) / 10.0, topology)
    return frame, reference, np.arange(first, len(places))


# --- Invariances --------------------------------------------------------------------------------


def same(one, two, *, atol=1e-4):
    assert one.types == two.types
    assert [dataclasses.astuple(r)[1:] for r in one.residues] == [
        dataclasses.astuple(r)[1:] for r in two.residues
    ]
    np.testing.assert_allclose(one.nearest, two.nearest, atol=atol)
    np.testing.assert_array_equal(one.occupied, two.occupied)
    np.testing.assert_allclose(one.distances, two.distances, atol=atol)


def off_threshold(found, *, margin=2e-5):
    """Whether no distance lies so close to a limit that rounding could decide."""
    limits = np.hstack(
        [
            getattr(found.thresholds, f.name)
            for f in dataclasses.fields(found.thresholds)
            if f.name.endswith("_nm")
        ]
    )
    values = np.concatenate([found.distance, found.nearest[~np.isnan(found.nearest)]])
    return min(np.abs(values - limit).min() for limit in limits if math.isfinite(limit)) > margin


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), shift=st.floats(-5.0, 5.0))
def test_turning_and_moving_the_complex_changes_nothing(complex_, seed, shift):
    frame, mol, ligand = complex_
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    centred = frame.xyz.astype(float) - frame.xyz.mean(axis=1, keepdims=True)
    moved = md.Trajectory((centred @ rotation.T + shift).astype(np.float32), frame.topology)
    for thresholds in (PLIP, PROLIF):
        here = interactions(frame, ligand=mol, ligand_atoms=ligand, thresholds=thresholds)
        there = interactions(moved, ligand=mol, ligand_atoms=ligand, thresholds=thresholds)
        assert off_threshold(here, margin=5e-6)
        same(here, there)


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31))
def test_order_of_the_protein_atoms_changes_nothing(noisy, seed):
    frames, mol, ligand = noisy
    rng = np.random.default_rng(seed)
    order, topology = [], md.Topology()
    for chain in frames.topology.chains:
        new_chain = topology.add_chain(chain.chain_id)
        for residue in chain.residues:
            new = topology.add_residue(residue.name, new_chain, resSeq=residue.resSeq)
            atoms = list(residue.atoms)
            if residue.name != "JC9":
                rng.shuffle(atoms)
            for atom in atoms:
                topology.add_atom(atom.name, atom.element, new)
                order.append(atom.index)
    shuffled = md.Trajectory(frames.xyz[:, order], topology)
    here = interactions(frames, ligand=mol, ligand_atoms=ligand)
    there = interactions(shuffled, ligand=mol, ligand_atoms=topology.select("resname JC9"))
    same(here, there)


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.sets(st.integers(1, 59), max_size=8), thresholds=st.sampled_from([PLIP, PROLIF]))
def test_chunks_merge_to_the_whole(noisy, cuts, thresholds):
    frames, mol, ligand = noisy
    edges = [0, *sorted(cuts), len(frames)]
    chunks = (frames[a:b] for a, b in itertools.pairwise(edges))
    whole = interactions(frames, ligand=mol, ligand_atoms=ligand, thresholds=thresholds)
    joined = interactions(chunks, ligand=mol, ligand_atoms=ligand, thresholds=thresholds)
    assert joined.n_frames == len(frames)
    same(whole, joined, atol=1e-6)
    np.testing.assert_array_equal(whole.frame, joined.frame)


def test_frames_do_not_influence_each_other(noisy):
    frames, mol, ligand = noisy
    sites = interaction_sites(frames.topology, ligand=mol, ligand_atoms=ligand)
    whole = find_interactions(frames, sites=sites)
    single = merge_interactions(find_interactions(frames[i], sites=sites) for i in range(60))
    same(whole, single, atol=1e-6)


def test_ligand_far_away_touches_nothing(complex_):
    frame, mol, ligand = complex_
    away = md.Trajectory(frame.xyz.copy(), frame.topology)
    away.xyz[:, ligand] += 20.0
    found = interactions(away, ligand=mol, ligand_atoms=ligand)
    assert found.residues == ()
    assert found.occupied.shape == (1, 0, len(DRY))


def test_input_is_left_alone_and_results_are_read_only(noisy):
    frames, mol, ligand = noisy
    before = frames.xyz.copy()
    found = interactions(frames, ligand=mol, ligand_atoms=ligand)
    np.testing.assert_array_equal(frames.xyz, before)
    with pytest.raises(ValueError, match="read-only"):
        found.distance[0] = 0.0


def test_neutral_ligand_forms_no_salt_bridge_or_cation_pi(complex_):
    frame, mol, ligand = complex_
    # Nothing near the site can bind the charge within the published limits: widen them.
    wide = dataclasses.replace(PLIP, salt_bridge_nm=1.6, cation_pi_nm=1.6, cation_pi_offset_nm=2.0)
    found = interactions(frame, ligand=mol, ligand_atoms=ligand, thresholds=wide)
    assert residues_of(found, "cation-pi")
    neutral = Chem.RWMol(mol)
    neutral.GetAtomWithIdx(2).SetFormalCharge(0)
    neutral.RemoveAtom(17)
    atoms = np.delete(ligand, 17)
    found = interactions(frame, ligand=neutral.GetMol(), ligand_atoms=atoms, thresholds=wide)
    assert not residues_of(found, "cation-pi")
    assert not residues_of(found, "salt bridge")


# --- Frame by frame against what ProLIF said ----------------------------------------------------

# ProLIF takes the normal of a ring from its centre and its first two atoms, nmdasim from all; in
# rings that are bent by 0.01 nm of noise they differ by up to 10 degrees. With ProLIF's normal
# the limits of 30 degrees and 0.15 nm decide the other way in each of these frames.
BENT_RINGS = {
    "cation-pi": {(0, "ARG839.A"), (5, "TRP607.B"), (79, "HIS571.C")},
    "pi-stacking": {(4, "PHE600.B"), (97, "PHE600.B"), (111, "TRP611.C")},
}


@pytest.fixture(scope="module")
def thrown():
    """Contacts by type, with ProLIF's thresholds and with ProLIF."""
    frame, mol, ligand = read_residues()
    found = interactions(
        make_frames(frame, ligand), ligand=mol, ligand_atoms=ligand, thresholds=PROLIF
    )
    ours = {kind: set() for kind in found.types}
    for i, place, kind in zip(found.frame, found.residue, found.type, strict=True):
        residue = found.residues[place]
        name = f"{residue.name}{residue.number}.{residue.chain}"
        ours[found.types[kind]].add((int(i), name))
    recorded = json.loads((DATA / "prolif_contacts.json").read_text())
    theirs = {
        kind: {(i, residue): set(atoms) for i, residue, atoms in recorded[kind]}
        for kind in found.types
        if kind in recorded
    }
    return ours, theirs


@BOTH
@pytest.mark.parametrize("seed", [1, 2])
def test_turning_the_frames_changes_no_water_bridge(thresholds, seed):
    frame, mol, ligand = read_residues()
    frames = make_frames(frame, ligand, n_frames=30)
    turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    moved = md.Trajectory((frames.xyz @ turn.T + seed).astype(np.float32), frames.topology)
    here, there = (
        interactions(each, ligand=mol, ligand_atoms=ligand, thresholds=thresholds)
        for each in (frames, moved)
    )
    kind = here.types.index("water bridge")
    assert (here.type == kind).sum() > 5
    same(here, there, atol=1e-5)


def test_more_contacts_than_expected_are_all_kept(noisy):
    frames, mol, ligand = noisy
    wide = dataclasses.replace(PLIP, close_contact_nm=2.0, nearest_nm=2.0, hydrophobic_nm=2.0)
    found = interactions(frames[:3], ligand=mol, ligand_atoms=ligand, thresholds=wide)
    assert len(found.residues) == 60
    assert not np.isnan(found.nearest).any()
    close = found.distances[..., found.types.index("close contact")]
    np.testing.assert_array_equal(close, found.nearest)


PROLIF_KINDS = [
    kind for kind in INTERACTION_TYPES if kind not in ("metal coordination", "close contact")
]


@pytest.mark.parametrize("kind", PROLIF_KINDS)
def test_trajectory_agrees_with_prolif_but_for_what_is_explained(thrown, kind):
    ours, theirs = thrown
    mine, yours = ours[kind], theirs[kind]
    assert len(mine & yours.keys()) >= 2
    known = BENT_RINGS.get(kind, set())
    assert mine - yours.keys() <= known
    for key in yours.keys() - mine - known:
        # A residue cut from its chain no longer looks like an amide to ProLIF, so that its
        # backbone nitrogen accepts; a hydrogen is no antecedent of a halogen bond here.
        if kind == "halogen":
            assert all("-H" in atom for atom in yours[key])
        else:
            assert yours[key] == {"N"}
    assert known <= mine ^ yours.keys()


# --- Occupancies, folding and tables ------------------------------------------------------------

SUBUNITS = {"A": "GluN1", "B": "GluN2B", "C": "GluN1", "D": "GluN2B"}


def test_occupancies_are_the_means_of_the_dense_arrays(noisy):
    frames, mol, ligand = noisy
    found = interactions(frames, ligand=mol, ligand_atoms=ligand)
    rows = {(row.residue, row.type): row for row in contact_occupancies(found)}
    share = found.occupied.mean(axis=0)
    assert len(rows) == np.count_nonzero(share)
    for i, j in np.argwhere(share > 0):
        row = rows[found.residues[i], found.types[j]]
        assert row.estimate.mean == pytest.approx(share[i, j])
        distances = found.distances[:, i, j]
        assert row.mean_distance_nm == pytest.approx(np.nanmean(distances), abs=1e-6)
        assert row.min_distance_nm == pytest.approx(np.nanmin(distances))


def test_permanent_contact_is_bounded_not_certain(noisy):
    frames, mol, ligand = noisy
    rows = contact_occupancies(interactions(frames, ligand=mol, ligand_atoms=ligand))
    permanent = [row.estimate for row in rows if row.estimate.mean == 1.0]
    assert permanent
    for estimate in permanent:
        assert estimate.error >= 1.0 / (len(frames) + 1)


def test_folded_contact_is_that_of_any_copy(noisy):
    frames, mol, ligand = noisy
    found = interactions(frames, ligand=mol, ligand_atoms=ligand)
    rows = {(r.label, r.type): r for r in ring_occupancies(found, subunit_of=SUBUNITS)}
    copies = [i for i, r in enumerate(found.residues) if r.chain in "AC" and r.number == 644]
    assert len(copies) == 2
    kind = found.types.index("hydrophobic")
    expected = found.occupied[:, copies, kind].any(axis=1).mean()
    row = rows["GluN1 V644", "hydrophobic"]
    assert row.estimate.mean == pytest.approx(expected)
    assert row.ring == "hydrophobic_1"


def test_tables_have_the_columns_of_the_report(noisy):
    frames, mol, ligand = noisy
    found = interactions(frames, ligand=mol, ligand_atoms=ligand)
    status = {("D", 615): "side chain rebuilt"}
    contacts = pa.table(contacts_table(found, subunit_of=SUBUNITS, status_of=status))
    assert contacts.column_names == [
        "chain", "subunit", "number", "residue", "ring", "region", "status", "type",
        "occupancy", "occupancy_error", "mean_distance_nm", "min_distance_nm",
    ]  # fmt: skip
    rows = contacts.to_pylist()
    asparagine = next(r for r in rows if r["chain"] == "D" and r["number"] == 615)
    assert (asparagine["subunit"], asparagine["ring"]) == ("GluN2B", "asparagine")
    assert asparagine["status"] == "side chain rebuilt"
    folded = pa.table(ring_contacts_table(found, subunit_of=SUBUNITS))
    assert folded.column_names == ["ring", "residue", "type", "occupancy", "occupancy_error"]


def test_table_by_frame_counts_on_from_the_first_frame(noisy):
    frames, mol, ligand = noisy
    found = interactions(frames, ligand=mol, ligand_atoms=ligand)
    table = pa.table(contacts_by_frame_table(found, first_frame=100))
    assert table.column_names == ["frame", "chain", "number", "type", "distance_nm"]
    assert table.num_rows == found.occupied.sum()
    assert min(table["frame"].to_pylist()) == 100
    assert max(table["frame"].to_pylist()) == 159
    assert table["frame"].type == pa.int32()


# --- Lifetimes ----------------------------------------------------------------------------------


def series(*rows, chains="A", numbers=None):
    """Contacts that are there where a row says 1; one residue a row, all hydrophobic."""
    topology, chain_of = md.Topology(), {}
    places = []
    for i, row in enumerate(rows):
        letter = chains[i % len(chains)]
        if letter not in chain_of:
            chain_of[letter] = topology.add_chain(letter)
        number = numbers[i] if numbers else i + 1
        residue = topology.add_residue("VAL", chain_of[letter], resSeq=number)
        topology.add_atom("CB", md.element.carbon, residue)
        # Each near its own hydrophobic carbon of the ligand, or out of reach.
        places.append([(5.0 * i, 0.0, 0.38 if there else 0.46) for there in row])
    residue = topology.add_residue("LIG", topology.add_chain("L"), resSeq=1)
    for i in range(len(rows)):
        topology.add_atom(f"C{i}", md.element.carbon, residue)
        places.append([(5.0 * i, 0.0, 0.0)] * len(rows[0]))
    xyz = np.array(places, dtype=np.float32).transpose(1, 0, 2)
    mol = Chem.MolFromSmiles(".".join("C" * len(rows)))
    return interactions(
        md.Trajectory(xyz, topology), ligand=mol, ligand_atoms=np.arange(len(rows), 2 * len(rows))
    )


def bits(text):
    return [int(letter) for letter in text]


def lifetime_of(text, **options):
    found = [
        row
        for row in contact_lifetimes(series(bits(text)), spacing_ps=2.0, **options)
        if row.type == "hydrophobic"
    ]
    (row,) = found
    return row


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.sets(st.integers(1, 39), max_size=6), block=st.integers(1, 500), seed=st.integers(0, 9)
)
def test_contacts_on_disk_are_those_in_memory(monkeypatch, cuts, block, seed):
    """Frame by frame and in every table, whatever is written at a time."""
    rows = np.random.default_rng(seed).random((5, 40)) < [[0.0], [0.1], [0.5], [0.9], [1.0]]
    numbers = [616, 644, 647, 644, 648]
    whole = series(*rows, chains="AB", numbers=numbers)
    monkeypatch.setattr(store, "_BLOCK", block)
    stored = StoredInteractions(io.BytesIO())
    for first, after in itertools.pairwise([0, *sorted(cuts), 40]):
        stored.add(series(*rows[:, first:after], chains="AB", numbers=numbers))
    assert stored.residues == whole.residues
    assert stored.occurring() == whole.occurring()
    for place in range(len(whole.residues)):
        for here, there in zip(stored.nearest_of(place), whole.nearest_of(place), strict=True):
            np.testing.assert_array_equal(here, there)
    subunit_of = {"A": "GluN1", "B": "GluN2B"}
    regions = ResidueRegions(region_of={("A", 616): "pore-lining"}, complete=False)
    for table in (
        lambda found: contacts_table(found, subunit_of=subunit_of),
        lambda found: ring_contacts_table(found, subunit_of=subunit_of),
        lambda found: contact_lifetimes_table(found, spacing_ps=1.0, subunit_of=subunit_of),
        lambda found: regions_table(found, regions=regions, subunit_of=subunit_of),
    ):
        # By text, because nan is not equal to itself.
        assert repr(table(stored)) == repr(table(whole))


def test_stored_contacts_of_different_sites_are_refused():
    stored = StoredInteractions(io.BytesIO())
    with pytest.raises(TrajectoryError, match="no frames"):
        stored.occurring()
    chunk = series([1, 0])
    stored.add(chunk)
    with pytest.raises(SelectionError, match="types or thresholds"):
        stored.add(dataclasses.replace(chunk, thresholds=PROLIF))


@pytest.mark.parametrize(
    ("text", "gap", "episodes", "breaks", "steps", "longest"),
    [
        # Steps are from a frame in contact to the next one that was seen.
        ("0111000110", 0, 2, 2, 5, 3),
        ("1110000000", 0, 1, 1, 3, 3),  # cut off at the start
        ("0000000111", 0, 1, 0, 2, 3),  # cut off at the end
        ("1101100111", 0, 3, 2, 2 + 2 + 2, 3),
        ("1101100111", 1, 2, 1, 4 + 1 + 2, 5),
        ("1101100111", 2, 1, 0, 9, 10),
        ("0110111110", 1, 1, 0, 7, 8),  # within a gap of the end: not known to have broken
        ("0110111100", 1, 1, 1, 6 + 1, 7),
    ],
)  # fmt: skip
def test_lifetime_is_time_watched_by_breaks_seen(text, gap, episodes, breaks, steps, longest):
    row = lifetime_of(text, gap_frames=gap)
    assert (row.n_episodes, row.n_breaks) == (episodes, breaks)
    assert row.occupancy == pytest.approx(sum(bits(text)) / 10)
    assert row.longest_ps == pytest.approx(2.0 * longest)
    if breaks:
        assert row.lifetime_ps == pytest.approx(2.0 * steps / breaks)
        assert row.low_ps < row.lifetime_ps < row.high_ps
    else:
        assert math.isnan(row.lifetime_ps)
        assert row.high_ps == math.inf
        # 97.5 % upper end of no event: -ln 0.025.
        assert row.low_ps == pytest.approx(2.0 * steps / 3.6889, rel=1e-4)


def test_contact_in_the_last_frame_alone_is_not_enough_data():
    row = lifetime_of("0000000001")
    assert row.low_ps == 0.0
    assert row.note.startswith("not enough data")


def test_lifetime_near_the_spacing_is_said_to_be_a_bound():
    assert "upper bound" in lifetime_of("0101010101010").note
    assert lifetime_of("0111111111111100111111110").note == ""


def test_interval_of_the_lifetime_covers_the_truth_as_often_as_it_says():
    """A two-state process seen in windows that cut its episodes off at both ends."""
    rng, truth, covered, logs = np.random.default_rng(3), 40.0, 0, []
    for _ in range(150):
        leave, enter = 1.0 / truth, 1.0 / 30.0
        state, states = rng.random() < 0.57, []
        for jump in rng.random(600):
            states.append(int(state))
            state = state != (jump < (leave if state else enter))
        if not any(states):
            continue
        row = lifetime_of("".join(map(str, states)))
        covered += row.low_ps <= 2.0 * truth <= row.high_ps
        logs.append(math.log(row.lifetime_ps / (2.0 * truth)))
    assert 0.93 <= covered / len(logs) <= 1.0
    assert abs(np.nanmean(logs)) < 0.05


def test_lifetimes_are_folded_and_told_by_ring():
    found = series(bits("1100000000"), bits("0011000000"), chains="AC", numbers=[644, 644])
    rows = {
        (row.level, row.label): row
        for row in contact_lifetimes(found, spacing_ps=1.0, subunit_of=SUBUNITS)
        if row.type == "hydrophobic"
    }
    assert rows["residue", "VAL"].lifetime_ps == 2.0
    assert rows["folded", "GluN1 V644"].lifetime_ps == 4.0
    assert rows["folded", "GluN1 V644"].n_episodes == 1
    assert rows["ring", None].ring == "hydrophobic_1"
    assert rows["ring", None].occupancy == pytest.approx(0.4)


@settings(deadline=None, max_examples=40)
@given(states=st.lists(st.booleans(), min_size=1, max_size=60), gap=st.integers(0, 3))
def test_lifetimes_do_not_depend_on_chunks_or_on_the_swap_of_equivalent_chains(states, gap):
    row = [int(state) for state in states]
    if not any(row):
        return
    other = row[::-1]
    one, two = (
        contact_lifetimes(
            series(*pair, chains="AC", numbers=[644, 644]),
            spacing_ps=1.0, subunit_of=SUBUNITS, gap_frames=gap,
        )
        for pair in ((row, other), (other, row))
    )  # fmt: skip
    folded = [[repr(r) for r in rows if r.level != "residue"] for rows in (one, two)]
    assert folded[0] == folded[1]


def test_lifetimes_of_chunks_are_those_of_the_whole(noisy):
    frames, mol, ligand = noisy
    whole, joined = (
        interactions(part, ligand=mol, ligand_atoms=ligand)
        for part in (frames, [frames[:7], frames[7:8], frames[8:]])
    )
    one, two = (
        contact_lifetimes_table(found, spacing_ps=2.0, subunit_of=SUBUNITS)
        for found in (whole, joined)
    )
    assert pa.table(one).equals(pa.table(two)) or repr(one) == repr(two)
    assert {"residue", "folded", "ring"} == set(one["level"])


@pytest.mark.parametrize(("spacing", "gap"), [(0.0, 0), (1.0, -1)])
def test_nonsense_times_are_refused(noisy, spacing, gap):
    frames, mol, ligand = noisy
    found = interactions(frames[:2], ligand=mol, ligand_atoms=ligand)
    with pytest.raises(StatisticsError, match="must be positive and gaps cannot be negative"):
        contact_lifetimes(found, spacing_ps=spacing, gap_frames=gap)


# --- Regions ------------------------------------------------------------------------------------


def wall(*, window=False, turn=0.0):
    """Three closed tubes of carbon, one in the other; a window cuts through all of them.

    Residues are numbered as the outer helices are, so that the system counts as complete.
    """
    numbers = {
        chain: [
            number
            for name in ("m3", "m1", "m4", "m2")
            for number in subunits()[SUBUNITS[chain]].segments[name]
        ]
        for chain in "ABCD"
    }
    queue = [
        (chain, numbers[chain][place])
        for place in range(200)
        for chain in "ABCD"
        if place < len(numbers[chain])
    ]
    topology = md.Topology()
    chain_of = {letter: topology.add_chain(letter) for letter in "ABCD"}
    tube_of, places = {}, []
    for radius, rows in ((0.65, 7), (1.0, 7), (1.35, 7)):
        around = round(2 * math.pi * radius / 0.4)
        for row in range(rows):
            for i in range(around):
                angle = 2 * math.pi * (i + row / 2) / around
                xyz = np.array([radius * math.cos(angle), radius * math.sin(angle), 0.3 * row])
                if window and xyz[0] > 0 and abs(xyz[1]) < 0.4 and abs(xyz[2] - 0.9) < 0.4:
                    continue
                tube_of[queue[len(places)]] = (radius, xyz)
                places.append(xyz)
    placed = sorted(tube_of)
    for chain, number in placed:
        residue = topology.add_residue("ALA", chain_of[chain], resSeq=number)
        topology.add_atom("CA", md.element.carbon, residue)
    xyz = np.array([tube_of[key][1] for key in placed])
    c, s = math.cos(turn), math.sin(turn)
    return topology, xyz @ [[c, s, 0], [-s, c, 0], [0, 0, 1]], tube_of


INSIDE = (0.25, 1.55)


@pytest.mark.parametrize("turn", [0.0, 0.4, math.pi])
def test_tubes_within_tubes_are_lining_interior_and_facing(turn):
    topology, xyz, tube_of = wall(turn=turn)
    regions = residue_regions(topology, xyz, subunit_of=SUBUNITS)
    assert regions.complete
    expected = {0.65: "pore-lining", 1.0: "interior", 1.35: "membrane-facing"}
    for key, (radius, place) in tube_of.items():
        if INSIDE[0] < place[2] < INSIDE[1]:
            assert regions.region_of[key] == expected[radius]


def test_window_is_lined_by_the_fenestration_alone():
    topology, xyz, tube_of = wall(window=True)
    regions = residue_regions(topology, xyz, subunit_of=SUBUNITS)
    found = [tube_of[key][1] for key, kind in regions.region_of.items() if kind == "fenestration"]
    # The mouth of the tubes opens to all sides, too.
    found = [place for place in found if INSIDE[0] < place[2] < INSIDE[1]]
    assert len(found) >= 4
    assert all(place[0] > 0 and abs(place[1]) < 0.9 for place in found)
    behind = [key for key, (radius, p) in tube_of.items() if radius == 0.65 and p[0] < -0.5]
    assert {regions.region_of[key] for key in behind if 0.25 < tube_of[key][1][2] < 1.55} == {
        "pore-lining"
    }


def test_known_pore_residues_line_it_and_outer_helices_face_the_membrane(whole):
    frame, _, _ = whole
    xyz = to_pore(pore_frame(frame), frame.xyz[0])
    regions = residue_regions(frame.topology, xyz, subunit_of=SUBUNITS).region_of
    lining = {("A", 616), ("A", 644), ("A", 648), ("A", 652), ("A", 656)}
    lining |= {("B", 615), ("B", 643), ("B", 647), ("B", 651), ("B", 655)}
    assert {key for key in lining if regions[key] == "pore-lining"} == lining
    for letter, name in (("A", "m1"), ("B", "m4"), ("C", "m4"), ("D", "m1")):
        segment = subunits()[SUBUNITS[letter]].segments[name]
        here = [regions[letter, n] for n in segment if (letter, n) in regions]
        assert "pore-lining" not in here
        assert here.count("membrane-facing") > len(here) / 2


def test_without_outer_helices_only_the_lining_is_told(complex_):
    frame, mol, ligand = complex_
    xyz = frame.xyz[0] - frame.xyz[0, ligand].mean(axis=0)
    regions = residue_regions(frame.topology, xyz, subunit_of=SUBUNITS)
    assert not regions.complete
    assert set(regions.region_of.values()) == {"pore-lining"}
    found = interactions(frame, ligand=mol, ligand_atoms=ligand)
    rows = pa.table(regions_table(found, regions=regions, subunit_of=SUBUNITS)).to_pylist()
    assert [row["region"] for row in rows] == list(REGIONS)
    assert rows[0]["occupancy"] == 1.0
    for row in rows[1:]:
        assert row["occupancy"] is None
        assert row["note"].startswith("not in this system")


def test_regions_count_the_frames_in_close_contact(noisy):
    frames, mol, ligand = noisy
    found = interactions(frames, ligand=mol, ligand_atoms=ligand)
    close = found.occupied[..., found.types.index("close contact")]
    picked = [i for i, r in enumerate(found.residues) if r.number in (644, 645)]
    region_of = {(found.residues[i].chain, found.residues[i].number): "interior" for i in picked}
    regions = ResidueRegions(region_of=region_of, complete=True)
    columns = regions_table(found, regions=regions, subunit_of=SUBUNITS)
    row = next(r for r in pa.table(columns).to_pylist() if r["region"] == "interior")
    assert row["occupancy"] == pytest.approx(close[:, picked].any(axis=1).mean())
    assert row["n_residues"] == len(picked)
    assert row["residues"].startswith("GluN1 V644")


def test_structure_without_the_channel_is_refused(complex_):
    frame, _, _ = complex_
    with pytest.raises(SelectionError, match="no residue of GluN1"):
        residue_regions(frame.topology, frame.xyz[0], subunit_of={})


# --- Bad input ----------------------------------------------------------------------------------


def test_molecule_with_other_atoms_is_refused(complex_):
    frame, mol, ligand = complex_
    with pytest.raises(SelectionError, match="16 atoms and the selection 33"):
        interactions(frame, ligand=Chem.RemoveHs(mol), ligand_atoms=ligand)


def test_molecule_in_another_order_is_refused(complex_):
    frame, mol, ligand = complex_
    with pytest.raises(SelectionError, match="is O but atom 0 of the molecule is Cl"):
        interactions(frame, ligand=mol, ligand_atoms=ligand[[1, 0, *range(2, 33)]])


def test_ligand_outside_the_topology_is_refused(complex_):
    frame, mol, ligand = complex_
    with pytest.raises(SelectionError, match=f"0 to {frame.n_atoms - 1}"):
        interactions(frame, ligand=mol, ligand_atoms=ligand + 10_000)


def test_ligand_alone_is_refused(complex_):
    frame, mol, ligand = complex_
    with pytest.raises(SelectionError, match="no residue besides the ligand"):
        interactions(frame.atom_slice(ligand), ligand=mol, ligand_atoms=np.arange(33))


def test_no_frames_are_refused(complex_):
    _, mol, ligand = complex_
    with pytest.raises(TrajectoryError, match="no frames"):
        interactions([], ligand=mol, ligand_atoms=ligand)


def test_frames_of_another_system_are_refused(complex_):
    frame, mol, ligand = complex_
    sites = interaction_sites(frame.topology, ligand=mol, ligand_atoms=ligand)
    with pytest.raises(TrajectoryError, match="1 frames of 33 atoms"):
        find_interactions(frame.atom_slice(ligand), sites=sites)


def test_broken_coordinates_are_refused(complex_):
    frame, mol, ligand = complex_
    broken = md.Trajectory(np.repeat(frame.xyz, 3, axis=0), frame.topology)
    broken.xyz[2, ligand[0]] = np.nan
    with pytest.raises(TrajectoryError, match="not finite in frame 2"):
        interactions(broken, ligand=mol, ligand_atoms=ligand)


def test_chunks_of_different_thresholds_are_not_merged(complex_):
    frame, mol, ligand = complex_
    one, two = (
        interactions(frame, ligand=mol, ligand_atoms=ligand, thresholds=t) for t in (PLIP, PROLIF)
    )
    with pytest.raises(SelectionError, match="chunks differ"):
        merge_interactions([one, two])
