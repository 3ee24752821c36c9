"""Soft actor-critic on the built-in task: what an update moves, what a checkpoint holds, where it goes."""

import dataclasses

import pytest
import torch
from lightning import seed_everything
from support import fit

from lit_rlhf.algorithms.replay import Replay
from lit_rlhf.algorithms.sac import SAC
from lit_rlhf.callbacks.quickstart import ExactSummary
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic
from lit_rlhf.components.learned import LearnedTemperature
from lit_rlhf.components.reference import FrozenCopy
from lit_rlhf.components.soft_q import SoftCritic
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError
from lit_rlhf.losses.regularisers import NLL
from lit_rlhf.losses.soft import SoftPolicy, SoftQ, TemperatureLoss
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.sampling.native import NativeSampler

MODEL = "lit_rlhf/reviews"


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.05)


def made(loss=None, critic=None, **options):
    seed_everything(0, verbose=False)
    options = {"optimizer": sgd, "group_size": 3, "sampler": NativeSampler(max_new_tokens=3)} | options
    return SAC(Actor(MODEL), ReviewReward(), loss, critic or SoftCritic(MODEL, rate=0.1), **options)


def ran(algorithm, steps=1, prompts=6, **trainer):
    data = Reviews(batch_size=prompts, size=48)
    fit(algorithm, data, max_steps=steps, max_epochs=-1, limit_val_batches=0, num_sanity_val_steps=0, **trainer)
    return algorithm


def weights(algorithm):
    """Copies by part."""
    return {name: [weight.detach().clone() for weight in part.parameters()] for name, part in algorithm.parts}


def differ(one, other):
    return not all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("loss", "moved"),
    [
        (SoftPolicy(), {"actor"}), (SoftQ(), {"critic"}),
        (SoftPolicy() + SoftQ() + TemperatureLoss(), {"actor", "critic", "learned.0"}),
    ],
    ids=["policy", "critic", "all"],
)
def test_each_term_moves_its_own_part(loss, moved):
    learned = {"learned": [LearnedTemperature(0.5)]} if "learned.0" in moved else {}
    algorithm = made(loss, **learned)
    algorithm.configure_model()
    before = weights(algorithm)
    ran(algorithm)
    after = weights(algorithm)
    assert {name for name in before if differ(before[name], after[name])} == moved


def test_the_optimizer_has_a_group_for_each_part_and_none_for_the_slow_copy():
    algorithm = ran(made(SoftPolicy() + SoftQ() + TemperatureLoss(), learned=[LearnedTemperature(0.5)]))
    groups = algorithm.optimizers().param_groups
    assert [group["name"] for group in groups] == ["actor", "critic", "learned.0"]
    assert sum(len(group["params"]) for group in groups) == len(list(algorithm.parameters()))


def test_the_slow_copy_is_an_average_of_what_the_critic_was():
    algorithm = made(minibatches=2)
    algorithm.configure_model()
    expected = [weight.detach().clone() for weight in algorithm.critic.parameters()]
    step = algorithm._step

    def watched(optimizer):
        done = step(optimizer)
        for slow, own in zip(expected, algorithm.critic.parameters(), strict=True):
            slow.lerp_(own.detach(), 0.1)
        return done

    algorithm._step = watched
    ran(algorithm, steps=5)
    slow = list(algorithm.critic.target_state().values())
    assert not differ(slow, expected) and differ(slow, weights(algorithm)["critic"])


def test_a_resumed_run_is_an_uninterrupted_one(tmp_path):
    def parts():
        return {"replay": Replay(capacity=10, reuse=1.0), "minibatches": 2, "reference": FrozenCopy()}

    whole, half = ran(made(**parts()), steps=8), ran(made(**parts()), steps=4)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    held = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert len(held["online"]["replay"]["groups"]) == 10
    assert set(held["slow_critic"]) == {name for name, _ in half.critic.named_parameters()}
    again = ran(made(**parts()), steps=8, resume=str(tmp_path / "half.ckpt"))
    for name, value in weights(whole).items():
        assert not differ(value, weights(again)[name]) and differ(value, weights(half)[name])
    assert not differ(whole.critic.target_state().values(), again.critic.target_state().values())


def test_the_policy_comes_nearer_to_the_target():
    algorithm = made(
        SoftPolicy(0.5) + SoftQ(0.5), SoftCritic(MODEL, lr=0.005, rate=0.2), reference=FrozenCopy(), minibatches=4,
        optimizer=lambda groups: torch.optim.Adam(groups, lr=0.001), replay=Replay(reuse=3.0), max_grad_norm=10.0,
    )
    algorithm.configure_model()
    summary = ExactSummary()
    before = summary.measure(algorithm)
    ran(algorithm, steps=48, prompts=16)
    assert summary.measure(algorithm).kl_to_target < 0.75 * before.kl_to_target


def test_critics_that_heads_do_not_read_are_refused():
    with pytest.raises(InputError, match="SoftPolicy needs 'soft_q' and SAC was given no part for it; set model.critic"):
        SAC(Actor(MODEL), ReviewReward(), SoftPolicy(), Critic(MODEL))
    with pytest.raises(InputError, match="no head of NLL reads the soft_q it would learn"):
        made(NLL())
    with pytest.raises(InputError, match="needs 'tau' and SAC was given no part for it; set model.learned"):
        made(SoftPolicy() + SoftQ() + TemperatureLoss())


def test_the_default_critic_starts_from_the_actors_own_source():
    algorithm = SAC(Actor(MODEL), ReviewReward())
    assert isinstance(algorithm.critic, SoftCritic) and algorithm.critic.model.source == MODEL
    assert algorithm.loss == SoftPolicy() + SoftQ() and algorithm.reference is None
    assert dataclasses.asdict(algorithm.loss.terms[0]) == {"tau": 0.1}
