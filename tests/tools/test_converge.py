"""What a composition must improve follows from its parts alone."""

import itertools

import numpy as np
import pytest
import torch
from conformance.training import ROOT, fresh, tool

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.opponents import FromReference
from lit_rlhf.algorithms.pairing import RewardPairs
from lit_rlhf.algorithms.ptx import Ptx
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic
from lit_rlhf.components.reference import EMA, FrozenCopy
from lit_rlhf.credit.groups import GroupRelative, LeaveOneOut
from lit_rlhf.credit.kl import AdaptiveKL, KLInReward
from lit_rlhf.credit.normalising import Whiten
from lit_rlhf.credit.selection import KeepBest
from lit_rlhf.credit.temporal import GAE, RewardToGo
from lit_rlhf.data import grammar
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.losses.base import AgainstBehaviour
from lit_rlhf.losses.policy import ClippedSurrogate, Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.losses.regularisers import NLL, KLPenalty, OpponentLikelihood, ValueLoss
from lit_rlhf.rewards.reviews import ReviewReward

converge = tool("converge")


def aim(name, *overrides):
    algorithm, data = fresh(["--config", str(ROOT / "configs" / f"{name}.yaml"), *overrides])
    algorithm.configure_model()
    return converge.aim(algorithm, data.labels)


@pytest.mark.parametrize(("name", "expected"), [
    ("dpo", "KL to u"), ("pra_prior", "KL to u"), ("rda", "KL to u"), ("dro", "KL to u"), ("ra", "KL to u"),
    ("wpo", "KL to u"), ("rwr", "KL to mu"), ("sft", "KL to data"), ("bradley_terry", "residual"),
    ("ipo", "reward"), ("simpo", "reward"), ("kto", "reward"), ("aot", "reward"), ("una", "reward"), ("tr_dpo", "reward"),
    ("apo_down", "order"), ("ppo", "KL to u"), ("sac", "KL to u"), ("grpo", "reward"),
])
def test_aims_of_the_theory(name, expected):
    assert aim(name) == expected


def test_always_naming_the_better_end_leaves_no_target():
    assert aim("dpo", "--data.labels=hard") == "reward"


def test_the_target_is_that_of_the_heads_own_temperature():
    at_target = converge.BASE + converge.REWARD / 0.7
    assert converge.stationary(PRA(tau=0.7), at_target, converge.BASE, "sampled")
    assert not converge.stationary(PRA(tau=0.6), at_target, converge.BASE, "sampled")
    assert not converge.stationary(RA(tau=0.7, partition="none"), at_target, converge.BASE, "soft")


def test_a_distance_must_fall_by_a_tenth_and_a_reward_go_a_fiftieth_of_the_way():
    state, highest = converge.State, np.mean([grammar.rewards(prompt).max() for prompt in grammar.PROMPTS])
    assert converge.HIGHEST == pytest.approx(highest)
    assert converge.improved("KL to u", state(1.0), state(0.9))
    assert not converge.improved("KL to u", state(1.0), state(0.95))
    assert converge.improved("reward", state(reward=0.0), state(reward=0.021 * highest))
    assert not converge.improved("reward", state(reward=0.0), state(reward=0.019 * highest))


def on_line(loss, *credit, reference=FrozenCopy, group_size=4, **parts):
    """What a composition on its own samples must improve."""
    made = OnlineAlgorithm(
        Actor("lit_rlhf/reviews"), loss, ReviewReward(), credit=credit, reference=reference and reference(),
        group_size=group_size, **parts,
    )
    made.configure_model()
    return converge.aim(made, "soft")


@pytest.mark.parametrize(("loss", "credit"), [
    (Reinforce(), (KLInReward(0.05), LeaveOneOut())),
    (ClippedSurrogate(average="sequence"), (KLInReward(2.0), GroupRelative())),
    (Reinforce(), (KLInReward(0.1), RewardToGo())),
    (GroupVariance(0.1), ()),
    (RDA(0.1), ()),
    (PRA(1.5), ()),
])
def test_these_reach_the_exact_target_on_their_own_samples(loss, credit):
    assert on_line(loss, *credit) == "KL to u"


def test_so_do_drawn_labels_critics_and_the_prior_form():
    assert on_line(PRA(0.5), pairs=RewardPairs("sampled")) == "KL to u"
    assert on_line(PRA(0.5), pairs=RewardPairs("sampled", "best_worst")) == "KL to u"
    surrogate = ClippedSurrogate() + ValueLoss()
    assert on_line(surrogate, KLInReward(), GAE(), Whiten(), critic=Critic("lit_rlhf/reviews"), group_size=1) == "KL to u"
    assert on_line(GroupVariance(1.0), reference=None) == "KL to u"


@pytest.mark.parametrize(("loss", "credit"), [
    (Reinforce(), (LeaveOneOut(),)),
    (Reinforce(average="sequence"), (KLInReward(0.1), RewardToGo())),  # without a baseline short responses weigh more
    (Reinforce() + 0.1 * KLPenalty("k3"), (LeaveOneOut(),)),
    (AgainstBehaviour(RDA(0.1)), ()),
    (RA(0.1, partition="mean_reward"), ()),  # the mean of a group has its own reward in it
    (Reinforce(), (KLInReward(AdaptiveKL()), LeaveOneOut())),
])
def test_these_do_not(loss, credit):
    assert on_line(loss, *credit) == "reward"


def test_nor_do_sure_judges_moving_references_other_texts_and_a_bonus_for_exploring():
    assert on_line(PRA(0.5), pairs=RewardPairs("hard")) == "reward"
    assert on_line(RDA(0.1), reference=lambda: EMA(0.5, 1)) == "reward"
    texts = Ptx(Reviews(size=4, val_size=0))
    assert on_line(Reinforce(), KLInReward(0.1), LeaveOneOut(), ptx=texts) == "reward"
    bonus = PRA(0.5) + 0.1 * OpponentLikelihood()
    assert on_line(bonus, opponent=FromReference(), pairs=RewardPairs(between="opponents"), group_size=1) == "reward"


def test_what_samples_its_own_responses_must_do_more():
    state = converge.State
    assert converge.improved("KL to u", state(1.0), state(0.1), samples=True)
    assert not converge.improved("KL to u", state(1.0), state(0.11), samples=True)
    assert not converge.improved("reward", state(reward=0.0), state(reward=0.49 * converge.HIGHEST), samples=True)


def test_the_best_of_n_of_a_reference_is_a_law_of_its_own():
    parts = {"reference": FrozenCopy, "opponent": FromReference(8), "group_size": 1}
    assert on_line(NLL(), KeepBest(of="opponents"), **parts) == "KL to best"
    assert on_line(NLL(), KeepBest(), reference=None) == "reward"  # its own samples move with it


def test_the_law_of_the_best_of_n_by_enumeration():
    law, reward = torch.tensor([0.3, 0.1, 0.2, 0.4], dtype=torch.float64), torch.tensor([1.0, 2.0, 1.0, 0.0])
    expected = torch.zeros_like(law)
    for drawn in itertools.product(range(4), repeat=3):
        best = max(drawn, key=lambda one: reward[one])  # the first of equal ones
        expected[best] += law[list(drawn)].prod()
    assert torch.allclose(converge.best_of(law, reward, 3), expected)


def test_the_highest_reward_within_a_kl_is_that_of_the_boltzmann_law_at_it():
    made = OnlineAlgorithm(
        Actor("lit_rlhf/reviews"), Reinforce(), ReviewReward(), credit=[KLInReward(AdaptiveKL(target=1.0)), LeaveOneOut()],
        reference=FrozenCopy(), group_size=2,
    )
    made.configure_model()
    summary = converge.ExactSummary(1.0)
    summary.measure(made)
    highest = converge.within(made, summary)
    assert 0.5 < highest < converge.HIGHEST - 0.3
    reward = torch.stack([torch.from_numpy(grammar.rewards(prompt)) for prompt in grammar.PROMPTS])
    laws = [(summary._base.double() + reward / tau).log_softmax(-1) for tau in np.linspace(0.5, 1.5, 41)]
    kls = [float((law.exp() * (law - summary._base)).sum(-1).mean()) for law in laws]
    nearest = laws[int(np.argmin(np.abs(np.array(kls) - 1.0)))]
    assert highest == pytest.approx(float((nearest.exp() * reward).sum(-1).mean()), abs=0.05)
