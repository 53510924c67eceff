import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import poisson

from nmdasim.errors import StatisticsError
from nmdasim.statistics import (
    MIN_EFFECTIVE,
    Estimate,
    block_error,
    combine_replicas,
    estimate_mean,
    estimate_occupancy,
    poisson_interval,
    statistical_inefficiency,
    wilson_interval,
)


def ar1(phi: float, n_frames: int, seed: int) -> np.ndarray:
    """Stationary AR(1) series with unit variance: C(t) = phi**t, g = (1 + phi) / (1 - phi)."""
    noise = np.random.default_rng(seed).normal(size=n_frames)
    noise[1:] *= math.sqrt(1.0 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.95])
def test_inefficiency_of_an_ar1_series_is_the_closed_form(phi):
    measured = np.mean([statistical_inefficiency(ar1(phi, 20_000, seed)) for seed in range(20)])
    assert measured == pytest.approx((1.0 + phi) / (1.0 - phi), rel=0.1)


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_error_of_the_mean_covers_the_truth_as_often_as_one_sigma_should(phi):
    covered = []
    for seed in range(400):
        estimate = estimate_mean(ar1(phi, 2_000, seed), name="x", unit="nm")
        covered.append(abs(estimate.mean) <= estimate.error)
    # 68.3 % expected; four standard errors of 400 trials are 9.3 %.
    assert np.mean(covered) == pytest.approx(0.683, abs=0.093)


def test_error_of_white_noise_is_sigma_over_root_n():
    errors = [estimate_mean(ar1(0.0, 5_000, seed), name="x", unit="").error for seed in range(50)]
    assert np.mean(errors) == pytest.approx(1.0 / math.sqrt(5_000), rel=0.1)


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_block_error_agrees_with_the_closed_form_of_ar1(phi):
    errors = [block_error(ar1(phi, 20_000, seed), n_blocks=50) for seed in range(30)]
    expected = math.sqrt((1.0 + phi) / (1.0 - phi) / 20_000)
    assert np.mean(errors) == pytest.approx(expected, rel=0.1)


def test_blocks_leave_out_the_start_that_does_not_fill_one():
    series = [100.0, 1.0, 1.0, 3.0, 3.0]
    # Blocks 1, 3: standard deviation sqrt(2), error sqrt(2) / sqrt(2) = 1.
    assert block_error(series, n_blocks=2) == pytest.approx(1.0)


@settings(deadline=None, max_examples=50)
@given(
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e3, 1e3),
    phi=st.floats(0.0, 0.9),
    seed=st.integers(0, 2**31),
)
def test_estimates_follow_a_change_of_unit_and_origin(scale, shift, phi, seed):
    series = ar1(phi, 400, seed)
    plain = estimate_mean(series, name="x", unit="nm")
    moved = estimate_mean(scale * (series + shift), name="x", unit="nm")
    assert moved.mean == pytest.approx(scale * (plain.mean + shift), rel=1e-6, abs=1e-9 * scale)
    assert moved.n_effective == pytest.approx(plain.n_effective, rel=1e-5)
    assert moved.error == pytest.approx(scale * plain.error, rel=1e-5, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), phi=st.floats(0.0, 0.9))
def test_time_reversal_changes_nothing(seed, phi):
    series = ar1(phi, 300, seed)
    forward = estimate_mean(series, name="x", unit="nm")
    backward = estimate_mean(series[::-1], name="x", unit="nm")
    assert backward.n_effective == pytest.approx(forward.n_effective)
    assert backward.mean == pytest.approx(forward.mean)


def test_occupancy_and_absence_have_the_same_error():
    series = ar1(0.7, 2_000, 3) > 0.5
    present = estimate_occupancy(series, name="contact")
    absent = estimate_occupancy(~series, name="contact")
    assert present.mean == pytest.approx(1.0 - absent.mean)
    assert present.error == pytest.approx(absent.error)


def test_occupancy_error_covers_the_truth():
    truth = 0.9
    covered = []
    for seed in range(400):
        series = np.random.default_rng(seed).random(200) < truth
        estimate = estimate_occupancy(series, name="contact")
        covered.append(abs(estimate.mean - truth) <= estimate.error)
    assert 0.62 <= np.mean(covered) <= 0.80


@pytest.mark.parametrize("state", [True, False])
def test_a_contact_that_never_changes_is_bounded_by_its_companion(state):
    estimate = estimate_occupancy([state] * 1_000, name="contact", inefficiency=50.0)
    assert estimate.mean == float(state)
    assert estimate.n_effective == pytest.approx(20.0)
    assert estimate.error == pytest.approx(1.0 / 21.0)
    assert "no change was seen" in estimate.note


def test_a_contact_that_never_changes_has_no_error_of_its_own():
    estimate = estimate_occupancy([True] * 1_000, name="contact")
    assert math.isnan(estimate.error)
    assert math.isnan(estimate.n_effective)
    assert "never changes" in estimate.note


def test_the_slower_of_contact_and_companion_counts():
    series = np.random.default_rng(0).random(1_000) < 0.5
    alone = estimate_occupancy(series, name="contact")
    slow = estimate_occupancy(series, name="contact", inefficiency=20.0)
    assert alone.n_effective > 500
    assert slow.n_effective == pytest.approx(50.0)
    assert slow.error > alone.error


def test_constant_series_has_a_mean_and_no_error():
    estimate = estimate_mean([2.5] * 100, name="x", unit="nm")
    assert estimate.mean == 2.5
    assert math.isnan(estimate.error)
    assert "never changes" in estimate.note


@pytest.mark.parametrize("n_frames", [0, 1, 2, int(MIN_EFFECTIVE) - 1])
def test_few_frames_are_not_enough_data(n_frames):
    estimate = estimate_mean(np.arange(n_frames) % 2, name="x", unit="nm")
    assert math.isnan(estimate.error)
    assert estimate.note.startswith("not enough data")
    assert estimate.n_frames == n_frames


def test_many_frames_of_a_slow_process_are_not_enough_data():
    estimate = estimate_mean(np.linspace(0.0, 1.0, 10_000), name="x", unit="nm")
    assert estimate.n_effective < MIN_EFFECTIVE
    assert math.isnan(estimate.error)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_numbers_are_refused(bad):
    with pytest.raises(StatisticsError, match="1 of 3 values"):
        estimate_mean([1.0, bad, 2.0], name="x", unit="nm")


def test_occupancy_of_other_values_is_refused():
    with pytest.raises(StatisticsError, match="True and False"):
        estimate_occupancy([0.0, 0.5, 1.0], name="contact")


def test_two_dimensional_series_is_refused():
    with pytest.raises(StatisticsError, match=r"shape \(2, 3\)"):
        statistical_inefficiency(np.zeros((2, 3)))


@pytest.mark.parametrize("n_blocks", [0, 1, 4])
def test_impossible_blocks_are_refused(n_blocks):
    with pytest.raises(StatisticsError, match="blocks for 3 frames"):
        block_error([1.0, 2.0, 3.0], n_blocks=n_blocks)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.02532, 5.572), (10, 4.795, 18.39)]
)
def test_poisson_interval_is_that_of_the_tables(count, low, high):
    assert poisson_interval(count) == pytest.approx((low, high), rel=5e-4)


@given(count=st.integers(0, 5000), level=st.floats(0.5, 0.999))
def test_ends_of_the_poisson_interval_leave_out_equal_tails(count, level):
    low, high = poisson_interval(count, level=level)
    tail = (1.0 - level) / 2.0
    assert poisson.cdf(count, high) == pytest.approx(tail, rel=1e-6)
    assert count == 0 or poisson.sf(count - 1, low) == pytest.approx(tail, rel=1e-6)


@pytest.mark.parametrize(("count", "level"), [(-1, 0.95), (3, 1.0), (3, 0.0)])
def test_poisson_interval_of_nonsense_is_refused(count, level):
    with pytest.raises(StatisticsError, match="cannot be negative"):
        poisson_interval(count, level=level)


def test_wilson_interval_is_that_of_the_paper():
    # Newcombe, Stat. Med. 17, 857 (1998), table I: 81 of 263, 95 %: 0.2553 to 0.3662.
    assert wilson_interval(81 / 263, 263, z=1.959964) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(share=st.floats(0.0, 1.0), n_samples=st.floats(1.0, 1e6))
def test_wilson_interval_holds_the_share_and_stays_a_share(share, n_samples):
    low, high = wilson_interval(share, n_samples)
    assert 0.0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1.0


def test_impossible_share_is_refused():
    with pytest.raises(StatisticsError, match=r"share of 1\.5"):
        wilson_interval(1.5, 10)


def replica(mean: float, error: float, n_effective: float = 50.0) -> Estimate:
    return Estimate(
        name="depth", unit="nm", mean=mean, error=error, n_frames=100, n_effective=n_effective
    )


def test_agreeing_replicas_gain_root_n():
    combined = combine_replicas([replica(1.0, 0.2), replica(1.0, 0.2), replica(1.0, 0.2)])
    assert combined.error == pytest.approx(0.2 / math.sqrt(3))
    assert combined.n_effective == pytest.approx(150.0)
    assert combined.note == ""


def test_disagreeing_replicas_count_as_single_samples():
    combined = combine_replicas([replica(0.0, 0.01), replica(1.0, 0.01)])
    assert combined.mean == pytest.approx(0.5)
    assert combined.error == pytest.approx(0.5)
    assert combined.n_effective == 2
    assert "differ" in combined.note


def test_replicas_without_errors_need_three():
    two = [replica(0.0, math.nan), replica(1.0, math.nan)]
    assert math.isnan(combine_replicas(two).error)
    assert combine_replicas([*two, replica(2.0, math.nan)]).error == pytest.approx(1 / math.sqrt(3))


def test_a_single_replica_is_returned_as_it_is():
    only = replica(1.0, 0.1)
    assert combine_replicas([only]) == only


def test_different_observables_are_not_combined():
    other = Estimate(name="tilt", unit="deg", mean=1, error=1, n_frames=9, n_effective=9)
    with pytest.raises(StatisticsError, match="2 observables"):
        combine_replicas([replica(1.0, 0.1), other])


def test_no_replica_is_refused():
    with pytest.raises(StatisticsError, match="0 estimates"):
        combine_replicas([])
