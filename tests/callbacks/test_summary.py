"""The warnings at the end of a run: each fires on the curve it is about, and not on a healthy one."""

import math

import pytest

from lit_rlhf.callbacks.summary import (
    ATTAINED,
    FALLEN,
    GROWN,
    MOST_POINTS,
    RULES,
    SATURATED,
    RunSummary,
    chosen_falls,
    length_grows,
    margin_is_unbounded,
)

HEALTHY = {
    "train/logp/chosen": [-2.0, -1.9, -1.8],
    "train/logp_change/chosen": [0.0, 0.05, 0.1],
    "val/sampled_length": [20.0, 22.0, 25.0],
    "train/rewards/margin": [2.0 * (1 - math.exp(-step / 3)) for step in range(20)],
}


@pytest.mark.parametrize("rule", RULES)
def test_a_healthy_run_gets_no_warning(rule):
    assert rule(HEALTHY) is None and rule({}) is None


def test_chosen_falling_against_the_reference_or_since_the_start():
    for curves in (
        {"train/logp_change/chosen": [0.0, -2 * FALLEN]},
        {"train/logp/chosen": [-1.0, -1.0 - 2 * FALLEN]},
    ):
        assert f"{2 * FALLEN:.2f} nats per token" in chosen_falls(curves)
        assert chosen_falls(curves | {"udrra/residual_rms": [1.0, 2 * ATTAINED]}) is not None
        assert chosen_falls(curves | {"udrra/residual_rms": [1.0, ATTAINED / 2]}) is None


def test_length_growing():
    assert "20 to 60" in length_grows({"val/sampled_length": [20.0, 30.0, 20.0 * GROWN * 2]})


def test_a_large_margin_that_keeps_growing_and_one_that_has_settled():
    growing = [0.1 * SATURATED * step for step in range(20)]
    settled = [2 * SATURATED * (1 - math.exp(-step)) for step in range(20)]
    assert "nothing in the labels bounds it" in margin_is_unbounded({"train/rewards/margin": growing})
    assert margin_is_unbounded({"train/rewards/margin": settled}) is None
    assert margin_is_unbounded({"train/rewards/margin": [value / 100 for value in growing]}) is None


def test_curves_are_followed_thinned_and_survive_a_restart(tmp_path):
    summary = RunSummary(tmp_path)
    n = 10 * MOST_POINTS
    for step in range(n):
        summary.on_metrics({"train/loss": float(step), "perf/tokens_per_second": 1.0}, step)
    again = RunSummary(tmp_path)
    again.load_state_dict(summary.state_dict())
    curve = again.curves["train/loss"]
    assert set(again.curves) == {"train/loss"} and len(curve) <= MOST_POINTS
    assert curve[0] == 0 and curve[-1] == n - 1 and curve == sorted(curve)


def test_the_lines_name_first_last_and_warnings(tmp_path):
    summary = RunSummary(tmp_path)
    for value in (0.7, 0.5):
        summary.on_metrics({"train/loss": value, "val/sampled_length": 100 / value**4}, 1)
    lines = summary.lines(12, tmp_path)
    assert lines[0].startswith("12 updates") and str(tmp_path) in lines[0]
    assert any("0.7000" in line and "0.5000" in line for line in lines)
    assert sum(line.strip().startswith("warning:") for line in lines) == 1
