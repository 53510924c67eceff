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
    Answer,
    Estimate,
    RunningMeans,
    block_error,
    bootstrap_means,
    combine_replicas,
    compare_estimates,
    compare_shares,
    confidence_interval,
    correlation_time,
    detect_equilibration,
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


SLOW = np.cos(np.linspace(0.0, 3.0, 20_000)) + ar1(0.0, 20_000, 4)


@pytest.mark.parametrize("series", [ar1(0.9, 20_000, 3), SLOW])
def test_inefficiency_of_a_long_series_is_its_definition(series):
    """It is summed in blocks, over as many lags as are needed: few, or half of all."""
    n = len(series)
    shifted = series - series.mean()
    correlation = []
    while len(correlation) < 4 or correlation[-1] > 0.0:
        lag = len(correlation) + 1
        product = shifted[:-lag] @ shifted[lag:] / (n - lag)
        correlation.append(product / np.mean(shifted**2))
    lags = np.arange(1, len(correlation))
    total = 1.0 + 2.0 * ((1.0 - lags / n) * correlation[:-1]).sum()
    phi = correlation[0] * (n - 1) / n
    phi += (1.0 + 3.0 * phi) / n
    expected = max(total, (1.0 + phi) / (1.0 - phi))
    assert statistical_inefficiency(series) == pytest.approx(expected, rel=1e-9)


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


# ------------------------------------------------------------------------- equilibration


def test_a_drift_at_the_start_is_cut_off():
    settled = ar1(0.5, 2_000, 5)
    drifting = settled + 8.0 * np.exp(-np.arange(2_000) / 60.0)
    first = detect_equilibration(drifting)
    # After 120 frames 8 exp(-t / 60) is 1.1, as much as the noise; after 1000 nothing.
    assert 120 <= first <= 1_000
    estimate = estimate_mean(drifting, name="x", unit="nm", equilibrate=True)
    assert estimate.n_discarded == first
    assert estimate.n_frames == 2_000 - first
    assert estimate.mean == pytest.approx(0.0, abs=5 * estimate.error)
    whole = estimate_mean(drifting, name="x", unit="nm")
    assert whole.n_effective < estimate.n_effective / 2
    assert whole.n_discarded == 0


def test_a_step_is_cut_at_the_step():
    series = np.concatenate([np.full(100, 50.0), ar1(0.0, 900, 2)])
    assert 100 <= detect_equilibration(series) <= 150


def test_a_stationary_series_is_rarely_cut():
    cut = [detect_equilibration(ar1(0.5, 500, seed)) > 0 for seed in range(100)]
    assert np.mean(cut) <= 0.1


def test_the_end_of_a_series_is_never_taken_for_the_whole():
    late = np.concatenate([np.linspace(0.0, 50.0, 900), 50.0 + ar1(0.0, 100, 1)])
    assert detect_equilibration(late) <= 500
    estimate = estimate_mean(late, name="x", unit="nm", equilibrate=True)
    assert math.isnan(estimate.error)
    assert (estimate.n_discarded, estimate.n_frames) == (0, 1_000)


def test_a_long_series_is_cut_between_blocks():
    series = np.concatenate([np.full(5_000, 9.0), ar1(0.9, 95_000, 1)])
    assert 5_000 <= detect_equilibration(series) <= 8_000


@pytest.mark.parametrize("series", [[], [1.0], [2.0] * 50, [1.0, 2.0, 3.0]])
def test_nothing_is_cut_where_nothing_can_be_told(series):
    assert detect_equilibration(series) == 0


def test_correlation_time_of_ar1_is_the_closed_form():
    measured = [correlation_time(ar1(0.8, 20_000, seed), interval=2.0) for seed in range(10)]
    # (g - 1) / 2 with g = 9 is four frames of 2 ps.
    assert np.mean(measured) == pytest.approx(8.0, rel=0.1)
    with pytest.raises(StatisticsError, match="0 ps between frames"):
        correlation_time([1.0, 2.0], interval=0)


# ------------------------------------------------------------------------------ coverage


@pytest.mark.parametrize(
    ("phi", "n_frames", "least"),
    [
        pytest.param(0.0, 500, 0.91, marks=pytest.mark.slow),
        (0.8, 500, 0.91),
        pytest.param(0.95, 4_000, 0.91, marks=pytest.mark.slow),
        (0.8, 200, 0.89),
    ],
)
def test_intervals_of_95_percent_cover_the_truth_about_that_often(phi, n_frames, least):
    # 200 trials of a true 95 % scatter by 1.5 %. The last row has 22 independent samples, whose
    # number is itself estimated: that costs some percent.
    covered = []
    for seed in range(200):
        series = ar1(phi, n_frames, seed)
        low, high = confidence_interval(estimate_mean(series, name="x", unit="", equilibrate=True))
        covered.append(low <= 0.0 <= high)
    assert least <= np.mean(covered) <= 0.985


def test_a_series_too_short_for_its_correlation_seldom_gets_an_error():
    # Five independent samples, half of what an error needs, and no way to see that for certain.
    notes = [estimate_mean(ar1(0.95, 200, seed), name="x", unit="").note for seed in range(200)]
    assert np.mean(["not enough data" in note for note in notes]) > 0.75


def test_interval_of_few_samples_is_wider_than_that_of_the_normal_distribution():
    few = replica(0.0, 1.0, n_effective=11.0)
    # Two-sided 95 % of Student's t with 10 degrees of freedom: 2.228.
    assert confidence_interval(few) == pytest.approx((-2.228, 2.228), abs=5e-4)
    assert math.isnan(confidence_interval(replica(0.0, math.nan, math.nan))[0])
    with pytest.raises(StatisticsError, match="level of 95"):
        confidence_interval(few, level=95)


# ----------------------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_moving_blocks_give_the_error_of_the_closed_form(phi):
    errors = [bootstrap_means([ar1(phi, 4_000, s)], seed=s).std() for s in range(20)]
    expected = math.sqrt((1.0 + phi) / (1.0 - phi) / 4_000)
    assert np.mean(errors) == pytest.approx(expected, rel=0.12)


def test_scatter_between_replicas_is_resampled_too():
    random = np.random.default_rng(3)
    shifts = random.normal(size=40)
    replicas = [shift + ar1(0.5, 400, i) for i, shift in enumerate(shifts)]
    means = bootstrap_means(replicas, n_resamples=4_000)
    # Between: 1 / sqrt(40); within adds 3 / 400 / 40, which is nothing.
    assert means.std() == pytest.approx(shifts.std(ddof=1) / math.sqrt(40), rel=0.1)
    assert means.mean() == pytest.approx(np.mean([r.mean() for r in replicas]), abs=0.02)


def test_two_replicas_are_not_taken_for_more_alike_than_they_are():
    still = [np.zeros(50), np.ones(50)]
    means = bootstrap_means(still, n_resamples=20_000)
    # Between: standard deviation sqrt(1/2) over sqrt(2).
    assert means.std() == pytest.approx(0.5, rel=0.03)


def test_bootstrap_is_the_same_for_the_same_seed_and_not_for_another():
    series = [ar1(0.3, 200, 1)]
    first, again = bootstrap_means(series, seed=4), bootstrap_means(series, seed=4)
    np.testing.assert_array_equal(first, again)
    assert (first != bootstrap_means(series, seed=5)).any()


@pytest.mark.parametrize("replicas", [[], [[]], [[1.0, 2.0], []]])
def test_nothing_to_resample_is_refused(replicas):
    with pytest.raises(StatisticsError, match="at least one of each"):
        bootstrap_means(replicas)


# ---------------------------------------------------------------------------- comparison


def replicas_of(mean, spread, count, seed):
    means = mean + spread * np.random.default_rng(seed).normal(size=count)
    return [replica(m, 0.01) for m in means]


@pytest.mark.parametrize("counts", [(2, 3), (3, 3), (5, 8)])
def test_interval_of_a_difference_covers_the_truth_across_replicas(counts):
    covered = []
    for seed in range(400):
        first = replicas_of(1.0, 0.2, counts[0], 2 * seed)
        second = replicas_of(1.5, 0.4, counts[1], 2 * seed + 1)
        found = compare_estimates(first, second)
        covered.append(found.low <= 0.5 <= found.high)
    # Welch's interval is approximate; four standard errors of 400 trials are 4.4 %.
    assert 0.90 <= np.mean(covered) <= 0.995


def test_welch_is_that_of_scipy():
    from scipy.stats import ttest_ind

    first, second = replicas_of(1.0, 0.2, 4, 1), replicas_of(1.2, 0.3, 6, 2)
    expected = ttest_ind(
        [e.mean for e in second], [e.mean for e in first], equal_var=False
    ).confidence_interval(0.95)
    found = compare_estimates(first, second)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n_first, found.n_second) == (4, 6)


@pytest.mark.parametrize(
    ("shift", "answer"),
    [(1.0, Answer.HIGHER), (-1.0, Answer.LOWER), (0.0, Answer.NO_DIFFERENCE_SEEN)],
)
def test_a_difference_is_told_from_chance(shift, answer):
    base = [replica(m, 0.01) for m in (1.0, 1.1, 0.9)]
    other = [replica(m + shift, 0.01) for m in (0.9, 1.1, 1.0)]
    found = compare_estimates(base, other)
    assert found.answer is answer
    assert found.difference == pytest.approx(shift)
    swapped = compare_estimates(other, base)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


def test_two_single_trajectories_are_not_enough_data():
    found = compare_estimates([replica(1.0, 0.1)], [replica(5.0, 0.1)])
    assert found.answer is Answer.NOT_ENOUGH_DATA
    assert 3.5 < found.low < 4.0 < found.high < 4.5
    assert "single replica" in found.note


@pytest.mark.parametrize("count", [1, 2])
def test_sides_without_errors_are_not_enough_data(count):
    short = [replica(1.0 + i, math.nan, math.nan) for i in range(count)]
    found = compare_estimates(short, [replica(5.0, 0.1), replica(5.1, 0.1)])
    assert found.answer is Answer.NOT_ENOUGH_DATA
    assert math.isnan(found.low)
    assert "run longer" in found.note


def test_unlike_observables_and_levels_are_refused():
    other = Estimate(name="tilt", unit="deg", mean=1, error=1, n_frames=9, n_effective=9)
    with pytest.raises(StatisticsError, match=r"depth \(nm\) and tilt \(deg\)"):
        compare_estimates([replica(1.0, 0.1)], [other])
    with pytest.raises(StatisticsError, match="level of 1"):
        compare_estimates([replica(1.0, 0.1)], [replica(1.0, 0.1)], level=1.0)


def share(mean, n_effective, error=0.05):
    return Estimate(
        name="contact", unit="", mean=mean, error=error, n_frames=200, n_effective=n_effective
    )


def test_difference_of_shares_is_that_of_the_paper():
    # Newcombe, Stat. Med. 17, 873 (1998), table II, method 10: 56/70 - 48/80.
    found = compare_shares([share(48 / 80, 80)], [share(56 / 70, 70)])
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.answer is Answer.NOT_ENOUGH_DATA


def test_shares_of_replicas_stay_within_one():
    always = [share(1.0, 100, 0.01), share(0.7, 100, 0.05)]
    never = [share(0.0, 100, 0.01), share(0.0, 100, 0.01)]
    found = compare_shares(never, always)
    assert found.high == 1.0
    assert found.low < found.difference == pytest.approx(0.85)


def test_what_is_no_share_is_refused():
    with pytest.raises(StatisticsError, match=r"share of 1\.2"):
        compare_shares([share(1.2, 10)], [share(0.5, 10)])


# ------------------------------------------------------------------------ running means


def added(series, *, chunk, **options):
    running = RunningMeans(series.shape[1], **options)
    for start in range(0, len(series), chunk):
        running.add(series[start : start + chunk])
    return running


def holes(series, seed):
    broken = series.copy()
    broken[np.random.default_rng(seed).random(series.shape) < 0.2] = math.nan
    return broken


@settings(deadline=None, max_examples=25)
@given(
    n_frames=st.integers(1, 255),
    chunk=st.integers(1, 300),
    phi=st.floats(0.0, 0.95),
    seed=st.integers(0, 999),
)
def test_running_means_of_a_short_series_are_exact(n_frames, chunk, phi, seed):
    series = holes(
        np.stack([ar1(phi, n_frames, seed), 7.0 + ar1(0.0, n_frames, seed + 1)], 1), seed
    )
    found = added(series, chunk=chunk).estimate()
    for column in range(2):
        values = series[:, column]
        expected = estimate_mean(values[~np.isnan(values)], name="x", unit="")
        assert found.n_defined[column] == expected.n_frames
        assert found.mean[column] == pytest.approx(expected.mean, nan_ok=True)
        assert found.n_effective[column] == pytest.approx(expected.n_effective, nan_ok=True)
        assert found.error[column] == pytest.approx(expected.error, nan_ok=True)


@pytest.mark.parametrize("phi", [0.0, 0.8, 0.99])
def test_running_error_of_a_long_series_agrees_with_the_whole(phi):
    series = np.stack([5.0 + ar1(phi, 40_123, seed) for seed in range(12)], axis=1)
    found = added(holes(series, 1) if phi == 0.0 else series, chunk=100).estimate()
    whole = [estimate_mean(column, name="x", unit="") for column in series.T]
    if phi:
        assert found.mean == pytest.approx([e.mean for e in whole], rel=1e-12)
        assert found.deviation == pytest.approx(series.std(axis=0), rel=1e-9)
    truth = math.sqrt((1.0 + phi) / (1.0 - phi) / found.n_defined.mean())
    assert np.median(found.error) == pytest.approx(truth, rel=0.15)
    if phi:
        assert np.median(found.error) == pytest.approx(np.median([e.error for e in whole]), rel=0.1)


def test_running_means_do_not_depend_on_the_chunks():
    series = holes(ar1(0.7, 9_000, 1).reshape(-1, 3), 3)
    found = [added(series, chunk=chunk).estimate() for chunk in (1, 7, 100, 3_000)]
    for other in found[1:]:
        assert other.mean == pytest.approx(found[0].mean, rel=1e-12)
        assert other.error == pytest.approx(found[0].error, rel=1e-9)


def test_running_means_leave_out_the_start():
    series = np.concatenate([np.full((1_000, 1), 50.0), ar1(0.0, 9_000, 1)[:, None]])
    running = added(series, chunk=128)
    assert running.n_frames == 10_000
    assert running.estimate().mean[0] == pytest.approx(5.0, abs=0.1)
    cut = running.estimate(first_frame=1_000)
    assert cut.mean[0] == pytest.approx(0.0, abs=0.05)
    assert 8_900 <= cut.n_defined[0] <= 9_000
    assert running.estimate(first_frame=10_001).n_defined[0] == 0


def test_memory_of_running_means_is_flat():
    running = RunningMeans(3, max_batches=64)
    block = np.ones((1_000, 3))
    before = [getattr(running, name).nbytes for name in ("_count", "_mean", "_squares")]
    for _ in range(100):
        running.add(block)
    assert running.n_frames == 100_000
    assert [getattr(running, n).nbytes for n in ("_count", "_mean", "_squares")] == before
    found = running.estimate()
    assert found.mean.tolist() == [1.0] * 3
    assert np.isnan(found.error).all()


def test_a_column_that_is_never_defined_has_no_mean():
    running = RunningMeans(2)
    running.add(np.column_stack([np.full(50, math.nan), ar1(0.0, 50, 1)]))
    found = running.estimate()
    assert math.isnan(found.mean[0])
    assert math.isnan(found.error[0])
    assert found.n_defined.tolist() == [0, 50]
    assert found.error[1] > 0.0


@pytest.mark.parametrize("n_frames", [0, 1])
def test_running_means_of_nearly_nothing(n_frames):
    running = RunningMeans(1)
    running.add(np.ones((n_frames, 1)))
    found = running.estimate()
    assert math.isnan(found.error[0])
    assert found.n_defined[0] == n_frames


@pytest.mark.parametrize(
    ("frames", "words"),
    [(np.zeros(3), r"shape \(3,\)"), (np.zeros((2, 4)), "4"), ([[math.inf] * 3], "infinite")],
)
def test_frames_that_do_not_fit_are_refused(frames, words):
    with pytest.raises(StatisticsError, match=words):
        RunningMeans(3).add(frames)


@pytest.mark.parametrize(("columns", "batches"), [(-1, 256), (3, 65), (3, 10)])
def test_impossible_sizes_are_refused(columns, batches):
    with pytest.raises(StatisticsError, match="even number"):
        RunningMeans(columns, max_batches=batches)
