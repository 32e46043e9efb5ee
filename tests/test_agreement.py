"""Agreement: scipy.stats one column at a time, a bootstrap as a plain loop, and cases computed by hand."""

import json

import numpy as np
import pytest
from scipy import stats

from influence_cli.cli import run
from influence_cli.core import agreement


def example(groups=23, tests=4, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(groups, tests)) + 100.0 * np.arange(tests)
    estimate = 0.5 * truth + 0.3 * rng.normal(size=(groups, tests))
    estimate[3, 0] = truth[5, 1] = np.nan
    truth[6, 1], estimate[7, 1] = np.inf, -np.inf
    return estimate, np.round(truth, 1)  # ties


def columns(estimate, truth):
    for x, y in zip(estimate.T, truth.T, strict=True):
        keep = np.isfinite(x) & np.isfinite(y)
        yield x[keep], y[keep]


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_correlation_and_slope_are_scipys(scale):
    estimate, truth = example()
    pairs = list(columns(estimate, truth))
    got = agreement.pearson(estimate * scale, truth)
    np.testing.assert_allclose(got, [stats.pearsonr(x, y).statistic for x, y in pairs], rtol=1e-12)
    got = agreement.spearman(estimate * scale, truth)
    np.testing.assert_allclose(got, [stats.spearmanr(x, y).statistic for x, y in pairs], rtol=1e-12)
    lines = [stats.linregress(x, y).slope for x, y in pairs]
    np.testing.assert_allclose(agreement.slope(estimate * scale, truth * scale), lines, rtol=1e-11)


def test_errors_are_their_formulas():
    estimate, truth = example()
    pairs = list(columns(estimate, truth))
    errors = {
        agreement.rmse: lambda x, y: np.sqrt(np.mean((x - y) ** 2)),
        agreement.relative_error: lambda x, y: np.linalg.norm(x - y) / np.linalg.norm(y),
        agreement.sign_agreement: lambda x, y: np.mean(np.sign(x) == np.sign(y)),
    }
    for function, formula in errors.items():
        np.testing.assert_allclose(function(estimate, truth), [formula(x, y) for x, y in pairs], rtol=1e-12)


def test_by_hand():
    truth = np.array([[1.0], [2.0], [3.0], [0.0]])
    estimate = np.array([[2.0], [4.0], [6.0], [0.0]])
    assert agreement.pearson(estimate, truth)[0] == pytest.approx(1, abs=1e-15)
    assert agreement.slope(estimate, truth)[0] == pytest.approx(0.5, abs=1e-15)  # truth on estimate, not the reverse
    assert agreement.relative_error(estimate, truth)[0] == pytest.approx(1, abs=1e-15)
    assert agreement.rmse(estimate, truth)[0] == pytest.approx(np.sqrt(14 / 4))
    assert agreement.sign_agreement(-estimate, truth)[0] == 0.25  # 0 agrees with 0
    assert agreement.spearman(-(estimate**3), truth)[0] == -1


def test_one_slope_for_all_ignores_differences_between_test_rows():
    x = np.array([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]])
    truth = 3 * x + np.array([0.0, -500.0])
    assert agreement.common_slope(x, truth) == pytest.approx(3, rel=1e-12)
    # (within column) sums of products 2 and 8 * 5 over sums of squares 2 and 8
    x, truth = np.array([[0.0, 0], [1, 2], [2, 4]]), np.array([[0.0, 7], [1, 17], [2, 27]])
    assert agreement.common_slope(x, truth) == pytest.approx((2 + 40) / 10)


@pytest.mark.parametrize(
    ("estimate", "truth", "reason"),
    [
        ([1, 2, 3], [5, 5, 5], "constant truth"),
        ([0.1, 0.1, 0.1], [1, 2, 3], "constant estimate"),
        ([1, 2, np.nan], [1, 2, 3], "fewer than 3 groups"),
        ([np.nan] * 3, [1, 2, 3], "no values"),
        ([1, 2, 3], [0.3, 0.1 + 0.2, 0.3], "constant truth"),
        ([1, 2, 3], [1, 2, 4], ""),
    ],
)
def test_what_is_not_defined_is_nan_and_has_a_reason(estimate, truth, reason):
    x, y = np.array(estimate, dtype=float)[:, None], np.array(truth, dtype=float)[:, None]
    assert agreement.undefined(x, y) == [reason]
    assert np.isnan(agreement.pearson(x, y)[0]) == np.isnan(agreement.spearman(x, y)[0]) == bool(reason)


def test_no_pairs_and_a_truth_of_zero():
    nothing = np.full((3, 1), np.nan)
    for function in (agreement.rmse, agreement.relative_error, agreement.sign_agreement, agreement.slope):
        assert np.isnan(function(nothing, nothing)[0])
        assert np.isnan(function(np.empty((0, 1)), np.empty((0, 1)))[0])
    assert np.isnan(agreement.common_slope(nothing, nothing))
    assert np.isnan(agreement.relative_error(np.ones((3, 1)), np.zeros((3, 1)))[0])
    assert agreement.rmse(np.ones((3, 1)), np.zeros((3, 1)))[0] == 1


def test_pooling_is_the_mean_of_what_is_defined():
    assert agreement.pooled(np.array([0.5, np.nan, 0.7])) == pytest.approx(0.6)
    assert np.isnan(agreement.pooled(np.array([np.nan])))


def test_the_bootstrap_is_the_plain_loop():
    estimate, truth = example(groups=9)
    other = np.round(estimate, 0)
    got = agreement.bootstrap_pearson([estimate, other], truth, 60, seed=4)
    rng = np.random.default_rng(4)
    drawn = rng.integers(9, size=(60, 9))
    compared = 0
    for number, values in enumerate((estimate, other)):
        for b, rows in enumerate(drawn):
            for t, (x, y) in enumerate(zip(values[rows].T, truth[rows].T, strict=True)):
                keep = np.isfinite(x) & np.isfinite(y)
                x, y = x[keep], y[keep]
                if len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0:
                    compared += 1
                    expected = (x - x.mean()) @ (y - y.mean()) / len(x) / (x.std() * y.std())
                    assert got[number, b, t] == pytest.approx(expected, abs=1e-9)
                else:
                    assert np.isnan(got[number, b, t])
    assert compared > 400


def test_resamples_in_chunks_are_those_in_one(monkeypatch):
    whole = next(agreement.resample_weights(9, 50, 3))
    monkeypatch.setattr(agreement, "CHUNK_BYTES", 8 * 9 * 11)
    parts = list(agreement.resample_weights(9, 50, 3))
    assert [len(part) for part in parts] == [11, 11, 11, 11, 6]
    assert (np.concatenate(parts) == whole).all()
    assert (whole.sum(1) == 9).all()
    estimate, truth = example(groups=9)
    in_parts = agreement.bootstrap_pearson([estimate], truth, 50, 3)
    monkeypatch.undo()
    np.testing.assert_allclose(in_parts, agreement.bootstrap_pearson([estimate], truth, 50, 3), atol=1e-13)


def bca(estimate, truth, resamples, seed):
    """The interval of every column, and r."""
    samples = agreement.bootstrap_pearson([estimate], truth, resamples, seed)[0]
    point, without = agreement.pearson(estimate, truth), agreement.jackknife_pearson([estimate], truth)[0]
    return *agreement.interval(samples, point, without), point


def scipys(statistic, groups, resamples, seed):
    """scipy's BCa interval of a statistic of the numbers of the groups drawn."""
    rng = np.random.default_rng(seed)
    options = {"n_resamples": resamples, "method": "BCa", "vectorized": False, "random_state": rng}
    found = stats.bootstrap((np.arange(groups),), statistic, **options).confidence_interval
    return found.low, found.high


def plain_r(x, y):
    keep = np.isfinite(x) & np.isfinite(y)
    return np.corrcoef(x[keep], y[keep])[0, 1]


def test_leaving_one_group_out_is_the_plain_loop():
    estimate, truth = example(groups=9)
    found = agreement.jackknife_pearson([estimate, 2.0 - truth], truth)
    for g in range(9):
        x, y = np.delete(estimate, g, axis=0), np.delete(truth, g, axis=0)
        np.testing.assert_allclose(found[0, g], agreement.pearson(x, y), rtol=1e-10)
    np.testing.assert_allclose(found[1], -1.0, rtol=1e-10)
    lone = np.array([[0.0], [0.0], [0.0], [5.0]])  # without the last group nothing varies
    assert np.isfinite(agreement.jackknife_pearson([lone], lone**2)[0, :, 0]).tolist() == [True, True, True, False]


def test_intervals_are_scipys_one_by_one_pooled_and_of_a_difference():
    estimate, truth = example(groups=14)
    other = estimate + np.random.default_rng(8).normal(size=estimate.shape)
    low, high, _ = bca(estimate, truth, 600, 5)
    for t in range(truth.shape[1]):
        expected = scipys(lambda rows, t=t: plain_r(estimate[rows, t], truth[rows, t]), 14, 600, 5)
        assert (low[t], high[t]) == pytest.approx(expected, abs=1e-7)

    def gap(rows):
        return np.mean([plain_r(x[rows], y[rows]) for x, y in zip(estimate.T, truth.T, strict=True)]) - np.mean(
            [plain_r(x[rows], y[rows]) for x, y in zip(other.T, truth.T, strict=True)]
        )

    other[~np.isfinite(estimate)] = np.nan
    drawn = agreement.pooled(agreement.bootstrap_pearson([estimate, other], truth, 600, 5))
    point = agreement.pooled(np.stack([agreement.pearson(x, truth) for x in (estimate, other)]))
    without = agreement.pooled(agreement.jackknife_pearson([estimate, other], truth))
    gaps = (values[0] - values[1] for values in (drawn[..., None], point[..., None], without[..., None]))
    found = agreement.interval(*gaps)
    assert np.ravel(found) == pytest.approx(scipys(gap, 14, 600, 5), abs=1e-7)


class Drawn(np.random.Generator):
    """A generator that hands out what was drawn before."""

    def __init__(self, *drawn):
        super().__init__(np.random.PCG64(0))
        self._left = list(drawn)

    def integers(self, *_, **__):
        return self._left.pop(0)


def test_the_interval_over_groups_and_test_rows_is_scipys_of_two_samples():
    rng, (groups, tests) = np.random.default_rng(2), (15, 11)
    truth = rng.normal(size=(groups, tests))
    estimate = truth * np.linspace(-0.5, 3.0, tests) ** 2 + rng.normal(size=truth.shape)
    drawn = np.random.default_rng(5).integers(groups, size=(400, groups))
    columns = np.random.default_rng((5, 1)).integers(tests, size=(400, tests))
    weights = agreement.test_row_weights(tests, 400, 5)
    np.testing.assert_array_equal(weights, [np.bincount(row, minlength=tests) for row in columns])
    r = agreement.bootstrap_pearson([estimate], truth, 400, 5)[0]
    point = agreement.pearson(estimate, truth)
    left = agreement.jackknife_of_both(agreement.pooled(agreement.jackknife_pearson([estimate], truth)[0]), point)
    samples = (r * weights).sum(1) / tests
    found = agreement.interval(samples[:, None], point.mean()[None], left[:, None])

    def statistic(rows, columns):
        return np.mean([np.corrcoef(estimate[rows, t], truth[rows, t])[0, 1] for t in columns])

    expected = stats.bootstrap(
        (np.arange(groups), np.arange(tests)),
        statistic,
        n_resamples=400,
        method="BCa",
        vectorized=False,
        random_state=Drawn(drawn, columns),
    ).confidence_interval
    assert np.ravel(found) == pytest.approx([expected.low, expected.high], abs=1e-7)


def test_without_bias_and_skewness_the_interval_is_the_percentile():
    samples = np.random.default_rng(1).normal(size=(101, 3))
    point, even = np.median(samples, axis=0), np.array([[-1.0], [0.0], [1.0]]) * np.ones(3)
    np.testing.assert_allclose(
        agreement.interval(samples, point, even), np.percentile(samples, [2.5, 97.5], axis=0), rtol=1e-12
    )
    samples[:30, 1] = np.nan
    samples[:60, 2] = np.nan
    point = np.nanmedian(samples, axis=0)
    low, high = agreement.interval(samples, point, even)
    expected = np.nanpercentile(samples[:, 1], [2.5, 97.5])
    # 71 values, their median one of them
    np.testing.assert_allclose([low[1], high[1]], expected, rtol=1e-12)
    assert np.isnan([low[2], high[2]]).all(), "more than half of the resamples have no value"


@pytest.mark.parametrize(
    ("samples", "point", "expected"),
    [
        (np.full(50, 0.7), 0.7, 0.7),
        (0.7 + 1e-12 * np.arange(50), 0.7, 0.7),  # rounding is no evidence
        (np.full(50, 0.7), 0.8, np.nan),  # all on one side
        (np.linspace(0.5, 0.9, 100), 0.501, np.nan),  # 1% under the point: the interval would not hold it
        (np.linspace(0.5, 0.9, 100), np.nan, np.nan),
        (np.empty(0), 0.7, np.nan),
        (np.full(5, np.nan), 0.7, np.nan),
    ],
)
def test_intervals_of_resamples_that_say_little(samples, point, expected):
    without = np.full((4, 1), 0.7)
    without[0] = np.nan
    low, high = agreement.interval(samples[:, None], np.array([point]), without)
    np.testing.assert_allclose([low[0], high[0]], expected, atol=1e-9)


def test_an_interval_holds_its_own_estimate():
    rng, told = np.random.default_rng(3), 0
    for trial in range(20):  # few groups, one of them far out
        x = rng.normal(size=(10, 30))
        y = x + rng.normal(size=(10, 30))
        x[0] *= 20
        low, high, point = bca(x, y, 200, trial)
        held = (low - 1e-9 <= point) & (point <= high + 1e-9)
        assert held[np.isfinite(low)].all()
        told += np.isfinite(low).sum()
    assert told > 400


@pytest.mark.parametrize("groups", [10, 40])
def test_the_interval_covers_the_correlation_of_the_population(groups):
    rng, rho, trials = np.random.default_rng(0), 0.6, 400
    x = rng.normal(size=(groups, trials))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    low, high, _ = bca(x, y, 500, 1)
    assert np.isfinite(low).all()
    covered = ((low <= rho) & (rho <= high)).mean()
    # 95% less what ten pairs cost any bootstrap, plus or minus three standard errors of 400 trials
    assert {10: 0.85, 40: 0.91}[groups] < covered < 0.985


@pytest.mark.parametrize("groups", [1, 2])
def test_resampled_test_rows_of_too_few_groups_have_no_interval(tmp_path, monkeypatch, capsys, groups):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("a.npz", X=rng.normal(size=(60, 3)), y=np.arange(60) % 2)
    assert run(["train", "--data", "a.npz", "-o", "m.h5", "--quiet"]) == 0
    for command in ("influence", "groundtruth"):
        asked = (
            "--model",
            "m.h5",
            "--group",
            f"random:20%x{groups}",
            "--test",
            "0:3",
            "-o",
            f"{command}.h5",
            "--quiet",
        )
        assert run([command, *asked]) == 0
    capsys.readouterr()
    files = ("influence.h5", "groundtruth.h5")
    assert run(["compare", *files, "--resample", "groups-tests", "--format", "json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert all(row[key] is None for row in rows for key in row if key.endswith(("_low", "_high")))
