"""Rewards made of rewards, against their formulas."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rewards.given import response, texts

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.base import Response
from lit_rlhf.rewards.compose import BatchNormalised, Clipped, GroupNormalised, WeightedSum
from lit_rlhf.rewards.function import Function
from lit_rlhf.rewards.maths import MathAnswer
from lit_rlhf.rewards.text import LengthPenalty, Matches, RepetitionPenalty
from lit_rlhf.types import PromptRecord

NONE = math.nan


def given(*values, size=1):
    """A response whose reward is written in it; `-` for none."""
    return texts(*(str(value) for value in values), size=size)


def written(completions):
    return [None if text == "-" else float(text) for text in completions]


STATED = Function(written, name="stated")


def agree(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


def test_a_sum_keeps_the_names_and_values_of_its_parts():
    parts = [MathAnswer(), LengthPenalty(4, 2), Function(written, name="stated")]
    responses = [response("3", answer="3", ids=range(3)), response("5", answer="3", ids=range(9))]
    found = WeightedSum(parts, [2.0, 0.5, -1.0])(responses)
    values = {part.name: part.values.tolist() for part in found.parts}
    assert values == {
        "maths": [1, 0], "maths/answered": [1, 1], "length": [-0.5, -1], "stated": [3, 5], "stated/failures": [0, 0],
    }
    agree(found.total, [2 - 0.25 - 3, -0.5 - 5])
    agree(WeightedSum(parts)(texts("1")[:0]).total, [])


def test_a_part_without_a_reward_leaves_the_sum_without_one_unless_it_weighs_nothing():
    for weight, expected in ((1.0, [2.0, NONE]), (0.0, [1.0, 1.0])):
        found = WeightedSum([STATED, Matches(".", name="any")], [weight, 1.0])(given(1, "-"))
        agree(found.total, expected)
    defaulted = Function(written, name="stated", on_error="default", default=-1.0)
    agree(WeightedSum([defaulted, Matches(".", name="any")])(given(1, "nan")).total, [2.0, 0.0])


@pytest.mark.parametrize(
    ("rewards", "weights", "sentence"),
    [
        ([], None, "0 rewards and 0 weights"),
        ([STATED], [1.0, 2.0], "1 rewards and 2 weights"),
        ([STATED], [NONE], "expected numbers"),
        ([Matches("a"), Matches("b")], None, "two rewards are called 'matches'"),
    ],
)
def test_sums_that_cannot_be_are_refused(rewards, weights, sentence):
    with pytest.raises(InputError, match=sentence):
        WeightedSum(rewards, weights)


def test_clipping():
    found = Clipped(STATED, -1.0, 2.0)(given(-3, 0, 5, "-"))
    agree(found.total, [-1.0, 0.0, 2.0, NONE])
    assert found.parts[0].name == "raw" and Clipped(STATED).name == "stated"
    agree(found.parts[0].values, [-3.0, 0.0, 5.0, NONE])
    with pytest.raises(InputError, match="Clipped: low=1 is not below high=1"):
        Clipped(STATED, 1, 1)


def test_each_group_is_normalised_by_itself():
    responses = given(1, 3, 10, 10, "-", 7, size=2)
    agree(GroupNormalised(STATED, epsilon=0.5)(responses).total, [-1 / 1.5, 1 / 1.5, 0.0, 0.0, NONE, 0.0])
    agree(GroupNormalised(STATED, std=False)(responses).total, [-1.0, 1.0, 0.0, 0.0, NONE, 0.0])
    apart = [responses[place] for place in (0, 2, 1, 3)]
    agree(GroupNormalised(STATED, std=False)(apart).total, [-1.0, 0.0, 1.0, 0.0])


def test_the_batch_is_normalised():
    found = BatchNormalised(STATED, epsilon=1e-12)(given(1, 2, 3, "-"))
    agree(found.total, [-math.sqrt(1.5), 0.0, math.sqrt(1.5), NONE])
    agree(BatchNormalised(STATED, std=False)(given(1, 2, 3, "-")).total, [-1.0, 0.0, 1.0, NONE])
    agree(BatchNormalised(STATED)(given(4, 4)).total, [0.0, 0.0])
    agree(BatchNormalised(STATED)(given("-")).total, [NONE])


def test_gdpo_normalises_each_reward_before_it_adds_them():
    """Two rewards of very different size count alike."""
    small, large = Function(written, name="small"), Function("rewards.functions.length", name="large")
    reward = BatchNormalised(WeightedSum([GroupNormalised(small), GroupNormalised(large)]))
    responses = given("0", "1", "0.00", "1.00", size=4)
    found = reward(responses)
    agree(found.parts[0].values, [-2.0, 0.0, 0.0, 2.0])
    agree(found.total, [-math.sqrt(2), 0.0, 0.0, math.sqrt(2)])
    assert [part.name for part in found.parts] == [
        "raw", "small", "small/raw", "small/failures", "large", "large/raw", "large/failures",
    ]


def test_what_is_inside_is_checked_built_moved_and_told_of_the_folder(tmp_path):
    told = []

    class Told(Matches):
        def check(self):
            told.append("check")

        def build(self):
            told.append("build")

        def to(self, device):
            told.append(device)

        def write_to(self, folder):
            told.append(folder)

    reward = BatchNormalised(WeightedSum([GroupNormalised(Clipped(Told("a")))]))
    reward.check()
    reward.build()
    reward.to("cpu")
    reward.write_to(tmp_path)
    assert told == ["check", "build", "cpu", tmp_path]


def _rank(rank, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    reward, deviation = BatchNormalised(STATED), math.sqrt((16 + 9 + 1 + 36) / 4)
    found = reward(given(*([1, 2, 6], ["-", 11])[rank])).total
    agree(found, ([-4 / deviation, -3 / deviation, 1 / deviation], [NONE, 6 / deviation])[rank])
    agree(reward(given(*([], [3, 3])[rank])).total, ([], [0.0, 0.0])[rank])
    dist.destroy_process_group()


def test_two_processes_normalise_by_the_responses_of_both(tmp_path):
    mp.start_processes(_rank, args=(str(tmp_path / "store"),), nprocs=2, start_method="fork")


def test_what_is_right_is_found_through_sums_and_wrappers():
    record = PromptRecord("1 + 1 =", answer="2")
    responses = [Response(record, text, (1,), True, 0) for text in ("2", "3", "2 2 2 2")]
    reward = WeightedSum([RepetitionPenalty(1), Clipped(MathAnswer(), 0.0, 0.5)], [1.0, 3.0])
    assert reward.verifiable and not RepetitionPenalty(1).verifiable
    assert reward.right(reward(responses)).tolist() == [1.0, 0.0, 1.0]
