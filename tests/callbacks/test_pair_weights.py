"""`PairWeights`: margins by hand, runs of every design, and a resumed run that is the run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Callback
from support import Bigram, FrozenBigram, fit, preferences

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.callbacks import PairWeights, RunCheckpoint
from lit_rlhf.callbacks.pair_weights import has_margin, margins, pair_margins
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy
from lit_rlhf.data.collation import collate
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import Prior
from lit_rlhf.losses.pra import PRA, PolicyWeighted
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA
from lit_rlhf.losses.regularisers import NLL, OddsRatio
from lit_rlhf.losses.reward import BradleyTerryLoss
from lit_rlhf.types import Evidence

TAU = 0.3


def by_hand(batch, policy, reference=None) -> torch.Tensor:
    """[E] tau times the difference of the ends' log-ratios."""
    logps = policy.token_logps(batch.sequences).values
    logps = logps if reference is None else logps - reference.token_logps(batch.sequences)
    sums = torch.stack([part.sum() for part in logps.split(batch.sequences.completion_lengths.tolist())])
    return TAU * (sums[batch.chosen] - sums[batch.rejected])


@pytest.mark.parametrize(("head", "prior", "shift"), [
    (PRA(TAU), False, 0.0), (RDA(TAU), False, 0.0), (NLL() + 0.5 * PRA(TAU), False, 0.0), (Prior(PRA(TAU)), True, 0.0),
    (PolicyWeighted(PRA(TAU)), False, 0.0), (PRA(TAU, offset=0.7), False, 0.7),
], ids=lambda value: type(value).__name__ if isinstance(value, PRA) else str(value)[:9])
def test_the_margin_is_that_of_the_link(head, prior, shift):
    batch, policy, reference = preferences(0), Bigram(0), FrozenBigram(1)
    evidence = Evidence(policy=policy.token_logps(batch.sequences), reference=reference.token_logps(batch.sequences))
    expected = by_hand(batch, policy, None if prior else reference) - shift * batch.reward_gap
    torch.testing.assert_close(margins(head, evidence, batch), expected)


def test_the_margin_of_a_reward_model_is_its_scores():
    batch = preferences(0)
    score = torch.arange(float(len(batch.sequences.completion_lengths)))
    found = margins(BradleyTerryLoss(), Evidence(score=score), batch)
    torch.testing.assert_close(found, score[batch.chosen] - score[batch.rejected])


def test_heads_without_pairs_or_temperature_have_none():
    assert [has_margin(head) for head in (RA(), NLL(), NLL() + OddsRatio(), NLL() + RDA())] == [False, False, False, True]


# ---- runs on the built-in task


def dpo(loss=None, lr: float = 0.01) -> Algorithm:
    torch.manual_seed(0)
    return Algorithm(
        Actor("lit_rlhf/reviews"), loss or PRA(TAU), FrozenCopy(), optimizer=lambda groups: torch.optim.AdamW(groups, lr=lr)
    )


def data(design="sampler", **arguments) -> Reviews:
    return Reviews(**{"batch_size": 8, "size": 24, "val_size": 0, "responses": 3, "design": design} | arguments)


class Noted(Callback):
    """The law's weights and the policy's margins at the beginning of every epoch."""

    def __init__(self) -> None:
        self.weights, self.margins = [], []

    def on_train_epoch_start(self, trainer, module) -> None:
        if trainer.datamodule.follows_policy:
            self.weights.append(trainer.datamodule.state_dict()["pair_weights"].numpy())
            self.margins.append(pair_margins(module, trainer.datamodule))


def trained(algorithm: Algorithm) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in algorithm.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("design", ["uniform", "inverse_variance"])
def test_runs_with_weights_of_the_data_need_no_callback(design):
    algorithm = dpo()
    assert fit(algorithm, data(design), max_steps=3).global_step == 3


def test_designs_lead_to_different_policies():
    found = []
    for design in ("uniform", "inverse_variance", "sampler"):
        algorithm = dpo()
        fit(algorithm, data(design), max_epochs=2, callbacks=[PairWeights()])
        found.append(torch.cat([weight.flatten() for weight in trained(algorithm).values()]))
    assert all(not torch.equal(found[a], found[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_the_weights_of_an_epoch_are_those_of_the_policy_at_its_beginning():
    noted = Noted()
    fit(dpo(), data(), max_epochs=3, callbacks=[PairWeights(), noted])
    np.testing.assert_allclose(noted.weights[0], 1.0, rtol=1e-6)
    for weight, h in zip(noted.weights, noted.margins, strict=True):
        inverse = np.minimum((1 + np.exp(-h)) * (1 + np.exp(h)) / 4, 25)
        np.testing.assert_allclose(weight, inverse / inverse.mean(), rtol=1e-9)
    assert noted.weights[2].max() > 1.001 * noted.weights[2].min() and len(noted.weights) == 3


def test_margins_are_those_of_every_pair_in_the_order_of_the_data_whatever_the_micro_batches():
    module, rows = dpo(), data(size=16)
    fit(module, rows, max_epochs=1, callbacks=[PairWeights()])
    found = torch.from_numpy(pair_margins(module, rows)).float()
    batch = collate([rows.groups("train")[index] for index in range(16)], "preference")
    torch.testing.assert_close(found, margins(module.loss, module.evidence(batch), batch).detach(), rtol=1e-4, atol=1e-5)
    small = data(size=16, micro_batch_tokens=40, batch_size=5, num_workers=1)
    small.attach(module)
    small.setup("fit")
    torch.testing.assert_close(torch.from_numpy(pair_margins(module, small)).float(), found, rtol=1e-4, atol=1e-5)
    assert found.std() > 0.01


class Stopped(Callback):
    """Fails at the start of an item."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer, *rest) -> None:
        if trainer.global_step == self.at:
            raise RuntimeError("stopped on purpose")


@pytest.mark.parametrize(("at", "workers"), [(4, 2), (6, 0)])
def test_a_resumed_run_is_the_run_bit_for_bit(tmp_path, at, workers):
    def run(algorithm, *others, resume=None) -> Noted:
        noted, rows = Noted(), data(num_workers=workers)
        kept = RunCheckpoint(tmp_path, monitor=None)
        fit(algorithm, rows, resume, max_epochs=3, callbacks=[PairWeights(), noted, *others, kept], enable_checkpointing=True)
        return noted

    whole, resumed = dpo(), dpo()
    noted = run(whole)
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(RuntimeError, match="on purpose"):
        run(dpo(), Stopped(at))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["Reviews"]
    assert state["position"] == at
    np.testing.assert_array_equal(state["pair_weights"].numpy(), noted.weights[at // 3])
    again = run(resumed, resume=tmp_path / "last.ckpt")
    assert all(torch.equal(weight, trained(resumed)[name]) for name, weight in trained(whole).items())
    np.testing.assert_array_equal(again.weights[-1], noted.weights[-1])


def test_two_processes_weigh_as_one(tmp_path):
    class Written(Callback):
        def on_train_end(self, trainer, module) -> None:
            np.save(tmp_path / f"{trainer.world_size}-{trainer.global_rank}", trainer.datamodule.state_dict()["pair_weights"].numpy())

    for settings in ({}, {"strategy": "ddp_fork", "devices": 2}):
        fit(dpo(), data(size=7), max_epochs=2, callbacks=[PairWeights(), Written()], **settings)
    alone, first, second = (np.load(tmp_path / f"{name}.npy") for name in ("1-0", "2-0", "2-1"))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=1e-4)


def test_random_numbers_are_left_alone():
    states = []

    class Drawing(Callback):
        def on_train_batch_start(self, *rest) -> None:
            states.append(torch.get_rng_state())

    for design in ("uniform", "sampler"):
        fit(dpo(), data(design), max_epochs=1, callbacks=[PairWeights(), Drawing()])
    assert all(torch.equal(a, b) for a, b in zip(states[:3], states[3:], strict=True))


def test_what_cannot_follow_is_refused():
    with pytest.raises(InputError, match="no callback writes them; add lit_rlhf.callbacks.PairWeights"):
        fit(dpo(), data())
    with pytest.raises(InputError, match="data.design: Sum has no margin"):
        fit(dpo(NLL() + OddsRatio()), data(), callbacks=[PairWeights()])
