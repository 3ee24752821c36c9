"""Every start-up check passes on what is right and trips on what it is about."""

from __future__ import annotations

import json

import pytest
import torch
from callbacks.heads import Pairwise
from components.tiny import config
from lightning import LightningModule
from support import Bigram, FrozenBigram, GivenItems, fit, preferences
from tokens import CHATML, byte_tokenizer
from torch import nn

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.sft import SFT
from lit_rlhf.callbacks.checks import (
    ends_by_a_stop,
    everything_is_saved,
    has_trained_tokens,
    head_agrees,
    reference_agrees,
    reward_reloads,
    starts_once,
)
from lit_rlhf.callbacks.run_record import RunRecord
from lit_rlhf.callbacks.startup import StartupChecks
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reference import EMA, AdapterOff, FromCheckpoint, FrozenCopy
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.data.modules import Files
from lit_rlhf.errors import InputError
from lit_rlhf.types import PreferenceBatch, ScoredBatch, Sequences

BOS, EOS = 0, 1


def sequences(prompts, completions, weight=None):
    def joined(rows):
        return torch.tensor([token for row in rows for token in row]), torch.tensor([len(row) for row in rows])

    weight = None if weight is None else torch.tensor(weight)
    each = len(completions) // len(prompts)
    return Sequences(*joined(prompts), *joined(completions), torch.arange(len(prompts)).repeat_interleave(each), weight)


def test_bos_once():
    good = sequences([[BOS, 3], [BOS, 4, BOS]], [[5, EOS], [EOS]])
    assert "at most one" in starts_once(good, BOS, [EOS])
    assert "none" in starts_once(good, None, [EOS])


@pytest.mark.parametrize("wrong", [([[BOS, BOS, 3]], [[5, EOS]]), ([[BOS, 3]], [[BOS, 5, EOS]])])
def test_bos_twice_trips(wrong):
    with pytest.raises(InputError, match="BOS"):
        starts_once(sequences(*wrong), BOS, [EOS])


def test_an_empty_completion_of_a_model_whose_bos_is_its_terminator_is_right():
    assert starts_once(sequences([[EOS, 3]], [[EOS]]), EOS, [EOS])


def test_the_stop_set_is_printed_and_its_token_trained():
    line = ends_by_a_stop(sequences([[3], [3]], [[5, EOS], [5, 6]]), [EOS], ["<eos>"])
    assert "'<eos>' (1)" in line and "1 of 2" in line


def test_completions_that_never_stop_trip():
    with pytest.raises(InputError, match=r"'<eos>' \(1\).*ends by id 6"):
        ends_by_a_stop(sequences([[3]], [[5, 6]]), [EOS], ["<eos>"])


def test_a_terminator_without_weight_trips():
    with pytest.raises(InputError, match="weight 0"):
        ends_by_a_stop(sequences([[3]], [[5, EOS]], [1.0, 0.0]), [EOS], ["<eos>"])


def test_an_uncounted_repeat_is_no_untrained_terminator():
    assert ends_by_a_stop(sequences([[3], [3]], [[5, EOS], [5, EOS]], [1.0, 1.0, 0.0, 0.0]), [EOS], ["<eos>"])


def test_nothing_trained_trips():
    some = ScoredBatch(sequences([[3]], [[5, EOS]], [0.0, 1.0]), torch.ones(1))
    none = ScoredBatch(sequences([[3]], [[5, EOS]], [0.0, 0.0]), torch.ones(1))
    assert "1 of 4" in has_trained_tokens([some, none])
    with pytest.raises(InputError, match="none of the 2"):
        has_trained_tokens([none])


def test_reference_equal_when_it_should_be():
    logps = torch.tensor([-1.0, -2.0])
    assert "equals" in reference_agrees(logps, logps, "frozen copy", True)
    assert "differs" in reference_agrees(logps, logps - 0.5, "checkpoint", False)
    with pytest.raises(InputError, match="should equal"):
        reference_agrees(logps, logps - 0.5, "frozen copy", True)
    with pytest.raises(InputError, match="should equal"):
        reference_agrees(logps * float("nan"), logps, "frozen copy", True)
    with pytest.raises(InputError, match="should differ"):
        reference_agrees(logps, logps, "checkpoint", False)


class HeadLost(RewardModel):
    """Saves its trunk alone."""

    def save(self, folder):
        self.model.save(folder)


def test_a_reward_model_reloads_to_the_same_score():
    batch = preferences(0).sequences
    reward = RewardModel("lit_rlhf/reviews")
    reward.build()
    reward.eval()
    with torch.no_grad():
        assert "same scores" in reward_reloads(reward, batch)
        assert not reward.head.weight.any()
        lost = HeadLost("lit_rlhf/reviews")
        lost.build()
        with pytest.raises(InputError, match="a weight is lost"):
            reward_reloads(lost.eval(), batch)


def test_a_head_that_is_not_linear_trips():
    assert "agrees" in head_agrees(1e-6, torch.float32)
    with pytest.raises(InputError, match="soft cap"):
        head_agrees(0.5, torch.float32)


class Forgetful(LightningModule):
    """Leaves its head out of what is saved."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if not name.startswith("head")}


def test_a_weight_that_is_not_saved_trips():
    with pytest.raises(InputError, match="2 trained weights .* head.weight"):
        everything_is_saved(Forgetful())


class Copy(FrozenBigram):
    """The policy's own law, honest about it or not."""

    def __init__(self, honest):
        super().__init__(seed=0)
        self.equal_at_start = honest


def run(reference, capsys):
    module = Algorithm(Bigram(), Pairwise(), reference)
    trainer = fit(module, GivenItems([(preferences(0),), (preferences(1),)]), callbacks=[StartupChecks()])
    return trainer, capsys.readouterr().out


def test_the_lines_are_printed_once(capsys):
    _, printed = run(Copy(honest=True), capsys)
    assert printed.count("reference: bigram; equals the policy") == 1
    assert printed.count("trained tokens") == 1 and "precision: 32-true on cpu" in printed


def test_a_wrong_reference_stops_the_run(capsys):
    with pytest.raises(InputError, match="should differ"):
        run(Copy(honest=False), capsys)


@pytest.mark.parametrize(
    "reference", [FrozenCopy(), FrozenCopy(dtype="bfloat16"), EMA(), FromCheckpoint("lit_rlhf/reviews")],
    ids=lambda reference: type(reference).__name__,
)
def test_a_language_model_passes_every_check(reference, capsys):
    module = Algorithm(Actor("lit_rlhf/reviews"), Pairwise(), reference)
    fit(module, GivenItems([(reviews(),)]), callbacks=[StartupChecks()])
    printed = capsys.readouterr().out
    assert f"reference: {reference.mode}; equals the policy" in printed
    assert "stop set: '<eos>' (16); 4 of 4" in printed and "head: the chunked head agrees" in printed


def test_the_terminator_of_the_template_stops_what_is_trained_by_it(tmp_path, capsys):
    tokenizer = byte_tokenizer(specials=("<|im_start|>", "<|im_end|>"), template=CHATML)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": str(n)}]} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sizes = config(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    actor = Actor(LanguageModel(config=sizes, tokenizer=str(tmp_path / "tokenizer")))
    data = Files(str(tmp_path / "rows.jsonl"), cache_dir=str(tmp_path / "cache"))
    fit(SFT(actor), data, callbacks=[StartupChecks(), RunRecord(tmp_path / "run")])
    assert f"'<|im_end|>' ({end}); 4 of 4 completions end by it" in capsys.readouterr().out
    saved = json.loads((tmp_path / "run" / "parts" / "actor" / "generation_config.json").read_text(encoding="utf-8"))
    assert saved["eos_token_id"] == [tokenizer.eos_token_id, end]


def reviews():
    given, ends = sequences([[1, 5], [2, 5]], [[9, 16], [10, 16], [9, 16], [11, 16]]), torch.tensor([0, 2])
    return PreferenceBatch(given, ends, ends + 1, torch.ones(2))


def test_checks_leave_the_run_as_it_was(capsys):
    with_checks, _ = run(FrozenBigram(), capsys)
    module = Algorithm(Bigram(), Pairwise(), FrozenBigram())
    fit(module, GivenItems([(preferences(0),), (preferences(1),)]))
    assert torch.equal(with_checks.lightning_module.actor.table, module.actor.table)
    assert with_checks.lightning_module.training


def test_adapters_pass_every_check(capsys):
    actor = Actor(LanguageModel("lit_rlhf/reviews", lora=LoRA(rank=2)))
    fit(Algorithm(actor, Pairwise(), AdapterOff()), GivenItems([(reviews(),)]), callbacks=[StartupChecks()])
    assert "reference: adapter_off; equals the policy" in capsys.readouterr().out
