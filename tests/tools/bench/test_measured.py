"""Did two processes do the same work, and how long did it take?"""

import math

import measured
import pytest
from measured import Clock, Run, disagreement, median_and_spread, relative_difference


def run(losses=(1.0,), norms=(2.0,)):
    return Run(list(losses), list(norms), [1.0, 3.0], 10.0, 20.0)


def test_a_run_survives_the_disk(tmp_path):
    run().save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run()
    assert run().step_seconds == 2.0


def test_a_step_lasts_from_the_end_of_the_one_before(monkeypatch):
    marks = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr(measured.time, "perf_counter", lambda: next(marks))
    clock = Clock()
    for _ in range(4):
        clock.mark()
    assert clock.run([1.0] * 4, [1.0] * 4, warmup=1, base_mib=1.0).seconds == [1.0, 2.0, 4.0]
    assert clock.run([1.0] * 4, [1.0] * 4, warmup=3, base_mib=1.0).seconds == [4.0]
    with pytest.raises(ValueError, match="warmup is 0"):
        clock.run([1.0], [1.0], warmup=0, base_mib=1.0)


def test_relative_differences_never_hide_a_number():
    assert relative_difference([1.0, 4.0], [1.0, 5.0]) == 1 / 5
    assert relative_difference([0.0], [0.0]) == 0.0
    assert relative_difference([1.0], [1.0, 2.0]) == math.inf
    assert relative_difference([math.nan], [1.0]) == math.inf
    assert relative_difference([math.inf], [math.inf]) == math.inf


def test_the_worst_of_all_runs_counts():
    assert disagreement([run(), run(losses=[1.0], norms=[4.0]), run(losses=[2.0])]) == (0.5, 0.5)
    assert disagreement([run(), run()]) == (0.0, 0.0)


def test_median_and_range():
    assert median_and_spread([3.0, 1.0, 10.0]) == (3.0, 1.0, 10.0)


def test_memory_is_in_mebibytes():
    assert 1 < measured.peak_mib() < 2**20
