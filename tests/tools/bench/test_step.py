"""Tables of the step, and the refusal to compare different work."""

import pytest
import step
from measured import Run
from workload import make_workload


def runs(norm=2.0):
    def one(seconds, peak, grad_norm=2.0):
        return Run([1.0, 0.5], [grad_norm, 1.0], [seconds], 100.0, peak)

    ours = [one(1.0, 300.0), one(2.0, 300.0), one(1.5, 300.0)]
    return {"ours": ours, "trl": [one(4.0, 500.0, norm), one(6.0, 700.0), one(6.0, 600.0)]}


def test_the_median_with_its_range_and_ratios_of_one_turn():
    rows = step.table(runs()).splitlines()[2:]
    assert rows == [
        "| ours | 1.50 (1.00 to 2.00) | 300 | 200 | 1.00 (1.00 to 1.00) |",
        "| trl | 6.00 (4.00 to 6.00) | 600 | 500 | 4.00 (3.00 to 4.00) |",
    ]


def test_sides_that_did_other_work_are_not_compared():
    assert "losses agree to 0e+00" in step.agreement(runs())
    with pytest.raises(SystemExit, match="gradient norms by 5.0e-04: more"):
        step.agreement(runs(norm=2.001))


def test_fresh_processes_taken_in_turn(tmp_path, monkeypatch):
    script = """
import json, os, sys
from pathlib import Path
folder, out, side = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
assert json.loads((folder / "workload.json").read_text())["name"] == "5,3" and os.environ["HF_HUB_OFFLINE"] == "1"
threads = float(os.environ["OMP_NUM_THREADS"])
run = {"losses": [1], "grad_norms": [1], "seconds": [threads], "base_mib": len(side), "peak_mib": 9}
out.write_text(json.dumps(run))
"""
    monkeypatch.setattr(step, "HERE", tmp_path)
    monkeypatch.setattr(step, "write_start", lambda folder: None)
    (tmp_path / "step_ours.py").write_text(script)
    (tmp_path / "step_trl.py").write_text(script)
    runs = step.measure_all(make_workload("5,3", 1, 1), ["ours", "trl"], repeats=2, threads=3)
    assert {side: [(run.step_seconds, run.base_mib) for run in own] for side, own in runs.items()} == {
        "ours": [(3.0, 4)] * 2, "trl": [(3.0, 3)] * 2,
    }  # fmt: skip


def test_a_process_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "HERE", tmp_path)
    (tmp_path / "step_ours.py").write_text("raise SystemExit('no such weights')")
    with pytest.raises(SystemExit, match="ours failed:\nno such weights"):
        step.measure(tmp_path, "ours", tmp_path / "run.json", threads=1)


def test_what_was_run(monkeypatch):
    monkeypatch.setattr(step, "version", lambda name: "9")
    text = step.described(make_workload("5,3", 1, 2), threads=2)
    assert f"2 steps of 8 pairs, {8 * (2 * 5 + 6)} tokens a step" in text and f"prompts once: {8 * (5 + 6)};" in text
    assert f"longest of the step: {16 * 8}" in text and "trl 9" in text
