"""Functions of the user's: what they are given, where they run, and what becomes of those that fail."""

import copy
import gc
import json
import math
import os
import re
import signal
import warnings

import pytest
import torch
from rewards import functions
from rewards.given import response, texts

from lit_rlhf.errors import InputError, RunFailed
from lit_rlhf.rewards.base import Reward
from lit_rlhf.rewards.function import Function

POLICIES = {"skip": math.nan, "default": -1.0}


def totals(reward, *found):
    return reward(texts(*found)).total


def agree(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=0, rtol=0, equal_nan=True)


# ---- what it is given


def test_lists_by_name_as_far_as_they_are_taken():
    reward = Function("rewards.functions.told", {"bonus": 2.0})
    row = {"extra": {"colour": "red", "bonus": 7}}
    given = [response("a b", answer="40", **row), response("a", answer="1", group=1)]
    agree(reward(given).total, [40 + 3 + 3.0, 1 + 0 + 2 + 100.0])


def test_arguments_of_a_function_and_of_an_object():
    agree(totals(Function("rewards.functions.length", {"target": 20}), "a", "abc"), [-19.0, -17.0])
    agree(totals(Function(functions.Scaled(3.0)), "a", "abc"), [3.0, 9.0])
    agree(totals(Function(functions.tensor), "a", "abc"), [1.0, 3.0])
    agree(totals(Function("rewards.functions.one", {"scale": 2.0}, batched=False), "a", "abc"), [2.0, 6.0])


def test_none_is_no_reward_and_no_failure():
    found = Function("rewards.functions.bad")(texts("none", "half"))
    agree(found.total, [math.nan, 0.5])
    assert {part.name: part.values.tolist() for part in found.parts} == {"failures": [0.0, 0.0]}


def test_completions_of_conversations_as_messages():
    chat, plain = response("yes", ({"role": "user", "content": "why?"},)), response("yes")
    reward = Function(functions.kinds, as_messages=True)
    agree(reward([chat, plain]).total, [1.0, 0.0])
    agree(Function(functions.kinds)([chat, plain]).total, [0.0, 0.0])


def test_yaml_by_class_path():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("--reward", type=Reward)
    scaled = {"class_path": "rewards.functions.Scaled", "init_args": {"scale": 2}}
    for function, arguments in (("rewards.functions.length", {"target": 3}), (scaled, {})):
        arguments = {"function": function, "arguments": arguments}
        given = {"class_path": "lit_rlhf.rewards.function.Function", "init_args": arguments}
        found = parser.instantiate(parser.parse_object({"reward": given})).reward
        assert found.name == ("length" if found.arguments else "Scaled")
        agree(totals(found, "abcd"), [1.0] if found.arguments else [8.0])


# ---- what is refused before anything is read


@pytest.mark.parametrize(
    ("function", "options", "sentence"),
    [
        ("rewards.functions.lenght", {}, "rewards.functions has no lenght; did you mean length"),
        ("rewards.function.length", {}, r"there is no module rewards.function; did you mean rewards.functions"),
        ("length", {}, "'length' is no dotted path"),
        ("rewards.functions.Scaled", {}, "is a class; write it as {class_path: rewards.functions.Scaled"),
        ("rewards.functions.HANG", {}, "is no module with a function HANG"),
        ("rewards.functions.length", {"arguments": {"targt": 1}}, "has no argument targt; did you mean target"),
        ("rewards.functions.stuck", {"batched": False, "workers": 2}, "is async: its calls run together"),
    ],
)
def test_mistakes_are_found_by_check(function, options, sentence):
    with pytest.raises(InputError, match=sentence):
        Function(function, **options).check()


@pytest.mark.parametrize("option", [{"retries": -1}, {"workers": -1}, {"timeout": 0.0}, {"default": math.nan}])
def test_settings_out_of_range_are_refused(option):
    with pytest.raises(InputError, match=f"Function length: {next(iter(option))} is"):
        Function("rewards.functions.length", **option)


def test_a_function_that_no_other_process_can_import_is_refused_there_alone():
    def local(completions):
        return [1.0] * len(completions)

    agree(totals(Function(local), "a"), [1.0])
    with pytest.raises(InputError, match="cannot be called in another process.*move it into a file of its own"):
        Function(local, timeout=1.0).check()


def test_a_column_that_the_data_lack_is_named():
    with pytest.raises(InputError, match="needs colour, which is neither a column of the data nor.*did you mean color"):
        Function("rewards.functions.told", {"bonus": 2.0})([response(extra={"color": 1})])


# ---- what goes wrong

WRONG = {
    "raise": "raised ValueError: no such word",
    "nan": "returned nan",
    "inf": "returned inf",
    "word": "returned 'high', expected a number",
}


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("policy", POLICIES)
def test_one_bad_sample_costs_no_other(text, policy, tmp_path):
    kept = tmp_path / "new" / "kept.jsonl"
    reward = Function("rewards.functions.bad", on_error=policy, default=-1.0, failures=str(kept))
    found = reward(texts("a", text, "abc"))
    agree(found.total, [1.0, POLICIES[policy], 3.0])
    agree(found.parts[0].values, [0.0, 1.0, 0.0])
    (line,) = map(json.loads, kept.read_text().splitlines())
    assert line.pop("traceback").endswith("ValueError: no such word\n") is (text == "raise")
    assert line == {
        "function": "rewards.functions.bad", "row": "rows.jsonl:2", "prompt": "why?", "completion": text,
        "error": WRONG[text],
    }


def test_what_is_left_out_is_told_once():
    reward = Function("rewards.functions.bad", on_error="skip")
    with pytest.warns(UserWarning, match=r"bad raised ValueError: no such word, at rows.jsonl:2; on_error=skip \(said once\)"):
        reward(texts("a", "raise"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reward(texts("a", "raise"))


@pytest.mark.parametrize("text", WRONG)
def test_by_default_the_run_ends_and_the_sample_is_kept(text, tmp_path):
    reward = Function("rewards.functions.bad")
    reward.write_to(tmp_path)
    with pytest.raises(RunFailed) as raised:
        reward(texts("a", text))
    said = f"Function bad: rewards.functions.bad {WRONG[text]}, at rows.jsonl:2; the samples are in"
    assert str(raised.value).startswith(said)
    assert isinstance(raised.value.__cause__, ValueError) is (text == "raise")
    assert bool(re.search(r"\(it was raised in .*functions.py:\d+\)$", str(raised.value))) is (text == "raise")
    assert json.loads((tmp_path / "failures" / "bad.jsonl").read_text())["completion"] == text


@pytest.mark.parametrize(
    ("function", "sentence"),
    [("count", "returned 3 results, expected 2"), ("mean", "returned 2.0, expected a list of 2 numbers")],
)
def test_a_wrong_number_of_results_fails_the_whole_call(function, sentence):
    found = Function(f"rewards.functions.{function}", on_error="skip")(texts("more", "a"))
    agree(found.total, [math.nan, math.nan])
    with pytest.raises(RunFailed, match=f"{sentence}, at rows.jsonl:1 and 1 more"):
        Function(f"rewards.functions.{function}")(texts("more", "a"))


def test_failed_calls_are_made_again():
    agree(totals(Function(functions.Flaky(2), retries=2), "a", "abc"), [1.0, 3.0])
    found = Function(functions.Flaky(4), retries=2, on_error="skip")(texts("a", "abc"))
    agree(found.parts[0].values, [1.0, 0.0])  # three calls for both, then one for each


def test_lines_are_appended(tmp_path):
    reward = Function("rewards.functions.bad", on_error="skip", failures=str(tmp_path / "kept"))
    for text in ("nan", "inf"):
        reward(texts(text))
    assert [json.loads(line)["completion"] for line in (tmp_path / "kept").open()] == ["nan", "inf"]


# ---- in other processes


def test_a_hang_and_a_death_end_in_the_policy_and_the_others_go_on(tmp_path):
    reward = Function(
        "rewards.functions.one", batched=False, timeout=2.0, workers=2, on_error="default", default=-1.0,
        failures=str(tmp_path / "kept"),
    )
    found = reward(texts("a", "hang", "abc", "raise", "die", "ab"))
    agree(found.total, [1.0, -1.0, 3.0, -1.0, -1.0, 2.0])
    errors = [json.loads(line)["error"] for line in (tmp_path / "kept").open()]
    assert errors == [
        "did not return within 2 s", "raised ValueError: no such word", "ended its process with exit code 3",
    ]


def test_a_hang_ends_the_run_where_it_is_to():
    with pytest.raises(RunFailed, match="asleep did not return within 1 s, at rows.jsonl:1 and 1 more"):
        Function("rewards.functions.asleep", timeout=1.0)(texts("a", "b"))


def test_workers_share_a_batch_by_whole_groups_and_give_the_same():
    words = ("a", "ab", "abc", "raise", "abcd", "nan", "abcde", "abcdef")
    here = Function("rewards.functions.bad", on_error="skip")
    there = Function("rewards.functions.bad", on_error="skip", workers=3)
    agree(there(texts(*words, size=2)).total, here(texts(*words, size=2)).total.tolist())
    groups = Function(functions.members, workers=3)(texts(*words, size=2)).total
    agree(groups, [2.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0])


def test_workers_are_other_processes_that_stay():
    reward = Function("rewards.functions.process", workers=1)
    first, second = totals(reward, "a", "b").tolist(), totals(reward, "a").tolist()
    assert set(first) == set(second) and os.getpid() not in first
    assert totals(copy.deepcopy(reward), "a").tolist() not in (first[:1], [os.getpid()])


def test_a_worker_ends_with_its_pool_and_one_that_was_killed_is_replaced():
    reward = Function("rewards.functions.process", workers=1)
    first = int(totals(reward, "a"))
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    second = int(totals(reward, "a"))
    assert second != first
    del reward
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


# ---- coroutines


def test_coroutines_run_together():
    agree(totals(Function("rewards.functions.together", batched=False), "3", "3", "3"), [3.0] * 3)
    agree(totals(Function("rewards.functions.batched"), "a", "abc"), [1.0, 3.0])


def test_a_coroutine_that_hangs_or_raises(tmp_path):
    kept = str(tmp_path / "kept")
    reward = Function("rewards.functions.stuck", batched=False, timeout=2.0, on_error="skip", failures=kept)
    agree(totals(reward, "a", "hang", "raise", "abc"), [1.0, math.nan, math.nan, 3.0])
    errors = [json.loads(line)["error"] for line in (tmp_path / "kept").open()]
    assert errors == ["did not return within 2 s", "raised ValueError: no such word"]
