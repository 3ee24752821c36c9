"""Tables of rollouts, the refusal to compare other work, and one process of every side."""

import dataclasses

import pytest
import rollout
import rollout_side
import torch
from rollout_side import Rollouts, Task

from lit_rlhf.components.language_model import LanguageModel

TASK = Task(prompts=2, group_size=3, prompt_tokens=4, new_tokens=5, vocabulary=23, rollouts=2)


def run(seconds, processor, peak, tokens=2000, mean_logp=-3.0):
    return Rollouts(tokens, seconds, processor, mean_logp, loaded_mib=100.0, peak_mib=peak)


def runs(**changed):
    ours = [run(1.0, 1.0, 150.0), run(2.0, 2.0, 160.0), run(4.0, 1.0, 170.0)]
    theirs = [run(8.0, 3.0, 300.0), run(8.0, 4.0, 300.0), dataclasses.replace(run(8.0, 5.0, 300.0), **changed)]
    return {"native": ours, "generate": theirs}


def test_the_median_with_its_range_and_ratios_of_one_turn():
    assert rollout.table(runs()).splitlines()[2:] == [
        "| native | 1000 (500 to 2000) | 2000 (1000 to 2000) | 60 | 1.00 (1.00 to 1.00) |",
        "| generate | 250 (250 to 250) | 500 (400 to 667) | 200 | 3.00 (2.00 to 5.00) |",
    ]


def test_sides_that_did_other_work_are_not_compared():
    assert "6 processes of 2000 tokens mean log-probs lie within 0.040 nats" in rollout.agreement(runs(mean_logp=-3.04))
    with pytest.raises(SystemExit, match="other numbers of tokens"):
        rollout.agreement({"native": [run(1.0, 1.0, 1.0)], "generate": [run(1.0, 1.0, 1.0, tokens=1999)]})
    for other in (-3.1, float("nan")):
        with pytest.raises(SystemExit, match="drew from other laws"):
            rollout.agreement(runs(mean_logp=other))


@pytest.fixture(scope="module")
def policy():
    from components import tiny

    return tiny.model("llama")


@pytest.mark.parametrize("side", rollout_side.SIDES)
def test_every_side_makes_all_tokens_by_the_policys_law(side, policy, monkeypatch):
    monkeypatch.setattr(LanguageModel, "stop_ids", ())
    found = rollout_side.measure(policy, TASK, side)
    assert found.tokens == TASK.rollouts * TASK.tokens == 2 * 30 and found.mean_logp < 0
    assert found.seconds > 0 and found.peak_mib > 0.9 * found.loaded_mib > 1  # the kernel counts roughly


def test_draws_differ_and_prompts_do_not(policy):
    first, same, other = (rollout_side.SIDES["native"](policy, TASK, draw) for draw in (1, 1, 2))
    assert all(map(torch.equal, first, same)) and not torch.equal(torch.cat(first), torch.cat(other))
    assert torch.equal(TASK.draw().prompt_ids, TASK.draw().prompt_ids)


def test_fresh_processes_taken_in_turn(tmp_path, monkeypatch):
    script = """
import json, os, sys
from pathlib import Path
folder, out, side = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
assert json.loads((folder / "task.json").read_text())["new_tokens"] == 5 and os.environ["HF_HUB_OFFLINE"] == "1"
threads = float(os.environ["OMP_NUM_THREADS"])
run = {"tokens": 7, "seconds": threads, "processor_seconds": 1, "mean_logp": -1, "loaded_mib": len(side), "peak_mib": 9}
out.write_text(json.dumps(run))
"""
    monkeypatch.setattr(rollout, "HERE", tmp_path)
    monkeypatch.setattr(rollout, "write_start", lambda folder: None)
    (tmp_path / "rollout_side.py").write_text(script)
    found = rollout.measure_all(TASK, ["native", "hf"], repeats=2, threads=3)
    assert {side: [(one.seconds, one.loaded_mib) for one in own] for side, own in found.items()} == {
        "native": [(3.0, 6)] * 2, "hf": [(3.0, 2)] * 2,
    }  # fmt: skip
    (tmp_path / "rollout_side.py").write_text("raise SystemExit('no such weights')")
    with pytest.raises(SystemExit, match="hf failed:\nno such weights"):
        rollout.measure(tmp_path, "hf", tmp_path / "run.json", threads=1)


def test_what_was_run(monkeypatch):
    monkeypatch.setattr(rollout, "version", lambda name: "9")
    text = rollout.described(TASK, threads=1)
    assert "2 prompts of 4 tokens, 3 completions of 5 tokens of each" in text and "1 thread," in text and "torch 9" in text
    assert "All logits of a rollout would be 0 MiB" in text
