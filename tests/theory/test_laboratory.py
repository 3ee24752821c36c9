"""Compositions on tables."""

import dataclasses

import pytest
import torch

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.dpo import DPO
from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.pairing import RewardPairs
from lit_rlhf.algorithms.rloo import RLOO
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.learned import LearnedTemperature
from lit_rlhf.components.reference import EMA, FrozenCopy
from lit_rlhf.credit.groups import LeaveOneOut
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import AgainstBehaviour, Prior
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.rda import RDA
from lit_rlhf.losses.regularisers import NLL, KLPenalty
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.theory.aims import aim_of, described, moves, tau_of, with_tau
from lit_rlhf.theory.laboratory import adapted
from lit_rlhf.theory.loop import Groups
from lit_rlhf.theory.problem import Problem
from lit_rlhf.theory.sampling import TableReward, TableSampler
from lit_rlhf.theory.tabular import TableModel

PROBLEM = Problem.drawn(1)


def actor():
    return Actor("lit_rlhf/reviews")


def online(**parts):
    head = parts.pop("loss", None) or PolicyGradient(tau=0.5)
    return OnlineAlgorithm(actor(), head, ReviewReward(), reference=FrozenCopy(), **{"group_size": 3} | parts)


def test_the_original_stays_as_it_is_and_reads_no_weight():
    original = DPO(actor())
    lab = adapted(original, PROBLEM)
    assert original.actor.model.net is None and original.reference is not lab.reference
    assert isinstance(lab.actor.model, TableModel) and lab.loss == original.loss and type(lab) is DPO
    torch.testing.assert_close(lab.actor.model.net.law(), PROBLEM.log_base)
    torch.testing.assert_close(lab.reference.model.net.law(), PROBLEM.log_base)
    assert {weight.dtype for weight in lab.parameters()} == {torch.float64}


def test_sampler_and_reward_are_tables_and_credit_a_copy():
    original = online(credit=[KLInReward(0.3), LeaveOneOut()], loss=Reinforce())
    lab = adapted(original, PROBLEM)
    assert isinstance(lab.sampler, TableSampler) and isinstance(lab.reward, TableReward)
    assert lab.credit[0] is not original.credit[0] and lab.credit[0].tau == 0.3


def test_every_group_has_its_probability():
    data = Groups(adapted(online(), PROBLEM), iterations=1)
    weighed = data.weighed()
    members = data.algorithm.sampler.told[0]
    assert data.exact and members.shape == (56, 3)
    torch.testing.assert_close(weighed.weight.sum(), torch.ones((), dtype=torch.float64), rtol=1e-5, atol=0)
    alike = (members == members[:, :1]).all(1)
    expected = PROBLEM.log_base.exp()[members[alike, 0]] ** 3
    torch.testing.assert_close(weighed.weight[alike], expected)


def test_large_groups_are_drawn():
    assert not Groups(adapted(online(group_size=16), PROBLEM), iterations=1).exact


@pytest.mark.parametrize(
    ("algorithm", "tau", "form"),
    [
        (lambda: DPO(actor(), PRA(tau=0.3)), 0.3, "posterior"),
        (lambda: Algorithm(actor(), RDA(tau=0.4)), 0.4, "prior"),
        (lambda: Algorithm(actor(), Prior(PRA(tau=0.2)) + 0.1 * KLPenalty(), FrozenCopy()), 0.2, "prior"),
        (lambda: online(loss=AgainstBehaviour(RDA(tau=0.7))), 0.7, "behaviour"),
        (lambda: RLOO(actor(), ReviewReward(), credit=[KLInReward(0.6), LeaveOneOut()], reference=FrozenCopy()), 0.6, "posterior"),
        (lambda: Algorithm(actor(), NLL()), 0.0, "prior"),
    ],
)
def test_temperature_and_form_of_a_composition(algorithm, tau, form):
    aim = aim_of(algorithm())
    assert (aim.tau, aim.form) == (tau, form)


def test_another_temperature_reaches_every_part():
    original = online(loss=PolicyGradient(tau=0.5) + 2.0 * PolicyGradient(tau=0.5), credit=[])
    changed = with_tau(original, 0.25)
    assert [term.tau if hasattr(term, "tau") else term.head.tau for term in changed.loss.terms] == [0.25, 0.25]
    assert tau_of(original) == 0.5
    steered = with_tau(online(loss=Reinforce(), credit=[KLInReward(0.6), LeaveOneOut()]), 0.1)
    assert steered.credit[0].tau == 0.1


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_none_is_refused(tau):
    with pytest.raises(InputError, match="expected a positive number"):
        with_tau(DPO(actor()), tau)


def test_a_composition_without_a_temperature_has_none_to_replace():
    with pytest.raises(InputError, match="no part of Algorithm has a temperature"):
        with_tau(Algorithm(actor(), NLL()), 1.0)


def test_what_moves_is_said():
    assert not moves(DPO(actor()))
    assert "follows the policy" in moves(DPO(actor(), reference=EMA()))[0]
    assert "learned" in moves(Algorithm(actor(), RDA(), learned=[LearnedTemperature()]))[0]


def test_a_head_is_described_by_what_differs_from_its_class():
    assert described(PRA(tau=0.1)) == "PRA(tau=0.1)"
    assert described(NLL() + 0.5 * Prior(PRA(tau=2.0, reduce="mean"))) == "NLL() + 0.5 Prior(PRA(tau=2, reduce=mean))"


def test_pairs_with_drawn_labels_become_both_outcomes():
    from lit_rlhf.algorithms.pairing import Collected
    from lit_rlhf.theory.pairing import BothOutcomes
    from lit_rlhf.types import Rollout

    sequences = PROBLEM.sequences()
    rollout = Rollout(sequences, torch.zeros(len(sequences.completion_ids)), PROBLEM.reward)
    found = BothOutcomes.of(RewardPairs("sampled"))(Collected(rollout, (), torch.arange(1), 0))
    p = torch.sigmoid(PROBLEM.reward[found.chosen] - PROBLEM.reward[found.rejected])
    assert len(found.chosen) == 30 and found.probability.eq(1).all()
    torch.testing.assert_close(found.weight, p)
    soft = RewardPairs("soft")
    assert BothOutcomes.of(soft) is soft


def test_the_data_say_what_a_head_reads():
    batch = PROBLEM.batch("preference", "sampled")
    torch.testing.assert_close(batch.weight.sum(), torch.ones((), dtype=torch.float64))
    hard = PROBLEM.batch("preference", "hard")
    assert bool((PROBLEM.reward[hard.chosen] > PROBLEM.reward[hard.rejected]).all())
    grouped = PROBLEM.batch("reward", "soft", group=3)
    per_response = torch.zeros(6, dtype=torch.float64).index_add(
        0, PROBLEM.tree.walked(grouped.sequences)[1] - PROBLEM.tree.inner, grouped.weight / 3
    )
    torch.testing.assert_close(per_response, PROBLEM.mu)
    assert dataclasses.replace(PROBLEM, law=PROBLEM.mu).rho.diagonal().eq(0).all()
