from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nmdasim.errors import PoreError
from nmdasim.pore import (
    CONDUCTION,
    HYDROPHOBIC,
    PoreFrame,
    PoreProfile,
    clearance,
    conduction,
    cross_section,
    fit_pore_frame,
    from_pore,
    lumen_volume,
    radii_of,
    radius_at_rings,
    radius_profile,
    radius_profile_past,
    superpose,
    to_pore,
)
from nmdasim.subunits import ONE_LETTER

CARBON = 0.185
SHARED = Path(__file__).parents[2] / "shared"
HOLE = Path(__file__).parent / "data" / "7eu8_hole.csv"
LEVELS = np.linspace(-1.0, 1.8, 57)
RINGS = np.arange(-2.5, 2.55, 0.05)
SEEDS = st.integers(0, 2**31)


def wall(ring_radius, heights=RINGS, centre=lambda z: (0.0, 0.0)):
    """Rings of carbons, about 0.05 nm apart along the ring."""
    rings = []
    for z in heights:
        radius = ring_radius(z)
        angle = np.linspace(0, 2 * np.pi, int(np.ceil(2 * np.pi * radius / 0.05)), endpoint=False)
        x, y = centre(z)
        ring = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
        rings.append(np.column_stack([ring, np.full(len(ring), z)]))
    return np.concatenate(rings)


def profile(atoms, levels=LEVELS, **options):
    return radius_profile(
        atoms, radii=np.full(np.shape(atoms)[-2], CARBON), levels=levels, **options
    )


def random_frame(seed):
    generator = np.random.default_rng(seed)
    return PoreFrame(
        origin=generator.normal(scale=5.0, size=3),
        rotation=Rotation.random(random_state=generator.integers(2**31)).as_matrix(),
    )


@pytest.fixture(scope="module")
def cylinder():
    return wall(lambda z: 0.585)


@pytest.fixture(scope="module")
def rough_tube():
    """A tube of loose atoms without symmetry, about as crowded as a protein."""
    generator = np.random.default_rng(7)
    atoms = generator.uniform([-1.6, -1.6, -1.6], [1.6, 1.6, 1.6], size=(1200, 3))
    atoms = atoms[np.hypot(atoms[:, 0], atoms[:, 1]) > 0.42]
    return atoms, generator.choice([0.165, 0.175, 0.185], size=len(atoms))


def on_rings(z, ring_radius, heights=RINGS):
    """Exact clearance on the axis of a pore made of rings."""
    rings = np.array([ring_radius(height) for height in heights])
    return np.sqrt(rings**2 + (np.asarray(z)[:, None] - heights) ** 2).min(axis=1) - CARBON


def hourglass(z):
    return np.sqrt(0.335**2 + (0.5 * z) ** 2)


def test_cylinder_has_its_radius(cylinder):
    got = profile(cylinder)
    np.testing.assert_allclose(got.radius[0], on_rings(LEVELS, lambda z: 0.585), atol=2e-4)
    np.testing.assert_allclose(got.radius[0], 0.585 - CARBON, atol=1e-3)
    np.testing.assert_allclose(got.centre[0], 0.0, atol=2e-3)


def test_hourglass_has_its_closed_form():
    levels = np.linspace(-1.5, 1.5, 61)
    got = profile(wall(hourglass), levels).radius[0]
    np.testing.assert_allclose(got, on_rings(levels, hourglass), atol=2e-4)
    continuous = np.sqrt(0.335**2 + 0.25 * levels**2 / 1.25) - CARBON
    np.testing.assert_allclose(got, continuous, atol=1e-3)
    assert levels[got.argmin()] == pytest.approx(0.0, abs=0.026)


def test_bent_tube_is_followed():
    def middle(z):
        return 0.5 * np.sin(z), 0.0

    # Levels at rings: the sphere's nearest ring there is its own to first order.
    got = profile(wall(lambda z: 0.535, centre=middle), np.arange(-1.0, 1.01, 0.05), reach=0.7)
    slope = np.arctan(0.5 * np.cos(got.levels))
    # A plane cut of a tube bent by `slope` is wider across than the sphere that fits.
    np.testing.assert_allclose(got.centre[0, :, 0], 0.5 * np.sin(got.levels), atol=0.02)
    assert (got.radius[0] <= 0.535 - CARBON + 1e-3).all()
    assert (got.radius[0] >= 0.535 * np.cos(slope) - CARBON - 1e-2).all()


def test_pore_bent_into_an_arc_has_its_closed_form():
    # Rings across a circular arc: on the arc the tube's radius is the clearance, however
    # steep the arc, because the clearance falls with the distance from it.
    bend, ring_radius = 2.0, 0.485
    turn = np.arange(-0.75, 0.751, 0.025)
    ring = np.linspace(0, 2 * np.pi, 61)[:-1]
    outward = np.stack([np.cos(turn), np.zeros_like(turn), np.sin(turn)], axis=1)
    across = outward[:, None] * np.cos(ring)[:, None] + np.array([0, 1, 0]) * np.sin(ring)[:, None]
    atoms = bend * (outward[:, None] - [1, 0, 0]) + ring_radius * across
    levels = np.linspace(-1.0, 1.0, 41)
    got = profile(atoms.reshape(-1, 3), levels, reach=0.5)
    np.testing.assert_allclose(got.radius[0], ring_radius - CARBON, atol=1e-3)
    arc = np.sqrt(bend**2 - levels**2) - bend
    np.testing.assert_allclose(got.centre[0], np.stack([arc, np.zeros(41)], -1), atol=5e-3)


def test_tilted_pore_through_its_frame():
    frame = random_frame(3)
    square = np.array([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0], [0, -1.0, 0]])
    lower, upper = from_pore(frame, square), from_pore(frame, square + np.array([0, 0, 1.5]))
    fitted = fit_pore_frame(
        n_site_ca=lower, threonine_ca=upper, glun1_direction=frame.rotation.T @ [1.0, 0, 0.4]
    )
    got = profile(to_pore(fitted, from_pore(frame, wall(hourglass))))
    np.testing.assert_allclose(got.radius[0], on_rings(LEVELS, hourglass), atol=3e-4)


def test_window_in_the_wall_does_not_leak(cylinder):
    intact = cylinder[np.linalg.norm(cylinder - [0.585, 0, 0.8], axis=1) >= 0.7]
    assert len(intact) < len(cylinder) - 300
    got = profile(intact)
    np.testing.assert_allclose(got.radius[0], on_rings(LEVELS, lambda z: 0.585), atol=3e-4)
    assert np.hypot(*got.centre[0].T).max() < 0.01


def test_dead_end_beside_the_pore_is_left_alone():
    # In a solid block: a tube, and beside it a wider pocket that is closed above z = 0.
    side = np.arange(-1.35, 1.36, 0.1)
    block = np.stack(np.meshgrid(side, side, side * 1.3, indexing="ij"), axis=-1).reshape(-1, 3)
    tube = np.hypot(block[:, 0], block[:, 1]) < 0.385
    pocket = (np.hypot(block[:, 0] - 0.45, block[:, 1]) < 0.5) & (block[:, 2] < 0)
    levels = np.linspace(-1.0, 1.0, 41)
    got = profile(block[~(tube | pocket)], levels, reach=0.5)
    alone = profile(block[~tube], levels, reach=0.5)
    above = levels > 0.3
    np.testing.assert_allclose(got.radius[0, above], alone.radius[0, above], atol=1e-4)
    assert (np.hypot(*got.centre[0, above].T) < 0.1).all()
    assert (got.radius[0, levels < -0.3] > alone.radius[0, levels < -0.3] + 0.01).all()


def test_closed_gate_has_radius_zero(cylinder):
    side = np.arange(-0.4, 0.45, 0.1)
    plug = np.array([[x, y, 0.3] for x in side for y in side])
    got = profile(np.concatenate([cylinder, plug]))
    assert got.radius[0, np.abs(LEVELS - 0.3).argmin()] == 0.0
    assert got.radius[0, np.abs(LEVELS + 0.9).argmin()] == pytest.approx(0.4, abs=1e-3)


def test_level_without_walls_is_nan(cylinder):
    got = profile(cylinder, np.array([-1.0, 0.0, 1.0, 5.0]))
    assert np.isnan(got.radius[0]).tolist() == [False, False, False, True]


def test_sphere_touches_three_atoms_and_enters_none(rough_tube):
    atoms, radii = rough_tube
    got = radius_profile(atoms, radii=radii, levels=LEVELS)
    points = np.column_stack([got.centre[0], got.levels])
    np.testing.assert_allclose(
        clearance(points, coordinates=atoms, radii=radii), got.radius[0], atol=1e-9
    )
    room = np.linalg.norm(points[:, None] - atoms, axis=-1) - radii
    touching = (room < got.radius[0][:, None] + 1e-3).sum(axis=1)
    inside = np.hypot(*got.centre[0].T) < 0.299
    assert inside.sum() > 40
    assert (touching[inside] >= 3).all()


def test_no_nearby_point_has_more_room(rough_tube):
    atoms, radii = rough_tube
    got = radius_profile(atoms, radii=radii, levels=LEVELS)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for distance in (0.002, 0.01):
        around = got.centre[0][:, None] + distance * np.stack([np.cos(angle), np.sin(angle)], -1)
        points = np.concatenate(
            [around, np.broadcast_to(LEVELS[:, None, None], (*around.shape[:2], 1))], axis=-1
        )
        room = clearance(points.reshape(-1, 3), coordinates=atoms, radii=radii)
        room = np.where(np.hypot(*around.T).T < 0.3, room.reshape(len(LEVELS), -1), -1.0)
        assert (room.max(axis=1) <= got.radius[0] + 1e-4).all()


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_order_of_atoms_does_not_matter(rough_tube, seed):
    atoms, radii = rough_tube
    order = np.random.default_rng(seed).permutation(len(atoms))
    want = radius_profile(atoms, radii=radii, levels=LEVELS)
    got = radius_profile(atoms[order], radii=radii[order], levels=LEVELS)
    np.testing.assert_allclose(got.radius, want.radius, atol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_pose_of_the_receptor_does_not_matter(rough_tube, seed):
    atoms, radii = rough_tube
    frame = random_frame(seed)
    want = radius_profile(atoms, radii=radii, levels=LEVELS)
    got = radius_profile(to_pore(frame, from_pore(frame, atoms)), radii=radii, levels=LEVELS)
    np.testing.assert_allclose(got.radius, want.radius, atol=1e-5)


@given(angle=st.floats(0, 2 * np.pi), mirrored=st.booleans())
@settings(max_examples=10, deadline=None)
def test_turn_about_the_axis_and_mirror_do_not_matter(angle, mirrored):
    atoms = wall(hourglass, centre=lambda z: (0.1 * np.sin(z), 0.05 * z))
    turn = Rotation.from_euler("z", angle).as_matrix() @ np.diag([1, -1 if mirrored else 1, 1])
    got = profile(atoms @ turn.T)
    want = profile(atoms)
    np.testing.assert_allclose(got.radius, want.radius, atol=1e-4)
    np.testing.assert_allclose(got.centre, want.centre @ turn[:2, :2].T, atol=3e-3)


@given(quarter=st.integers(0, 3), mirrored=st.booleans())
@settings(max_examples=8, deadline=None)
def test_symmetry_of_the_grid_leaves_a_rough_tube_alone(rough_tube, quarter, mirrored):
    atoms, radii = rough_tube
    turn = np.linalg.matrix_power(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), quarter)
    turn = turn @ np.diag([1, -1 if mirrored else 1, 1])
    want = radius_profile(atoms, radii=radii, levels=LEVELS)
    got = radius_profile(atoms @ turn.T, radii=radii, levels=LEVELS)
    np.testing.assert_allclose(got.radius, want.radius, atol=1e-5)


@given(shift=st.floats(-20.0, 20.0))
@settings(max_examples=10, deadline=None)
def test_shift_along_the_axis_with_the_levels_does_not_matter(rough_tube, shift):
    atoms, radii = rough_tube
    want = radius_profile(atoms, radii=radii, levels=LEVELS)
    got = radius_profile(atoms + np.array([0, 0, shift]), radii=radii, levels=LEVELS + shift)
    np.testing.assert_allclose(got.radius, want.radius, atol=1e-5)


def shaken(atoms, n_frames=7):
    noise = np.random.default_rng(3).normal(scale=0.01, size=(n_frames, *atoms.shape))
    return (atoms + noise).astype(np.float32)


def test_number_of_threads_and_chunks_change_no_bit(rough_tube):
    atoms, radii = rough_tube
    frames, guest = shaken(atoms), shaken(np.array([[0.05, 0, 0], [0, 0.05, 0.2]]))
    want = radius_profile(frames, radii=radii, levels=LEVELS)
    past = {"radii": radii, "blocker": guest, "blocker_radii": [0.1, 0.1]}
    want_past = radius_profile_past(want, frames, **past)
    section = past | {"level": 0.1, "centre": want.centre[:, 22]}
    for n_threads in (2, 3, 16):
        got = radius_profile(frames, radii=radii, levels=LEVELS, n_threads=n_threads)
        np.testing.assert_array_equal(got.radius, want.radius)
        np.testing.assert_array_equal(got.centre, want.centre)
        got = radius_profile_past(want, frames, **past, n_threads=n_threads)
        np.testing.assert_array_equal(got.radius, want_past.radius)
        for measure, options in (
            (cross_section, section),
            (lambda *a, **k: lumen_volume(want, *a, **k), past | {"low": -0.5, "high": 0.5}),
        ):
            np.testing.assert_array_equal(
                measure(frames, **options, n_threads=n_threads), measure(frames, **options)
            )
    for frame in range(len(frames)):
        got = radius_profile(frames[frame], radii=radii, levels=LEVELS)
        np.testing.assert_array_equal(got.radius[0], want.radius[frame])


def test_single_precision_is_precise_enough(rough_tube):
    atoms, radii = rough_tube
    want = radius_profile(atoms, radii=radii, levels=LEVELS).radius
    got = radius_profile(atoms.astype(np.float32), radii=radii, levels=LEVELS).radius
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_frames_are_independent(cylinder, rough_tube):
    wider = cylinder * [1.1, 1.1, 1.0]
    both = profile(np.stack([cylinder, wider]))
    np.testing.assert_array_equal(both.radius[0], profile(cylinder).radius[0])
    np.testing.assert_array_equal(both.radius[1], profile(wider).radius[0])
    np.testing.assert_allclose(both.radius[1] - both.radius[0], 0.0585, atol=1e-3)


def test_hydrogens_are_left_out(cylinder):
    hydrogen = np.zeros((1, 3))
    got = radius_profile(
        np.concatenate([cylinder, hydrogen]),
        radii=radii_of(["C"] * len(cylinder) + ["h"]),
        levels=LEVELS,
    )
    np.testing.assert_array_equal(got.radius, profile(cylinder).radius)


def read_7eu8():
    path = SHARED / "structures" / "7eu8.cif"
    if not path.exists():
        pytest.skip("needs the deposited entry 7EU8 in ../shared/structures")
    atoms, elements, ca = [], [], {}
    for chain in gemmi.read_structure(str(path))[0]:
        for residue in chain:
            if residue.name not in ONE_LETTER:
                continue
            for atom in residue.first_conformer():
                atoms.append(atom.pos.tolist())
                elements.append(atom.element.name)
                if atom.name == "CA":
                    ca[chain.name, residue.seqid.num] = np.array(atom.pos.tolist()) / 10
    return np.array(atoms) / 10, elements, ca


def test_7eu8_has_the_radius_that_hole_finds():
    atoms, elements, ca = read_7eu8()
    frame = fit_pore_frame(
        n_site_ca=[ca["A", 616], ca["B", 615], ca["C", 616], ca["D", 615]],
        threonine_ca=[ca["A", 648], ca["B", 647], ca["C", 648], ca["D", 647]],
        glun1_direction=ca["A", 640] - ca["C", 640],
    )
    z, want = np.loadtxt(HOLE, delimiter=",", skiprows=4).T / 10
    got = radius_profile(to_pore(frame, atoms), radii=radii_of(elements), levels=z).radius[0]
    assert np.sqrt(((got - want) ** 2).mean()) < 0.002
    assert np.abs(got - want).max() < 0.01


def test_blocker_on_the_axis_leaves_the_annulus(cylinder):
    ion = np.zeros((1, 3))
    past = radius_profile_past(
        profile(cylinder),
        cylinder,
        radii=np.full(len(cylinder), CARBON),
        blocker=ion,
        blocker_radii=[CARBON],
    )
    # Between the atom and the wall at its own level: half of the gap.
    middle = np.abs(LEVELS).argmin()
    assert past.radius[0, middle] == pytest.approx((0.585 - 2 * CARBON) / 2, abs=1e-3)
    far = np.abs(LEVELS) > 0.4 + CARBON
    np.testing.assert_array_equal(past.radius[0, far], profile(cylinder).radius[0, far])
    assert (past.radius <= profile(cylinder).radius + 1e-4).all()


def test_distant_blocker_changes_nothing(cylinder):
    radii = np.full(len(cylinder), CARBON)
    open_pore = profile(cylinder)
    past = radius_profile_past(
        open_pore, cylinder, radii=radii, blocker=[[3.0, 0, 0]], blocker_radii=[CARBON]
    )
    np.testing.assert_array_equal(past.radius, open_pore.radius)


@pytest.mark.parametrize("spacing", [0.04, 0.02, 0.01])
def test_share_that_a_disc_fills(cylinder, spacing):
    area, share = cross_section(
        cylinder,
        radii=np.full(len(cylinder), CARBON),
        blocker=[[0.1, -0.05, 0.0]],
        blocker_radii=[0.2],
        level=0.0,
        centre=[0.0, 0.0],
        spacing=spacing,
    )
    # Half a ring of cells around the edge is the most that a grid can miss.
    assert area == pytest.approx([np.pi * 0.4**2], abs=np.pi * 0.4 * spacing)
    assert share == pytest.approx([0.2**2 / 0.4**2], abs=spacing)


def test_share_counts_the_cut_through_the_sphere(cylinder):
    radii = np.full(len(cylinder), CARBON)
    _, share = cross_section(
        cylinder,
        radii=radii,
        blocker=[[0.0, 0.0, 0.12]],
        blocker_radii=[0.2],
        level=0.0,
        centre=[0.0, 0.0],
        spacing=0.01,
    )
    assert share == pytest.approx([(0.2**2 - 0.12**2) / 0.4**2], abs=0.01)


def test_gap_narrower_than_a_water_is_no_lumen(cylinder):
    slit = cylinder[~((cylinder[:, 0] > 0) & (np.abs(cylinder[:, 1]) < 0.25))]
    wide = cylinder[~((cylinder[:, 0] > 0) & (np.abs(cylinder[:, 1]) < 0.45))]
    areas = [
        cross_section(
            atoms,
            radii=np.full(len(atoms), CARBON),
            blocker=[[0.0, 0, 0]],
            blocker_radii=[0.2],
            level=0.0,
            centre=[0.0, 0.0],
        )[0][0]
        for atoms in (cylinder, slit, wide)
    ]
    assert areas[1] < areas[0] + 0.1
    assert areas[2] > areas[0] + 0.3


def test_no_water_fits_no_share(cylinder):
    radii = np.full(len(cylinder), CARBON)
    area, share = cross_section(
        cylinder,
        radii=radii,
        blocker=[[0.0, 0, 0]],
        blocker_radii=[0.2],
        level=0.0,
        centre=[0.4, 0.0],
    )
    assert area == [0.0]
    assert np.isnan(share).all()


def test_sections_of_many_frames_are_those_of_each(rough_tube):
    atoms, radii = rough_tube
    frames, guest = shaken(atoms), shaken(np.array([[0.05, 0, 0.1]]))
    level = np.array([-0.5, 0.0, np.nan, 0.3, 0.1, 0.2, -0.2])
    options = {"radii": radii, "blocker_radii": [0.2], "centre": [0.0, 0.0]}
    area, share = cross_section(frames, blocker=guest, level=level, **options)
    each = [
        cross_section(frames[k], blocker=guest[k], level=level[k], **options)
        for k in range(len(frames))
    ]
    np.testing.assert_array_equal([area, share], np.concatenate(each, axis=1))
    assert np.isnan(area).tolist() == np.isnan(level).tolist()
    assert (area[~np.isnan(level)] > 0.1).all()


def volume(atoms, low, high, **options):
    radii = np.full(len(atoms), CARBON)
    return lumen_volume(profile(atoms), atoms, radii=radii, low=low, high=high, **options)


@pytest.mark.parametrize("spacing", [0.05, 0.025])
def test_volume_of_a_cylinder(cylinder, spacing):
    got, share = volume(cylinder, -0.5, 0.7, spacing=spacing)
    assert got == pytest.approx([np.pi * 0.4**2 * 1.2], rel=0.8 * spacing)
    assert share == [0.0]


@pytest.mark.parametrize("spacing", [0.05, 0.025])
def test_volume_of_an_hourglass(spacing):
    got, _ = volume(wall(hourglass), -0.8, 0.9, spacing=spacing)
    # At each height the nearest circle that a ring's atoms cut out of the plane.
    z = np.linspace(-0.8, 0.9, 2001)
    rise2 = (z[:, None] - RINGS) ** 2
    cut = np.sqrt(np.where(rise2 < CARBON**2, CARBON**2 - rise2, np.nan))
    width = np.nanmin(hourglass(RINGS) - cut, axis=1)
    assert got == pytest.approx([np.trapezoid(np.pi * width**2, z)], rel=0.8 * spacing)


def test_share_of_the_volume_that_a_ball_fills(cylinder):
    whole = {"blocker": [[0.1, 0.0, 0.1]], "blocker_radii": [0.25], "spacing": 0.025}
    got, share = volume(cylinder, -0.5, 0.7, **whole)
    assert share == pytest.approx([4 / 3 * 0.25**3 / (0.4**2 * 1.2)], rel=0.04)
    _, half = volume(cylinder, 0.1, 0.7, **whole)
    assert half * 0.6 == pytest.approx(share * 1.2 / 2, rel=0.04)
    assert got == volume(cylinder, -0.5, 0.7, spacing=0.025)[0]


def test_volume_ends_at_a_plug(cylinder):
    side = np.arange(-0.4, 0.45, 0.1)
    plug = np.array([[x, y, 0.3] for x in side for y in side])
    got, _ = volume(np.concatenate([cylinder, plug]), -0.5, 1.1)
    # Both rooms beside the plug count, up to where its atoms end; some lie between atoms.
    assert got == pytest.approx([np.pi * 0.4**2 * (1.6 - 2 * CARBON)], rel=0.08)


def test_volume_outside_the_profile_is_refused(cylinder):
    with pytest.raises(PoreError, match="from 0 to 9 nm"):
        volume(cylinder, 0.0, 9.0)
    with pytest.raises(PoreError, match="from 1 to 0 nm"):
        volume(cylinder, 1.0, 0.0)


def test_radius_at_a_ring_is_the_least_nearby():
    levels = np.linspace(-1.0, 1.0, 81)
    radius = np.stack([0.2 + np.abs(levels), 0.3 + np.abs(levels - 0.5), np.full(81, np.nan)])
    pore = PoreProfile(levels=levels, radius=radius, centre=np.zeros((3, 81, 2)))
    got = radius_at_rings(pore, heights=[0.1, 0.5, 3.0])
    want = [[0.2, 0.55, np.nan], [0.55, 0.3, np.nan], [np.nan] * 3]
    np.testing.assert_allclose(got, want, atol=1e-9)
    moving = radius_at_rings(pore, heights=[[0.5], [0.5], [np.nan]], window=0.05)
    np.testing.assert_allclose(moving, [[0.65], [0.3], [np.nan]], atol=1e-9)
    with pytest.raises(PoreError, match=r"shape \(2, 1\) for 3 frames"):
        radius_at_rings(pore, heights=[[0.5], [0.5]])


def test_conduction_follows_the_published_thresholds():
    radius = np.array([0.0, 0.139, 0.14, 0.274, 0.275, 0.449, 0.45, 0.649, 0.65, np.nan])
    polar = [0, 0, 1, 1, 2, 2, 2, 2, 2, -1]
    assert conduction(radius).tolist() == polar
    hydrophobic = [0, 0, 0, 0, 0, 0, 1, 1, 2, -1]
    assert conduction(radius, thresholds=HYDROPHOBIC).tolist() == hydrophobic
    assert [CONDUCTION[k] for k in (0, 1, 2)] == ["closed", "water", "ions"]


def test_ions_have_shannons_radii():
    # Effective ionic radii with six neighbours, in pm.
    got = 1e3 * radii_of(["Mg", "LI", "na", "K", "Rb", "Cs", "Ca"])
    assert got == pytest.approx([72, 76, 102, 138, 152, 167, 100])


def test_magnesium_in_the_lumen_leaves_the_annulus(cylinder):
    radii = np.full(len(cylinder), CARBON)
    past = radius_profile_past(
        profile(cylinder), cylinder, radii=radii, blocker=[[0, 0, 0.0]],
        blocker_radii=radii_of(["MG"]),
    )  # fmt: skip
    middle = np.abs(LEVELS).argmin()
    assert past.radius[0, middle] == pytest.approx((0.4 - 0.072) / 2, abs=1e-3)


def test_water_as_wall_leaves_the_gaps_between_waters(cylinder):
    # Waters on a line, 0.3 nm apart, closer than the open pore is wide; far ones do not count.
    water = np.array([[0.0, 0.0, 0.3 * k] for k in range(-3, 4)] + [[5.0, 0, 0]] * 200)
    past = radius_profile_past(
        profile(cylinder), cylinder, radii=np.full(len(cylinder), CARBON), blocker=water,
        blocker_radii=np.full(len(water), 0.14),
    )  # fmt: skip
    at = np.abs(LEVELS[:, None] - 0.3 * np.arange(-3, 4)).argmin(axis=0)
    np.testing.assert_allclose(past.radius[0, at], (0.4 - 0.14) / 2, atol=2e-3)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_frame_goes_there_and_back(seed):
    frame = random_frame(seed)
    points = np.random.default_rng(seed).normal(size=(4, 5, 3))
    np.testing.assert_allclose(from_pore(frame, to_pore(frame, points)), points, atol=1e-12)
    np.testing.assert_allclose(frame.rotation @ frame.rotation.T, np.eye(3), atol=1e-12)


def test_frame_points_outwards_and_to_the_first_chain():
    frame = random_frame(11)
    lower = from_pore(frame, np.random.default_rng(0).normal(size=(4, 3)))
    lower += frame.origin - lower.mean(axis=0)
    fitted = fit_pore_frame(
        n_site_ca=lower,
        threonine_ca=lower + 1.5 * frame.rotation[2],
        glun1_direction=2 * frame.rotation[0] + 3 * frame.rotation[2],
    )
    np.testing.assert_allclose(fitted.rotation, frame.rotation, atol=1e-9)
    np.testing.assert_allclose(fitted.origin, frame.origin, atol=1e-9)
    assert not fitted.origin.flags.writeable


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_superposition_undoes_any_motion(seed):
    generator = np.random.default_rng(seed)
    reference = generator.normal(size=(9, 3))
    moved = np.stack([from_pore(random_frame(seed + k), reference) for k in range(3)])
    fitted, rmsd = superpose(moved, reference=reference, fit=np.arange(5))
    np.testing.assert_allclose(fitted, np.stack([reference] * 3), atol=1e-9)
    np.testing.assert_allclose(rmsd, 0.0, atol=1e-9)


def test_superposition_never_mirrors():
    reference = np.random.default_rng(1).normal(size=(6, 3))
    _, rmsd = superpose(reference[None] * [-1, 1, 1], reference=reference, fit=np.arange(6))
    assert rmsd[0] > 0.1


def test_bad_input_is_refused(cylinder):
    with pytest.raises(PoreError, match="coincide"):
        fit_pore_frame(
            n_site_ca=np.zeros((4, 3)), threonine_ca=np.zeros((4, 3)), glun1_direction=[1, 0, 0]
        )
    with pytest.raises(PoreError, match=r"asparagine ring of shape \(3, 3\)"):
        fit_pore_frame(
            n_site_ca=np.zeros((3, 3)), threonine_ca=np.ones((4, 3)), glun1_direction=[1, 0, 0]
        )
    with pytest.raises(PoreError, match="2 atoms to fit"):
        superpose(cylinder[None], reference=cylinder, fit=[0, 1])
    with pytest.raises(PoreError, match="5 radii"):
        radius_profile(cylinder, radii=np.ones(5))
    with pytest.raises(PoreError, match="rising"):
        profile(cylinder, [1.0, 0.0])
    with pytest.raises(PoreError, match="no atom lies"):
        profile(cylinder + np.array([50.0, 0, 0]))
    with pytest.raises(PoreError, match="not finite"):
        profile(np.where(cylinder > 0.58, np.nan, cylinder))
    with pytest.raises(PoreError, match="element XX"):
        radii_of(["C", "Xx"])
