import importlib.util
import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from lit_rlhf.data.records import Group, Pair

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


crossval = tool("crossval")


class Letters:
    """A tokenizer whose ids are characters."""

    @staticmethod
    def decode(ids):
        return "".join(map(chr, ids))


def group(row, *texts, pairs=((0, 1, 1.0),)):
    completions = tuple(np.array([ord(letter) for letter in text]) for text in texts)
    return Group(np.array([1]), completions, pairs=tuple(Pair(*pair) for pair in pairs), row=row)


# ---- statistics


@pytest.mark.parametrize(("share", "n"), [(0.5, 40), (0.9, 12), (1.0, 7), (0.0, 3)])
def test_the_ends_of_wilsons_interval_are_where_the_score_test_rejects(share, n):
    z = crossval.norm.ppf(0.975)
    found = crossval.wilson(share, n)
    for end in (found.low, found.high):
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-12)
    assert found.low <= share <= found.high


def test_the_bootstrap_draws_prompts_with_all_their_pairs():
    values = [1.0] * 50 + [0.0] * 50
    apart = crossval.bootstrap(values, [str(index) for index in range(100)])
    together = crossval.bootstrap(values, ["a"] * 50 + ["b"] * 50)
    assert apart.value == together.value == 0.5
    half = 1.96 * math.sqrt(0.25 / 100)
    assert apart.low == pytest.approx(0.5 - half, abs=0.02) and apart.high == pytest.approx(0.5 + half, abs=0.02)
    assert (together.low, together.high) == (0.0, 1.0)


def test_one_pair_a_prompt_gets_wilsons_interval_and_several_the_bootstrap():
    assert crossval.interval([1.0, 0.0, 1.0], ["a", "b", "c"]) == crossval.wilson(2 / 3, 3)
    assert crossval.interval([1.0, 0.0, 1.0], ["a", "a", "c"]) == crossval.bootstrap([1.0, 0.0, 1.0], ["a", "a", "c"])


def test_folds_are_pooled_and_their_spread_is_given():
    right, wrong = (crossval.Judged(str(index), 1.0, 0.5) for index in range(2))
    found = crossval.summary([[right, right, right], [crossval.Judged("x", 0.0, 0.5)]])
    assert found["accuracy"]["value"] == 3 / 4 and found["length_only"]["value"] == 1 / 2
    assert found["above_length_only"]["value"] == 1 / 4
    assert found["folds"] == [1.0, 0.0] and found["spread"] == pytest.approx(math.sqrt(0.5))
    assert crossval.summary([[wrong]])["spread"] is None


# ---- pairs


def test_a_pair_is_judged_by_reward_and_by_its_length_before_any_cut():
    cut, whole = [group("f:1", "ab", "cd")], [group("f:1", "abxxx", "cd")]
    rewards = {("f:1", "ab"): 1.0, ("f:1", "cd"): 2.0}
    for longer, expected in ((True, 1.0), (False, 0.0)):
        (found,) = crossval.judged(cut, whole, rewards, Letters, longer)
        assert found == crossval.Judged("f:1", model=0.0, length=expected)


def test_equal_rewards_and_lengths_count_one_half_and_ties_not_at_all():
    groups = [group("f:1", "ab", "cd", "e", pairs=((0, 1, 1.0), (0, 2, 0.5)))]
    (found,) = crossval.judged(groups, groups, dict.fromkeys((("f:1", "ab"), ("f:1", "cd"), ("f:1", "e")), 0.0), Letters, True)
    assert found == crossval.Judged("f:1", 0.5, 0.5)


def test_a_soft_label_below_one_half_prefers_the_other_end():
    assert list(crossval.preferred(group("f:1", "ab", "c", pairs=((0, 1, 0.3),)))) == [(1, 0)]


def test_a_pair_that_is_a_tie_in_float32_is_not_judged():
    assert list(crossval.preferred(group("f:1", "ab", "c", pairs=((0, 1, 0.5 + 1e-9), (1, 0, 0.5 + 1e-6))))) == [(1, 0)]


def test_the_direction_of_length_is_the_one_that_wins_more_often():
    short, long = group("f:1", "a", "bc"), group("f:2", "abc", "bc")
    assert not crossval.longer_wins([short, short, long])
    assert crossval.longer_wins([short, long, long])


def test_rewards_are_scores_or_log_ratios(tmp_path):
    lines = [
        {"row": "f:1", "completion_text": "a", "length": 2, "score": 3.0},
        {"row": "f:1", "completion_text": "b", "length": 2, "log_prob": -4.0, "reference_log_prob": -5.0},
        {"row": "f:1", "completion_text": "c", "length": 2, "log_prob": -4.0},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert list(crossval.rewards(tmp_path / "p.jsonl").values()) == [3.0, 1.0, -4.0]
    assert list(crossval.rewards(tmp_path / "p.jsonl", "mean").values()) == [1.5, 0.5, -2.0]


# ---- runs


def configs(folder):
    (folder / "sft.yaml").write_text("run: d/sft\nvars: {start: owner/model, data: d.jsonl}\n")
    (folder / "dpo.yaml").write_text("run: d/dpo\nvars: {start: runs/d/sft, data: d.jsonl}\ndata: {train: '${vars.data}'}\n")
    return folder / "sft.yaml", folder / "dpo.yaml"


def test_a_later_config_starts_from_the_run_of_the_same_fold(tmp_path):
    sft, dpo = crossval.stages(configs(tmp_path), fold=3, folds=5, overrides=["--vars.data=mine.jsonl"])
    assert sft.arguments == (
        "--config", str(tmp_path / "sft.yaml"), "--run=d/sft-fold3", "--data.split=0.2", "--data.fold=3", "--vars.data=mine.jsonl",
    )
    assert "--vars.start=runs/d/sft-fold3" in dpo.arguments and dpo.run == "d/dpo-fold3"


def test_a_config_without_a_run_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("vars: {}\n")
    with pytest.raises(ValueError, match="no run is named"):
        crossval.stages([tmp_path / "a.yaml"], 0, 5, [])


def test_a_stage_that_is_done_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []

    def command(name, arguments):
        asked.append(name)
        (tmp_path / "runs" / "x").mkdir(parents=True, exist_ok=True)
        if name == "predict":
            (tmp_path / "runs" / "x" / "predictions.jsonl").touch()

    monkeypatch.setattr(crossval, "command", command)
    stage = crossval.Stage(Path("x.yaml"), "x", ())
    for _ in range(2):
        crossval.run(stage, predict=True)
    assert asked == ["fit", "predict"]


def test_every_fold_is_measured_and_the_table_has_a_row_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sft, dpo = configs(tmp_path)
    monkeypatch.setattr(crossval, "run", lambda stage, predict: Path("predictions.jsonl"))
    judged = {"0": (crossval.Judged("a", 1.0, 0.5),), "1": (crossval.Judged("b", 0.0, 0.5),)}
    asked = []

    def measure(arguments, predictions):
        asked.append(arguments)
        return judged[next(value for value in arguments if value.startswith("--data.fold=")).removeprefix("--data.fold=")]

    monkeypatch.setattr(crossval, "measure", measure)
    crossval.main([str(sft), str(dpo), "--folds", "2", "--judged=--data.labels=hard", "--vars.data=mine.jsonl"])
    found = json.loads((tmp_path / "runs" / "crossval.json").read_text())
    assert list(found) == ["d/dpo"] and found["d/dpo"]["folds"] == [1.0, 0.0]
    assert all(arguments[-2:] == ("--vars.data=mine.jsonl", "--data.labels=hard") for arguments in asked)
    assert "| d/dpo | 2 | 50.0% " in capsys.readouterr().out


def test_pairs_are_those_of_the_data_module_and_lengths_those_before_any_cut(tmp_path, monkeypatch):
    cut, whole = group("f:1", "ab", "cd"), group("f:1", "ab", "cdef")
    train = group("f:2", "abc", "d")

    class Data:
        def __init__(self, arguments):
            self.groups = {"train": [train], "val": [whole if f"--data.max_length={crossval.UNCUT}" in arguments else cut]}.get

        def attach(self, algorithm):
            assert algorithm.needs == {"chosen"}

        def setup(self, stage):
            pass

    algorithm = types.SimpleNamespace(tokenizer=Letters, loss=object())
    monkeypatch.setitem(sys.modules, "lit_rlhf.cli", types.SimpleNamespace(build=lambda arguments: (algorithm, Data(arguments))))
    lines = [{"row": "f:1", "completion_text": "ab", "length": 2, "score": 1.0}, {"row": "f:1", "completion_text": "cd", "length": 2, "score": 0.0}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert crossval.measure(["--config", "c"], tmp_path / "p.jsonl") == (crossval.Judged("f:1", 1.0, 0.0),)
