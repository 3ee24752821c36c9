"""What a composition reads of a record."""

import math

import pytest

from lit_rlhf.data.collation import SIGNALS
from lit_rlhf.data.formats import FORMATS
from lit_rlhf.data.records import Completion, Preference, Record, RowError
from lit_rlhf.data.rewards import Clip, Logit, Scale
from lit_rlhf.data.signals import Rules, check_signal, select, signals_of
from lit_rlhf.errors import InputError


def scored(*rewards, labels=()):
    labels = labels or [None] * len(rewards)
    return Record(
        "p",
        tuple(
            Completion(f"r{i}", reward, label) for i, (reward, label) in enumerate(zip(rewards, labels, strict=True))
        ),
    )


def pairs_of(record, **rules):
    found = select(record, "preference", Rules(**rules))
    texts = [completion.text for completion in found.record.completions]
    return [(texts[p.chosen], texts[p.rejected], p.probability, p.gap) for p in found.record.preferences]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_all_pairs_of_scored_responses_have_the_better_one_chosen():
    assert pairs_of(scored(1.0, 3.0, 0.0)) == [
        ("r1", "r0", sigmoid(2.0), 2.0),
        ("r1", "r2", sigmoid(3.0), 3.0),
        ("r0", "r2", sigmoid(1.0), 1.0),
    ]


def test_other_graphs_use_only_the_responses_they_join():
    record = scored(1.0, 3.0, 0.0)
    assert [pair[:2] for pair in pairs_of(record, pairs="best_worst")] == [("r1", "r2")]
    assert [pair[:2] for pair in pairs_of(record, pairs="adjacent")] == [("r1", "r0"), ("r0", "r2")]
    assert len(select(record, "preference", Rules(pairs="best_worst")).record.completions) == 2


def test_hard_labels_are_1_and_a_half_where_rewards_are_equal():
    assert [pair[2] for pair in pairs_of(scored(1.0, 1.0, 0.0), labels="hard")] == [0.5, 1.0, 1.0]


def test_pairs_with_both_ends_at_the_source_s_clip_are_dropped_and_counted():
    low, high = 1e-6, 1 - 1e-6
    found = select(scored(low, high, 0.5, low), "gap", Rules((Logit(), Clip(-4, 4)), (low, high)))
    edges = [(p.chosen, p.rejected, p.gap) for p in found.record.preferences]
    assert edges == [(1, 2, 4.0), (2, 0, 4.0), (2, 3, 4.0)] and found.clipped_pairs == 3
    assert [completion.clipped for completion in found.record.completions] == [True, True, False, True]


def test_a_row_without_a_pair_is_left_out_for_a_reason():
    assert select(scored(1.0), "preference", Rules()).dropped == "one response, no pair"
    found = select(scored(0.0, 1.0), "preference", Rules(source_clip=(0.0, 1.0)))
    assert (found.record, found.dropped, found.clipped_pairs) == (None, "every pair at the source's clip", 1)


def explicit(probability=1.0, rewards=(None, None), gap=None):
    ends = Completion("c", rewards[0], 1.0), Completion("r", rewards[1], 0.0)
    return Record("p", ends, (Preference(0, 1, probability, gap),))


def gap_of(record, **rules):
    return select(record, "gap", Rules(**rules)).record.preferences[0].gap


def test_the_gap_is_given_or_the_rewards_difference_or_the_logit_of_the_probability():
    assert gap_of(explicit(0.9, (1.0, 5.0), gap=0.25)) == 0.25
    assert gap_of(explicit(0.9, (1.0, 5.0)), transform=(Scale(0.5),)) == -2.0
    assert gap_of(explicit(sigmoid(1.3))) == pytest.approx(1.3)
    with pytest.raises(RowError, match="found probability 1 alone"):
        gap_of(explicit())


def test_explicit_pairs_keep_their_own_probability():
    assert select(explicit(0.3), "preference", Rules(labels="hard")).record.preferences == (Preference(0, 1, 0.3),)


def test_rewards_are_transformed():
    found = select(scored(0.5, 2.0), "reward", Rules((Scale(2.0), Clip(high=3.0)))).record
    assert [completion.reward for completion in found.completions] == [1.0, 3.0] and found.preferences == ()
    with pytest.raises(RowError, match="column reward: missing of response 1"):
        select(scored(0.5, None), "reward", Rules())


def test_labels_are_read_or_follow_from_rewards():
    assert [c.label for c in select(explicit(), "label", Rules()).record.completions] == [1.0, 0.0]
    above = select(scored(0.5, 2.0), "label", Rules((Scale(2.0),), label_above=1.0)).record
    assert [completion.label for completion in above.completions] == [0.0, 1.0]
    with pytest.raises(RowError, match="column label: missing"):
        select(scored(0.5), "label", Rules())


def test_demonstrations_are_the_chosen_the_desirable_the_best_or_all():
    assert [c.text for c in select(explicit(), "demonstration", Rules()).record.completions] == ["c"]
    assert [c.text for c in select(scored(1.0, 2.0), "demonstration", Rules()).record.completions] == ["r1"]
    assert [c.text for c in select(scored(None, labels=[1.0]), "demonstration", Rules()).record.completions] == ["r0"]
    assert select(scored(None, labels=[0.0]), "demonstration", Rules()).dropped == "label false, no demonstration"
    assert [c.text for c in select(scored(None), "demonstration", Rules()).record.completions] == ["r0"]


def test_a_format_without_the_signal_is_refused_naming_those_that_have_it():
    with pytest.raises(InputError) as error:
        check_signal("preference", "messages", {"messages"}, None, "data: chat.jsonl")
    assert str(error.value) == (
        "data: chat.jsonl: the format is messages (columns messages), and the loss reads pairs. "
        "Formats that have them: preference; scored"
    )


@pytest.mark.parametrize("signal", SIGNALS)
def test_no_format_but_prompts_lacks_demonstrations_and_prompts_have_nothing_else(signal):
    assert (signal in signals_of("prompts", {"prompt", "answer"})) == (signal == "prompt")
    assert all("demonstration" in signals_of(format) for format in FORMATS if format != "prompts")


def test_every_format_but_text_has_prompts():
    assert [format for format in FORMATS if "prompt" not in signals_of(format)] == ["text"]
    with pytest.raises(InputError, match="the format is text .* reads prompts. Formats that have them: every format but text"):
        check_signal("prompt", "text", {"text"}, None, "data: story.jsonl")


def test_of_prompts_the_completions_are_left_out():
    record = select(explicit(gap=1.0), "prompt", Rules()).record
    assert record.prompt == "p" and record.completions == record.preferences == ()


def test_a_prompt_without_a_message_is_wrong():
    with pytest.raises(RowError, match="the assistant speaks first"):
        select(Record((), (Completion(({"role": "assistant", "content": "a"},)),)), "prompt", Rules())
