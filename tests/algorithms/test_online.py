"""The on-line loop: what ends it, what it measures, what it refuses, and what an interruption leaves."""

import dataclasses
import math

import pytest
import torch
from algorithms.runs import K, PROMPTS, data, made, run, weights

from lightning import Callback

from lit_rlhf.algorithms.replay import Replay
from lit_rlhf.algorithms.schedules import Schedule
from lit_rlhf.callbacks import RunCheckpoint
from lit_rlhf.components.critic import Critic
from lit_rlhf.components.reference import EMA, FrozenCopy
from lit_rlhf.credit.groups import LeaveOneOut
from lit_rlhf.credit.kl import AdaptiveKL, KLInReward
from lit_rlhf.credit.normalising import Baseline
from lit_rlhf.credit.temporal import GAE, RewardToGo
from lit_rlhf.errors import InputError
from lit_rlhf.losses.policy import ClippedSurrogate, Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.regularisers import KLPenalty, ValueLoss
from lit_rlhf.rewards.base import Scores
from lit_rlhf.rewards.compose import BatchNormalised, WeightedSum
from lit_rlhf.rewards.function import Function
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.sampling.native import NativeSampler

CPU = torch.device("cpu")


def recorded(algorithm):
    return algorithm.recorder.flush(CPU)


# ---- what ends it


@pytest.mark.parametrize(("steps", "iterations"), [(1, 1), (4, 1), (5, 2), (7, 2)])
def test_max_steps_counts_updates_and_ends_inside_an_iteration(steps, iterations):
    algorithm = made(epochs=2, minibatches=2)
    assert run(algorithm, None, max_steps=steps).global_step == steps
    assert algorithm.items_done == iterations


def test_max_iterations_counts_rollouts_and_the_first_limit_ends_the_run():
    algorithm = made(epochs=2, minibatches=2)
    assert run(algorithm, 3).global_step == 12 and algorithm.items_done == 3
    algorithm = made(epochs=2)
    assert run(algorithm, 3, max_steps=2).global_step == 2
    algorithm = made()
    assert run(algorithm, 9, data(size=2 * PROMPTS), max_epochs=1).global_step == 2


def test_an_iteration_ends_once_the_policy_has_moved_too_far():
    far, near = made(lr=0.3, stop_kl=1e-4, epochs=5), made(lr=0.3, stop_kl=1e3, epochs=5)
    for algorithm, updates, stopped in ((far, 2, 1.0), (near, 5, 0.0)):
        assert run(algorithm, 1).global_step == updates
        found = recorded(algorithm)
        assert (found["rollout/updates"], found["rollout/stopped_early"]) == (updates, stopped)


@pytest.mark.parametrize(("settings", "trainer", "planned"), [
    ({"max_iterations": 3}, {}, 12),
    ({"max_iterations": 3}, {"max_steps": 7}, 7),
    ({}, {"max_steps": 50}, 50),
    ({}, {"max_epochs": 2}, 2 * 16 * 4),
])
def test_a_schedule_knows_how_many_updates_are_planned(settings, trainer, planned):
    class Told(Schedule):
        def build(self, optimizer, updates):
            self.updates = updates
            return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    class Enough(Callback):
        def on_train_start(self, *args):
            raise StopIteration

    algorithm = made(epochs=2, minibatches=2, schedule=Told())
    with pytest.raises(StopIteration):
        run(algorithm, settings.get("max_iterations"), data(size=16 * PROMPTS), callbacks=[Enough()], **trainer)
    assert algorithm.schedule.updates == planned


# ---- what is measured


class Lying(NativeSampler):
    """Says that its tokens were half a nat likelier than they were."""

    def sample(self, *given):
        samples = super().sample(*given)
        return dataclasses.replace(samples, behaviour=samples.behaviour + 0.5)


def test_a_sampler_whose_log_probs_are_not_the_policys_is_found_out_once():
    algorithm = made(ClippedSurrogate(), sampler=Lying(max_new_tokens=3))
    with pytest.warns(UserWarning, match="differs by 0.5 nats from what the sampler recorded: the ratio should be 1") as told:
        run(algorithm, 2)
    assert sum("the ratio should be 1" in str(one.message) for one in told) == 1
    assert recorded(algorithm)["rollout/first_ratio_error"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("processing", [{}, {"temperature": 0.7, "top_k": 4}, {"top_p": 0.8}])
def test_the_first_ratio_is_one_whatever_the_sampler_keeps(processing, recwarn):
    algorithm = made(ClippedSurrogate(), sampler=NativeSampler(max_new_tokens=3, **processing), epochs=2)
    run(algorithm, 3)
    assert recorded(algorithm)["rollout/first_ratio_error"] < 1e-4
    assert not [one for one in recwarn if "the ratio should be 1" in str(one.message)]


class Forgetful(ReviewReward):
    """Knows nothing of every response after the first `known` ones."""

    def __init__(self, known):
        self.known = known

    def __call__(self, responses):
        total = super().__call__(responses).total
        return Scores(total.masked_fill(torch.arange(len(total)) >= self.known, math.nan))


def test_responses_without_a_reward_train_nothing():
    algorithm = made(reward=Forgetful(0))
    algorithm.configure_model()
    before = weights(algorithm)
    run(algorithm, 1)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(algorithm).items())
    assert recorded(algorithm)["reward/skipped"] == 1


def test_the_others_train_as_if_they_were_alone():
    moved = []
    for reward, hidden in ((Forgetful(2 * K), 0), (ReviewReward(), 2)):
        algorithm = made(reward=reward)
        sample = algorithm.sampler.sample

        def of_first(policy, prompts, group_size, draw, sample=sample, hidden=hidden):
            return sample(policy, prompts.select(torch.arange(PROMPTS - hidden)), group_size, draw)

        algorithm.sampler.sample = of_first
        if hidden:
            cut = algorithm.training_step
            algorithm.training_step = lambda item, index, cut=cut: cut((item[0].select(torch.arange(PROMPTS - 2)),), index)
        run(algorithm, 1)
        moved.append(weights(algorithm))
    assert all(torch.allclose(moved[0][name], moved[1][name], atol=1e-6) for name in moved[0])


# ---- interruptions


def stateful(**parts):
    """With a KL that steers itself, a running baseline, a reference that follows and a buffer."""
    credit = [KLInReward(AdaptiveKL(0.1, 0.01, 10)), RewardToGo(), Baseline()]
    return made(credit=credit, reference=EMA(0.5, 1), replay=Replay(capacity=10, reuse=0.5), **parts)


def interrupted(algorithm, items, updates=0):
    """Ctrl-C in the update after so many of an iteration."""
    evidence = algorithm.evidence

    def stopping(batch):
        done = algorithm.trainer.global_step
        if algorithm.items_done == items and done - items * algorithm.epochs == updates:
            raise KeyboardInterrupt
        return evidence(batch)

    algorithm.evidence = stopping
    return algorithm


@pytest.mark.parametrize(("updates", "saved"), [(0, 3), (1, 2)])
def test_an_iteration_that_was_interrupted_is_done_anew(tmp_path, updates, saved):
    """Before its first update all is as before it, and that is saved; later the checkpoint before it is what there is."""
    settings = {"every_minutes": None, "monitor": None}
    whole = stateful(epochs=2)
    run(whole, 5)
    broken = interrupted(stateful(epochs=2), 3, updates)
    checkpoint = RunCheckpoint(tmp_path, every_n_updates=None if updates == 0 else 4, **settings)
    with pytest.raises(SystemExit):
        run(broken, 5, callbacks=[checkpoint], enable_checkpointing=True)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["algorithm"]["items_done"] == saved
    resumed = stateful(epochs=2)
    run(resumed, 5, resume=tmp_path / "last.ckpt")
    assert resumed.items_done == 5
    assert all(torch.equal(weight, weights(resumed)[name]) for name, weight in weights(whole).items())
    same(whole._states(), resumed._states())
    assert whole.credit[0].tau != 0.1 and len(whole.replay.groups) == 10


def test_a_checkpoint_of_other_credit_steps_is_refused():
    states = made(credit=[RewardToGo(), Baseline()])._states()
    with pytest.raises(InputError, match=r"^model.credit: the checkpoint is of \['RewardToGo', 'Baseline'\], and .* \['RewardToGo'\]; resume"):
        made(credit=[RewardToGo()])._restore(states)


def test_updates_are_planned_for_schedules_as_they_will_be_made():
    algorithm = made(epochs=2, minibatches=100)
    trainer = run(algorithm, 3)
    assert algorithm.planned_updates() == trainer.global_step == 3 * 2 * PROMPTS


def same(one, other):
    """Bit for bit, however deep."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same(value, other[key])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            same(*pair)
    else:
        assert one == other


# ---- what is refused


@pytest.mark.parametrize(("loss", "parts", "sentence"), [
    (None, {"credit": [GAE()]}, "GAE reads 'values', which nothing in this OnlineAlgorithm gives; set model.critic"),
    (None, {"group_size": 1}, "LeaveOneOut reads 'group', which nothing in this OnlineAlgorithm gives; set model.group_size to 2 or more"),
    (None, {"credit": [KLInReward(), LeaveOneOut()]}, "KLInReward reads 'reference', .*; set model.reference"),
    (Reinforce() + 0.1 * KLPenalty("k2"), {"credit": [KLInReward(), LeaveOneOut()], "reference": FrozenCopy()}, "would count twice"),
    (None, {"credit": []}, "Reinforce reads advantages, and no step makes them"),
    (PRA(0.1), {}, "LeaveOneOut works on advantages, and PRA reads none"),
    (None, {"critic": Critic("lit_rlhf/reviews")}, "model.critic: no head of Reinforce reads the values it would learn"),
    (Reinforce() + ValueLoss(), {"credit": [RewardToGo()]}, "needs 'values' and OnlineAlgorithm was given no part for it; set model.critic"),
    (None, {"sampler": NativeSampler(temperature=0.0)}, "model.sampler.temperature: 0 always gives the likeliest completion"),
    (None, {"epochs": 0}, "model.epochs: 0, expected 1 or more"),
    (None, {"max_iterations": 0}, "model.max_iterations: 0, expected 1 or more"),
    (None, {"stop_kl": 0.0}, "model.stop_kl: 0.0, expected nats above 0"),
    (None, {"resample": 64}, "model.resample: 64, expected less than 64"),
    (None, {"resample": 1, "group_size": 1, "credit": [RewardToGo()]}, "model.resample: the reward of a group of one never varies"),
])
def test_what_cannot_work_is_refused_when_it_is_built(loss, parts, sentence):
    with pytest.raises(InputError, match=sentence):
        made(loss, **parts)


def test_a_reward_that_cannot_be_called_is_refused_by_its_key():
    with pytest.raises(InputError, match="^model.reward: Function length: there is no module nowhere_at_all"):
        made(reward=Function("nowhere_at_all.length")).configure_model()


def test_a_reward_that_all_ranks_call_together_is_not_resampled():
    reward = WeightedSum([BatchNormalised(ReviewReward())])
    assert reward.crosses_ranks and not WeightedSum([ReviewReward()]).crosses_ranks
    with pytest.raises(InputError, match="model.resample: each rank .*BatchNormalised"):
        made(reward=reward, resample=1)
