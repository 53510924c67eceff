from pathlib import Path

import mdtraj as md
import numpy as np
import pytest
from channel_run import BOX, write_run
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter1d
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from nmdasim.channel_block import pore_profile
from nmdasim.errors import PoreError, SelectionError, TrajectoryError
from nmdasim.permeation import (
    EDGE_NM,
    PORE_ENDS_NM,
    Passages,
    PoreDensity,
    bulk_density,
    count_passages,
    find_water_paths,
    narrowest_radius,
    particle_density,
    ring_planes,
    water_paths,
)
from nmdasim.pore import PoreProfile
from nmdasim.structures import structures_folder
from nmdasim.trajectory import open_run, read_frames

RECEPTOR = structures_folder() / "receptors" / "7eu8" / "receptor.cif"
LEVELS = np.linspace(-1.5, 3.5, 101)
LOW, HIGH = PORE_ENDS_NM
PLANES = {"asparagine ring": 0.0, "threonine ring": 1.5}
BOX_NM = 9.0


def lumen(n_frames, radius=0.2, centre=(0.0, 0.0)):
    """A straight tube; particles within 0.3 nm more than its radius are in it."""
    return PoreProfile(
        levels=LEVELS,
        radius=np.full((n_frames, len(LEVELS)), radius),
        centre=np.tile(np.asarray(centre, float), (n_frames, len(LEVELS), 1)),
    )


def path(*stations, step=0.4):
    """Frames (n_frames, 1, 3) of one particle that walks from station to station."""
    places = [np.array(stations[0], float)]
    for station in stations[1:]:
        start, stop = places[-1], np.array(station, float)
        n_steps = max(1, int(np.ceil(np.linalg.norm(stop - start) / step - 1e-9)))
        places += list(np.linspace(start, stop, n_steps + 1)[1:])
    return np.array(places)[:, None]


def counted(positions, *, kinds=("Na",), chunks=(), **options):
    counter = Passages(kinds, planes=PLANES, **options)
    for part in np.split(np.arange(len(positions)), list(chunks)):
        counter.add(positions[part], time_ps=2.0 * part, lumen=lumen(len(part)))
    return counter


def tally(counter):
    return tuple(
        sum(passage.direction == direction for passage in counter.passages)
        for direction in ("out", "in")
    )


# ------------------------------------------------------------------------------- passages

BELOW, ABOVE = (0.0, 0.0, -1.4), (0.0, 0.0, 3.6)
MIDDLE, BESIDE = (0.0, 0.0, 1.0), (2.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("stations", "expected"),
    [
        ([BELOW, ABOVE], (1, 0)),
        ([ABOVE, BELOW], (0, 1)),
        ([BELOW, ABOVE, BELOW], (1, 1)),
        ([BELOW, MIDDLE, BELOW], (0, 0)),
        ([ABOVE, MIDDLE, ABOVE], (0, 0)),
        ([BELOW, MIDDLE, BELOW, ABOVE], (1, 0)),
        ([BELOW, MIDDLE, (0, 0, 0.0), (0, 0, 2.0), MIDDLE, ABOVE], (1, 0)),
        ([MIDDLE, ABOVE], (0, 0)),
        ([BELOW, MIDDLE], (0, 0)),
        ([BELOW, MIDDLE, BESIDE, (2, 0, 3.6), ABOVE], (0, 0)),
        ([(2, 0, -1.4), BESIDE, MIDDLE, ABOVE], (0, 0)),
        ([BELOW, MIDDLE, BESIDE, (2, 0, 3.6), ABOVE, BELOW], (0, 1)),
        ([BELOW, MIDDLE, (0.9, 0, 1.2), (0, 0, 1.2), ABOVE], (1, 0)),
        ([BELOW, MIDDLE, (0.9, 0, 1.0), (0.9, 0, 1.7), (0, 0, 1.7), ABOVE], (0, 0)),
        ([(2, 0, -1.4), (2, 0, 3.6), (2, 0, -1.4)], (0, 0)),
    ],
    ids=[
        "out", "in", "out and in", "turns back below", "turns back above", "comes again",
        "wavers", "starts within", "ends within", "leaves sideways", "comes in sideways",
        "leaves sideways and comes back", "rests in a crevice",
        "climbs behind the wall", "goes around",
    ],
)  # fmt: skip
def test_passages_of_one_particle(stations, expected):
    assert tally(counted(path(*stations))) == expected


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([-1.5, 3.5, -1.5], (0, 0)),
        ([-1.5, -0.5, 3.5], (0, 0)),
        ([-1.5, 1.0, 3.5], (0, 0)),
        ([-1.5, -0.1, 0.8, 1.7, 2.6, 3.5], (1, 0)),
        ([-4.4, -0.1, 0.8, 1.7, 2.6, 4.4], (1, 0)),
        ([-1.5, 0.3, 0.8, 1.7, 2.6, 3.5], (0, 0)),
    ],
    ids=[
        "past the pore", "out of it", "in and out", "in large steps",
        "far beyond both ends in one step", "too far within",
    ],
)  # fmt: skip
def test_jumps_between_frames_count_only_when_they_tell_the_way(heights, expected):
    places = np.zeros((len(heights), 1, 3))
    places[:, 0, 2] = heights
    assert tally(counted(places)) == expected


def test_a_way_beside_the_pore_is_forgotten_once_an_end_is_reached():
    """Then a step of 0.8 nm into the lumen is as good as ever."""
    beside = [(0, 0, -1.5), (2, 0, 0.0), (0, 0, -1.5)]
    through = [(0, 0, z) for z in (-0.2, 0.7, 1.6, 2.5, 3.5)]
    assert tally(counted(np.array(beside + through, float)[:, None])) == (1, 0)


def test_many_may_pass_at_once():
    together = np.repeat(path(BELOW, ABOVE, BELOW), 40, axis=1)
    assert tally(counted(together, kinds=["water"] * 40)) == (40, 40)


def test_a_passage_knows_when_it_began_and_ended():
    counter = counted(path(BELOW, ABOVE, step=0.5), kinds=["K"])
    (passage,) = counter.passages
    # -1.4, -0.9 (at the end is within), ..., 3.1, 3.6 every 2 ps.
    assert (passage.kind, passage.molecule) == ("K", 0)
    assert (passage.entered_ps, passage.left_ps) == (2.0, 20.0)


def test_what_is_lost_from_sight_is_told():
    counter = counted(path(BELOW, MIDDLE, BESIDE, (2, 0, 3.6)), kinds=["K"])
    assert counter.lost == {"K": 1}
    whole = next(rate for rate in counter.rates() if rate.place == "whole pore")
    assert "1 that had come in were lost" in whole.note


@given(
    speed=st.floats(0.1, 0.9),
    offset=st.floats(-4.0, 4.0),
    n_frames=st.integers(2, 120),
    up=st.booleans(),
)
def test_particle_that_goes_round_the_box_passes_once_a_round(speed, offset, n_frames, up):
    """What is known without a box: how often the unwrapped path covers a whole pore."""
    height = offset + (speed if up else -speed) * np.arange(n_frames)
    centre = 0.75
    wrapped = (height - centre + BOX_NM / 2) % BOX_NM - BOX_NM / 2 + centre
    # On an end itself, rounding decides.
    assume(np.abs(wrapped[:, None] - [LOW, HIGH]).min() > 1e-4)
    places = np.zeros((n_frames, 1, 3))
    places[:, 0, 2] = wrapped
    whole = 0
    for image in range(-15, 16):
        inside = (height >= LOW + image * BOX_NM) & (height <= HIGH + image * BOX_NM)
        before, after = height[0] - image * BOX_NM, height[-1] - image * BOX_NM
        whole += inside.any() and (
            (before < LOW and after > HIGH) if up else (before > HIGH and after < LOW)
        )
    assert tally(counted(places)) == ((whole, 0) if up else (0, whole))


def walkers(seed, n_frames=300, n_particles=12):
    """Particles that diffuse along the tube and now and then beside it; the box is periodic."""
    generator = np.random.default_rng(seed)
    places = np.cumsum(generator.normal(scale=0.35, size=(n_frames, n_particles, 3)), axis=0)
    places[..., :2] = 0.38 * np.sin(places[..., :2])
    places[..., 2] = (places[..., 2] + 3.0) % 7.0 - 2.4
    return places.astype(np.float32)


KINDS = ["water"] * 8 + ["Na", "Na", "Cl", "Cl"]


@pytest.fixture(scope="module")
def crowd():
    return walkers(7), counted(walkers(7), kinds=KINDS)


def test_walkers_pass_both_ways(crowd):
    out, into = tally(crowd[1])
    assert out > 2
    assert into > 2


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=8))
def test_chunks_do_not_matter(crowd, cuts):
    places, whole = crowd
    got = counted(places, kinds=KINDS, chunks=sorted(cuts))
    assert got.passages == whole.passages
    assert got.rates() == whole.rates()
    assert (got.lost, got.n_frames) == (whole.lost, whole.n_frames)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_reversed_time_turns_every_passage_round(seed):
    places = walkers(seed, n_frames=150)
    forth, back = counted(places, kinds=KINDS), counted(places[::-1], kinds=KINDS)
    assert tally(back) == tally(forth)[::-1]
    count = {(r.kind, r.place, r.direction): r.count for r in forth.rates()}
    other = {"out": "in", "in": "out"}
    for rate in back.rates():
        assert rate.count == count[rate.kind, rate.place, other[rate.direction]]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), angle=st.floats(-3.2, 3.2))
def test_order_of_the_particles_and_turns_about_the_axis_do_not_matter(crowd, seed, angle):
    places, whole = crowd
    order = np.random.default_rng(seed).permutation(len(KINDS))
    turned = places @ Rotation.from_rotvec([0, 0, angle]).as_matrix()
    # Kinds are numbered as they come; a particle on the edge of the tube may change sides.
    assume(np.abs(np.hypot(places[..., 0], places[..., 1]) - 0.5).min() > 1e-5)
    got = counted(turned[:, order], kinds=[KINDS[i] for i in order])
    assert sorted(got.rates(), key=repr) == sorted(whole.rates(), key=repr)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_waters_of_the_bulk_that_change_places_do_not_matter(crowd, seed):
    """As in files that hold the nearest waters only: a place in the file is no molecule there."""
    places, whole = crowd
    generator = np.random.default_rng(seed)
    swapped, order = np.empty_like(places), np.arange(places.shape[1])
    for frame in range(len(places)):
        if frame:
            now, then = places[frame, order, 2], places[frame - 1, order, 2]
            for beyond in ((now < LOW) & (then < LOW), (now > HIGH) & (then > HIGH)):
                free = np.flatnonzero(beyond & (np.array(KINDS)[order] == "water"))
                order[free] = order[generator.permutation(free)]
        swapped[frame] = places[frame, order]
    got = counted(swapped, kinds=KINDS)
    assert not np.array_equal(swapped, places)
    assert got.rates() == whole.rates()
    times = [sorted((p.entered_ps, p.left_ps) for p in c.passages) for c in (got, whole)]
    assert times[0] == times[1]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_paths_and_densities_do_not_ask_which_water_is_which(seed):
    """Every frame may have its waters in another order."""
    generator = np.random.default_rng(seed)
    places = generator.uniform([-0.5, -0.5, -1.5], [0.5, 0.5, 3.7], size=(5, 90, 3))
    mixed = np.array([generator.permutation(frame) for frame in places])
    found, again = (
        find_water_paths(waters, lumen=lumen(5), guest=[[0.5, 1.0]] * 5)
        for waters in (places, mixed)
    )
    for name in ("through", "past", "from_inside", "from_outside"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    density, other = (PoreDensity(["water"] * 90) for _ in range(2))
    density.add(places, lumen=lumen(5))
    other.add(mixed, lumen=lumen(5))
    np.testing.assert_array_equal(other.to_columns()["per_nm"], density.to_columns()["per_nm"])


def test_planes_count_each_crossing_on_the_way():
    counter = counted(path(BELOW, ABOVE, BELOW, MIDDLE, BELOW))
    count = {(rate.place, rate.direction): rate.count for rate in counter.rates()}
    assert count == {
        ("whole pore", "out"): 1,
        ("whole pore", "in"): 1,
        ("asparagine ring", "out"): 2,
        ("asparagine ring", "in"): 2,
        ("threonine ring", "out"): 1,
        ("threonine ring", "in"): 1,
    }


def test_crossings_beside_the_lumen_do_not_count():
    counter = counted(path((0.6, 0, -1.4), (0.6, 0, 3.6)))
    assert {rate.count for rate in counter.rates()} == {0}


def test_lumen_may_move_from_frame_to_frame():
    places = path(BELOW, ABOVE)
    places[..., 0] += np.linspace(0.0, 2.0, len(places))[:, None]
    moving = PoreProfile(
        levels=LEVELS,
        radius=np.full((len(places), len(LEVELS)), 0.2),
        centre=np.stack([np.repeat(places[:, 0, :2][:, None], len(LEVELS), axis=1)])[0],
    )
    still, follows = Passages(["Na"]), Passages(["Na"])
    times = np.arange(len(places))
    still.add(places, time_ps=times, lumen=lumen(len(places)))
    follows.add(places, time_ps=times, lumen=moving)
    assert (tally(still), tally(follows)) == ((0, 0), (1, 0))


def test_rates_have_the_exact_poisson_interval():
    rounds = [BELOW, ABOVE, BELOW] * 3
    counter = counted(path(*rounds))
    time = 2.0 * (counter.n_frames - 1) / 1000.0
    for rate in counter.rates():
        n = rate.count
        assert rate.time_ns == pytest.approx(time)
        assert rate.rate_per_ns == pytest.approx(n / time)
        assert rate.rate_low_per_ns == pytest.approx(chi2.ppf(0.025, 2 * n) / 2 / time)
        assert rate.rate_high_per_ns == pytest.approx(chi2.ppf(0.975, 2 * n + 2) / 2 / time)


def test_no_passage_is_a_bound_and_says_so():
    counter = counted(path(BELOW, MIDDLE, BELOW), kinds=["Ca"])
    whole = next(rate for rate in counter.rates() if rate.place == "whole pore")
    assert (whole.rate_per_ns, whole.rate_low_per_ns) == (0.0, 0.0)
    assert whole.rate_high_per_ns == pytest.approx(-np.log(0.025) / whole.time_ns)
    assert "not enough data" in whole.note


def test_one_frame_gives_no_rate():
    counter = counted(path(MIDDLE))
    assert all(np.isnan(rate.rate_per_ns) for rate in counter.rates())


def test_bad_input_of_the_counter_is_refused():
    with pytest.raises(PoreError, match="need them rising"):
        Passages(["Na"], ends=(1.0, 1.0))
    with pytest.raises(PoreError, match="take a smaller step"):
        Passages(["Na"], ends=(0.0, 0.5))
    counter = Passages(["Na"])
    with pytest.raises(PoreError, match="need 1 particles"):
        counter.add(np.zeros((2, 3, 3)), time_ps=[0.0, 1.0], lumen=lumen(2))
    with pytest.raises(PoreError, match="profile of the same frames"):
        counter.add(np.zeros((2, 1, 3)), time_ps=[0.0, 1.0], lumen=lumen(3))


def test_planes_of_the_rings_lie_between_the_ends():
    heights = {"vivi": 2.7, "asparagine": 0.0, "threonine": 1.5}
    assert list(ring_planes(heights)) == ["asparagine ring", "threonine ring", "vivi ring"]
    assert list(ring_planes(heights, ends=(-0.5, 2.0))) == ["asparagine ring", "threonine ring"]


# ---------------------------------------------------------------------------- water's path


def chain(spacing, low=-1.3, high=3.5):
    heights = np.arange(low, high, spacing)
    return np.column_stack([np.zeros((len(heights), 2)), heights])[None]


def test_chain_of_waters_leads_through_when_none_is_missing():
    waters = chain(0.3)
    found = find_water_paths(waters, lumen=lumen(1))
    assert found.through.tolist() == [1.0]
    middle = np.abs(waters[0, :, 2] - 1.0).argmin()
    broken = np.delete(waters, middle, axis=1)
    found = find_water_paths(broken, lumen=lumen(1))
    assert found.through.tolist() == [0.0]
    np.testing.assert_allclose(found.from_inside, waters[0, middle - 1, 2], atol=1e-6)
    np.testing.assert_allclose(found.from_outside, waters[0, middle + 1, 2], atol=1e-6)


@pytest.mark.parametrize(("spacing", "joined"), [(0.349, 1.0), (0.351, 0.0)])
def test_neighbours_are_as_near_as_a_hydrogen_bond(spacing, joined):
    assert find_water_paths(chain(spacing), lumen=lumen(1)).through.tolist() == [joined]


def test_waters_beside_the_lumen_make_no_path():
    beside = np.add(chain(0.3), [0.6, 0.0, 0.0])
    assert find_water_paths(beside, lumen=lumen(1)).through.tolist() == [0.0]
    assert find_water_paths(beside, lumen=lumen(1, radius=0.4)).through.tolist() == [1.0]


def test_gate_may_be_dry_while_water_passes_the_ligand():
    waters = chain(0.3)
    dry = waters[:, ~((waters[0, :, 2] > 2.0) & (waters[0, :, 2] < 2.5))]
    found = find_water_paths(dry, lumen=lumen(1), guest=[[0.6, 1.2]])
    assert (found.through[0], found.past[0]) == (0.0, 1.0)
    found = find_water_paths(dry, lumen=lumen(1), guest=[[1.8, 2.6]])
    assert found.past[0] == 0.0


def test_ligand_outside_the_pore_has_no_past_and_one_that_sticks_out_has():
    waters = np.repeat(chain(0.3), 2, axis=0)
    found = find_water_paths(waters, lumen=lumen(2), guest=[[3.5, 4.0], [2.9, 3.9]])
    assert np.isnan(found.past[0])
    assert found.past[1] == 1.0
    assert np.isnan(find_water_paths(waters, lumen=lumen(2)).past).all()


def test_no_water_is_not_the_same_as_no_path():
    found = find_water_paths(np.empty((2, 0, 3)), lumen=lumen(2), guest=[[0.5, 1.0]] * 2)
    assert np.isnan([found.through, found.past, found.from_inside, found.from_outside]).all()
    assert find_water_paths(np.full((1, 3, 3), 9.0), lumen=lumen(1)).through.tolist() == [0.0]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n_waters=st.integers(1, 160))
def test_paths_are_those_of_the_whole_graph(seed, n_waters):
    """Against scipy's components of the full matrix of distances."""
    generator = np.random.default_rng(seed)
    waters = generator.uniform([-0.7, -0.7, -1.5], [0.7, 0.7, 3.7], size=(n_waters, 3))
    waters = waters.astype(np.float32).astype(float)
    guest = np.sort(generator.uniform(-0.5, 2.5, size=2))
    found = find_water_paths(waters[None], lumen=lumen(1, radius=0.25), guest=guest[None])
    inside = waters[np.hypot(waters[:, 0], waters[:, 1]) <= 0.55]
    inside = inside[(inside[:, 2] >= LOW - EDGE_NM) & (inside[:, 2] <= HIGH + EDGE_NM)]
    apart = np.linalg.norm(inside[:, None] - inside, axis=-1)
    _, label = connected_components(apart <= EDGE_NM) if len(inside) else (0, np.empty(0, int))
    spans = [(inside[label == i, 2].min(), inside[label == i, 2].max()) for i in np.unique(label)]
    assert found.through[0] == any(low <= LOW and high >= HIGH for low, high in spans)
    assert found.past[0] == any(low <= guest[0] and high >= guest[1] for low, high in spans)
    up = [high for low, high in spans if low <= LOW]
    down = [low for low, high in spans if high >= HIGH]
    assert found.from_inside[0] == pytest.approx(max(up, default=np.nan), nan_ok=True)
    assert found.from_outside[0] == pytest.approx(min(down, default=np.nan), nan_ok=True)


def test_narrowest_radius_looks_only_between_the_ends():
    radius = np.array([[0.01, 0.3, 0.2, np.nan, 0.02], [np.nan] * 5])
    profile = PoreProfile(
        levels=np.array([-1.5, 0.0, 1.0, 2.0, 3.5]), radius=radius, centre=np.zeros((2, 5, 2))
    )
    np.testing.assert_array_equal(narrowest_radius(profile), [0.2, np.nan])


# ------------------------------------------------------------------------------- densities


def gas(n_frames, n_particles, seed=3):
    """Particles anywhere in a block of 2 x 2 x 6 nm."""
    generator = np.random.default_rng(seed)
    return generator.uniform([-1, -1, -2], [1, 1, 4], size=(n_frames, n_particles, 3))


def test_ideal_gas_has_the_density_of_its_block():
    places = gas(400, 240)
    density = PoreDensity(["water"] * 200 + ["Na"] * 40, slice_nm=0.5)
    density.add(places, lumen=lumen(400, radius=0.4))
    columns = {name: np.array(column) for name, column in density.to_columns().items()}
    for kind, n_particles in (("water", 200), ("Na", 40)):
        mine = columns["kind"] == kind
        assert mine.sum() == 9
        for name, expected in (
            ("per_nm3", n_particles / 24.0),
            ("per_nm", n_particles / 24.0 * np.pi * 0.7**2),
        ):
            apart = (columns[name][mine] - expected) / columns[f"{name}_error"][mine]
            assert np.abs(apart).max() < 4.0
            assert np.sqrt((apart**2).mean()) > 0.2
            assert columns[name][mine].mean() == pytest.approx(expected, rel=0.03)


def test_slices_hold_every_particle_of_the_lumen_once():
    places = gas(3, 500)
    density = PoreDensity(["water"] * 500, ends=(-1.0, 3.5), slice_nm=0.05)
    density.add(places, lumen=lumen(3))
    inside = (np.hypot(places[..., 0], places[..., 1]) <= 0.5) & (
        (places[..., 2] >= -1.0) & (places[..., 2] < 3.5)
    )
    columns = density.to_columns()
    assert sum(columns["per_nm"]) * 0.05 == pytest.approx(inside.sum() / 3)
    assert columns["z_nm"][0] == pytest.approx(-0.975)
    assert len(columns["z_nm"]) == 90


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_densities_do_not_depend_on_chunks(cuts):
    places = gas(60, 50)
    whole, pieces = (PoreDensity(["water"] * 50, slice_nm=0.5) for _ in range(2))
    whole.add(places, lumen=lumen(60))
    for part in np.split(np.arange(60), sorted(cuts)):
        pieces.add(places[part], lumen=lumen(len(part)))
    for name in ("per_nm", "per_nm_error", "per_nm3"):
        np.testing.assert_allclose(
            pieces.to_columns()[name], whole.to_columns()[name], rtol=1e-9, err_msg=name
        )


def test_relative_density_needs_the_bulk():
    density = PoreDensity(["water"] * 20 + ["Na"], slice_nm=1.0)
    density.add(gas(20, 21), lumen=lumen(20))
    columns = density.to_columns()
    assert np.isnan(columns["relative_to_bulk"]).all()
    assert all("not enough data" in note for note in columns["note"][:4])
    columns = density.to_columns(bulk_per_nm3=2.0)
    np.testing.assert_allclose(
        columns["relative_to_bulk"][:4], np.array(columns["per_nm3"][:4]) / 2.0
    )
    assert np.isnan(columns["relative_to_bulk"][4:]).all()


def box_of_water(size, density=33.4, seed=8):
    generator = np.random.default_rng(seed)
    return generator.uniform(-size / 2, size / 2, size=(int(density * size**3), 3))


def test_bulk_is_the_density_of_its_box():
    found = [
        bulk_density(
            box_of_water(6.0, seed=seed), solute=[[0.0, 0.0, 0.0]], centre=[0.0] * 3, radius=3.0
        )
        for seed in range(8)
    ]
    assert np.mean(found) == pytest.approx(33.4, rel=0.03)


def test_bulk_keeps_away_from_solute_and_membrane():
    """A dense shell about the solute and an empty slab do not count."""
    found = []
    for seed in range(8):
        water = np.add(box_of_water(8.0, seed=seed), [0.5, 0.0, 0.2])
        slab = np.abs(water[:, 2]) > 1.0
        shell = np.random.default_rng(seed).normal([0.5, 0.0, 2.5], 0.2, size=(2000, 3))
        found.append(
            bulk_density(
                np.concatenate([water[slab], shell]),
                solute=[[0.5, 0.0, 2.5]],
                centre=[0.5, 0.0, 0.2],
                radius=4.0,
            )
        )
    assert np.mean(found) == pytest.approx(33.4, rel=0.04)


def test_box_without_bulk_has_no_density_of_it():
    water = box_of_water(3.0)
    crowded = np.stack(np.meshgrid(*[np.arange(-1.5, 1.6, 0.5)] * 3), axis=-1).reshape(-1, 3)
    for solute, radius in ((crowded, 1.5), ([[0, 0, 0]], 0.3), ([[0, 0, 0]], np.inf)):
        assert np.isnan(bulk_density(water, solute=solute, centre=[0, 0, 0], radius=radius))
    assert np.isnan(bulk_density(water[:0], solute=crowded, centre=[0, 0, 0], radius=1.5))


def test_bad_slices_are_refused():
    with pytest.raises(PoreError, match="take thinner ones"):
        PoreDensity(["Na"], slice_nm=9.0)
    with pytest.raises(PoreError, match="take thinner ones"):
        PoreDensity(["Na"], slice_nm=0.0)
    with pytest.raises(PoreError, match="need the 1 of the first frames"):
        PoreDensity(["Na"]).add(np.zeros((1, 2, 3)), lumen=lumen(1))


# --------------------------------------------------------------------- the prepared channel


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    """The prepared receptor in its pore frame, and the middle of its lumen, (n_levels, 3)."""
    if not RECEPTOR.is_file():
        pytest.skip("needs the prepared receptor 7eu8 in structures/receptors")
    folder = tmp_path_factory.mktemp("permeation") / "run"
    write_run(folder, receptor=RECEPTOR, steps=np.zeros((1, 3)), segments=(1,))
    run = open_run(folder)
    protein = next(read_frames(run)).trajectory
    keep = np.setdiff1d(np.arange(len(run.solute)), np.searchsorted(run.solute, run.ligand_atoms))
    protein = protein.atom_slice(keep)
    profile = pore_profile(protein)
    # Smoothed, because the largest sphere may jump to another side from level to level.
    centre = uniform_filter1d(profile.centre[0], 9, axis=0, mode="nearest")
    return protein, np.column_stack([centre, profile.levels])


def with_solvent(protein, places, seed):
    """Add waters and one sodium, (n_frames, n_particles, 3), tumble everything and wrap it."""
    topology = protein.topology.copy()
    chain = topology.add_chain()
    for _ in range(places.shape[1] - 1):
        topology.add_atom("OW", md.element.oxygen, topology.add_residue("SOL", chain))
    topology.add_atom("NA", md.element.sodium, topology.add_residue("NA", chain))
    xyz = np.concatenate([np.repeat(protein.xyz, len(places), axis=0), places], axis=1)
    generator = np.random.default_rng(seed)
    turned = np.empty_like(xyz)
    box = np.empty((len(places), 3, 3))
    for frame, atoms in enumerate(xyz):
        turn = Rotation.random(random_state=generator).as_matrix()
        turned[frame] = atoms @ turn + generator.normal(scale=3.0, size=3)
        # The box stays where it is while the channel tumbles in it.
        box[frame] = BOX
    cells = generator.integers(-2, 3, size=(len(places), places.shape[1], 3)) @ BOX
    turned[:, protein.n_atoms :] += cells
    trajectory = md.Trajectory(turned.astype(np.float32), topology, time=2.0 * np.arange(len(xyz)))
    trajectory.unitcell_vectors = box.astype(np.float32)
    return trajectory


def along(middle, heights):
    return np.column_stack([np.interp(heights, middle[:, 2], middle[:, i]) for i in (0, 1)]
                           + [heights])  # fmt: skip


@pytest.fixture(scope="module")
def wet(channel):
    """Even frames have a whole chain of waters, odd ones a gap at 1 nm; a sodium walks through."""
    protein, middle = channel
    heights = np.arange(-1.25, 3.4, 0.1)
    waters = np.repeat(along(middle, heights)[None], 12, axis=0)
    waters[1::2, np.abs(heights - 1.0) < 0.2] = [3.0, 0.0, 1.0]
    sodium = along(middle, np.linspace(-1.2, 3.4, 12))[:, None]
    return with_solvent(protein, np.concatenate([waters, sodium], axis=1), seed=4)


def test_water_path_of_the_prepared_channel(wet, channel):
    guest = [channel[0].topology.select("name CA")[0]]
    found = water_paths(wet, ligand_atoms=guest)
    assert found.through.tolist() == [1.0, 0.0] * 6
    assert (found.from_inside[1], found.from_outside[1]) == pytest.approx((0.75, 1.25), abs=1e-2)


def test_sodium_through_the_prepared_channel_is_one_passage(wet):
    passages = count_passages(wet)
    assert tally(passages) == (1, 0)
    assert passages.passages[0].kind == "Na"
    crossings = {
        (rate.place, rate.direction): rate.count for rate in passages.rates() if rate.kind == "Na"
    }
    assert crossings["asparagine ring", "out"] == crossings["vivi ring", "out"] == 1
    assert {count for (_, direction), count in crossings.items() if direction == "in"} == {0}


def test_chunks_of_a_trajectory_join(wet):
    whole, parts = count_passages(wet), count_passages([wet[:5], wet[5:6], wet[6:]])
    assert parts.rates() == whole.rates()
    np.testing.assert_array_equal(water_paths([wet[:5], wet[5:]]).through, water_paths(wet).through)


def test_density_of_the_prepared_channel_holds_all_its_waters(wet):
    density = particle_density(wet).to_columns()
    kinds = np.array(density["kind"])
    total = {kind: np.array(density["per_nm"])[kinds == kind].sum() * 0.05 for kind in set(kinds)}
    # 44 of the 47 waters lie above -1 nm, four of them in every second frame only.
    assert total["water"] == pytest.approx(44 - 4 / 2)
    assert total["Na"] == pytest.approx(11 / 12, abs=0.1)


def test_trajectories_without_what_is_asked_are_refused(channel, wet):
    protein, _ = channel
    with pytest.raises(SelectionError, match="no water;"):
        water_paths(protein)
    with pytest.raises(SelectionError, match="no water and ions"):
        count_passages(protein)
    with pytest.raises(TrajectoryError, match="no frame"):
        water_paths(wet[:0])


def test_snippet_of_the_documents_runs(wet, channel, tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "blockade-and-permeation.md"
    snippet = page.read_text().split("```python\n")[1].split("```")[0]
    wet.save_xtc(str(tmp_path / "channel.xtc"))
    wet[0].save_pdb(str(tmp_path / "channel.pdb"))
    monkeypatch.chdir(tmp_path)
    names = {"atoms": channel[0].topology.select("name CA")[:1]}
    exec(snippet, names)
    assert len(names["passages"].passages) == 1
