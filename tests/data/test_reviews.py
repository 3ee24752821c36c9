"""`Reviews`: the feedback is what the grammar says it is."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_rlhf.data import grammar
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError
from lit_rlhf.types import Batch

NEEDS = {
    "gap": {"chosen", "reward_gap"}, "preference": {"chosen"}, "reward": {"reward"}, "label": {"label"}, "demonstration": set(),
    "prompt": {"prompt", "reward"},
}
TOKENIZER = SimpleNamespace(
    convert_tokens_to_ids=lambda tokens: [grammar.TOKENS.index(token) for token in tokens], decode=grammar.decoded
)


def reviews(signal: str, **arguments) -> Reviews:
    data = Reviews(**{"batch_size": 8, "size": 64, "val_size": 16} | arguments)
    data.attach(SimpleNamespace(tokenizer=TOKENIZER, needs=frozenset(NEEDS[signal])))
    data.setup("fit")
    return data


def first_batch(data: Reviews) -> Batch:
    (batch,) = next(iter(data.train_dataloader()))
    return batch


def true_rewards(batch: Batch) -> torch.Tensor:
    """[S] the reward of each sequence, looked up by its words."""
    sequences = batch.sequences
    prompts = [grammar.decoded(ids) for ids in sequences.prompt_ids.split(sequences.prompt_lengths.tolist())]
    responses = [tuple(grammar.TOKENS[i] for i in ids) for ids in sequences.completion_ids.split(sequences.completion_lengths.tolist())]
    return torch.tensor([
        grammar.rewards(prompts[prompt])[grammar.responses().index(response)]
        for prompt, response in zip(sequences.prompt_of.tolist(), responses, strict=True)
    ], dtype=torch.float32)


@pytest.mark.parametrize("signal", ["gap", "preference"])
def test_soft_pairs_have_bradley_terry_labels(signal):
    batch = first_batch(reviews(signal, responses=3))
    reward = true_rewards(batch)
    gap = reward[batch.chosen] - reward[batch.rejected]
    assert len(gap) == 8 * 3 and (gap >= 0).all()
    torch.testing.assert_close(batch.reward_gap, gap)
    torch.testing.assert_close(batch.probability, torch.sigmoid(gap))


def test_hard_pairs_prefer_the_higher_reward_for_sure():
    batch = first_batch(reviews("preference", labels="hard"))
    assert torch.equal(batch.probability, torch.where(batch.reward_gap > 0, 1.0, 0.5))


def test_sampled_pairs_are_won_as_often_as_the_gap_says():
    data = reviews("preference", labels="sampled", size=4096, batch_size=4096, micro_batch_tokens=200_000)
    batch = first_batch(data)
    assert batch.probability.unique().tolist() == [1.0]
    won = (batch.reward_gap > 0).float().sum() + 0.5 * (batch.reward_gap == 0).sum()
    expected, variance = torch.sigmoid(batch.reward_gap.abs()), 0.25
    assert abs(float(won - expected.sum())) < 5 * (variance * len(expected)) ** 0.5


def test_scores_are_the_rewards():
    batch = first_batch(reviews("reward", responses=5))
    assert len(batch.reward) == 8 * 5
    torch.testing.assert_close(batch.reward, true_rewards(batch))


def test_hard_labels_split_at_the_writers_mean():
    data = reviews("label", labels="hard")
    batch = first_batch(data)
    mean = torch.tensor([np.exp(grammar.log_law(p)) @ grammar.rewards(p) for p in grammar.PROMPTS])
    prompts = [grammar.decoded(ids) for ids in batch.sequences.prompt_ids.split(batch.sequences.prompt_lengths.tolist())]
    bar = torch.stack([mean[grammar.PROMPTS.index(prompt)] for prompt in prompts])
    assert torch.equal(batch.reward, (true_rewards(batch) > bar).float()) and 0 < batch.reward.sum() < 8


def test_sampled_labels_are_zero_or_one_and_favour_the_good():
    data = reviews("label", size=4096, batch_size=4096, micro_batch_tokens=200_000)
    batch = first_batch(data)
    reward = true_rewards(batch)
    assert set(batch.reward.tolist()) == {0.0, 1.0}
    assert reward[batch.reward == 1].mean() > reward[batch.reward == 0].mean() + 0.3


def test_the_reward_of_any_response_is_known_and_of_nothing_else():
    data = reviews("reward")
    group = data.groups("train")[5]
    assert [data.reward_of(group.prompt_ids, ids) for ids in group.completions] == list(group.rewards)
    assert data.reward_of(group.prompt_ids, np.array([1, 2])) is None
    assert data.reward_of(np.array([3, 3]), group.completions[0]) is None


def test_demonstrations_all_count_alike():
    assert first_batch(reviews("demonstration")).reward.tolist() == [1.0] * 8


def test_every_step_of_prompts_has_each_of_them_alike():
    data = reviews("prompt", batch_size=16, micro_batch_tokens=2)
    for (prompts,) in data.train_dataloader():
        assert Counter(record.prompt for record in prompts.records) == dict.fromkeys(grammar.PROMPTS, 2)
        texts = [grammar.decoded(ids) for ids in prompts.prompt_ids.split(prompts.prompt_lengths.tolist())]
        assert texts == [record.prompt for record in prompts.records]
    (held_out,) = next(iter(data.val_dataloader()))
    assert [record.row for record in held_out.records[:2]] == ["reviews:val:1", "reviews:val:2"]
    assert data.report.splits["val"].kept == 16 and "film was" in data.report.text()


def test_validation_data_are_drawn_apart():
    data = reviews("reward", val_size=64)
    assert not np.array_equal(data.groups("train").drawn, data.groups("val").drawn)
    assert data.sample_prompts(1)[0].row == "reviews:val:1"


@pytest.mark.parametrize("arguments", [{"responses": 1}, {"size": 0}, {"val_size": -1}])
def test_arguments_out_of_range_are_named(arguments):
    (name, value), = arguments.items()
    with pytest.raises(InputError, match=f"data.{name}: {value}"):
        Reviews(**arguments)


def test_a_tokenizer_of_another_vocabulary_is_refused():
    stranger = SimpleNamespace(convert_tokens_to_ids=lambda tokens: [0] * len(tokens))
    with pytest.raises(InputError, match="Reviews speaks 17 words of its own"):
        Reviews().attach(SimpleNamespace(tokenizer=stranger, needs=frozenset()))


def test_the_report_counts_what_was_drawn():
    data = reviews("preference", size=24, val_size=8, responses=3)
    report = data.report
    lengths = [len(ids) for index in range(24) for ids in data.groups("train")[index].completions]
    assert (report.splits["train"].kept, report.splits["train"].completions, report.splits["train"].pairs) == (24, 72, 72)
    assert report.splits["val"].rows == 8 and report.signal == "preference"
    assert report.splits["train"].completion_lengths.most == max(lengths)
    assert report.splits["train"].trained == pytest.approx(sum(lengths) / data.tokens(data.groups("train")).sum())
    assert "built-in task" in report.text() and "reviews:val:1" in report.markdown()


def test_splits_without_groups_are_not_reported():
    assert list(reviews("label", val_size=0).report.splits) == ["train"]


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_every_stage_has_a_report(stage):
    data = Reviews(val_size=8)
    data.attach(SimpleNamespace(tokenizer=TOKENIZER, needs=frozenset({"chosen"})))
    data.setup(stage)
    assert len(data.report.splits) == 1 and len(data.report.samples) == 2
