"""Where compositions end, against closed forms."""

import math
from dataclasses import dataclass

import pytest
import torch

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.dpo import DPO
from lit_rlhf.algorithms.ipo import IPO
from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.reward_model import BradleyTerry, RewardRegression
from lit_rlhf.algorithms.simpo import SimPO
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic
from lit_rlhf.components.reference import EMA, FrozenCopy
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.credit.temporal import GAE, RewardToGo
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import completion_rewards
from lit_rlhf.losses.links import Logistic
from lit_rlhf.losses.policy import ClippedSurrogate, Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.rda import RDA
from lit_rlhf.losses.regularisers import NLL, ValueLoss
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.theory.boltzmann import log_target
from lit_rlhf.theory.closed_forms.margins import simpo
from lit_rlhf.theory.finding import Setting, exact_field, find
from lit_rlhf.theory.pace import pace
from lit_rlhf.theory.problem import Problem
from lit_rlhf.theory.rates import pra_hessian, spectrum
from lit_rlhf.theory.residual import bradley_terry
from lit_rlhf.theory.variations import in_two_parts, other_pairs, unseen, without

PROBLEM = Problem.drawn(2)
TAU = 0.8


def actor():
    return Actor("lit_rlhf/reviews")


def setting(problem=PROBLEM, **changes):
    return Setting(problem, **changes)


@pytest.mark.parametrize("labels", ["soft", "sampled"])
def test_dpo_ends_at_the_posterior_target_from_every_start(labels):
    found = find(DPO(actor(), PRA(tau=TAU)), setting(labels=labels))
    assert found.is_target and found.unique and found.end.outcome == "minimiser" and found.end.flat == 0
    torch.testing.assert_close(found.end.log_law, log_target(PROBLEM.reward, TAU, PROBLEM.log_base))


def test_rda_without_a_reference_ends_at_the_prior_target():
    found = find(Algorithm(actor(), RDA(tau=TAU)), setting(), number=2)
    assert found.is_target and found.aim.form == "prior"
    torch.testing.assert_close(found.end.log_law, log_target(PROBLEM.reward, TAU))


def test_a_policy_of_tokens_has_the_same_target_and_another_pace():
    algorithm = DPO(actor(), PRA(tau=TAU))
    found = find(algorithm, setting(by="token"), number=1)
    assert found.is_target and found.end.flat == 0
    measured = pace(exact_field(algorithm, found.setting), found.end.weights)
    assert measured.measured == pytest.approx(measured.predicted, abs=1e-3)
    by_response = spectrum(pra_hessian(PROBLEM.rho, bradley_terry(PROBLEM.reward), TAU))
    assert measured.condition > 1.5 * float(by_response[-1] / by_response[0])


def test_ipo_is_recognised_as_what_it_is():
    found = find(IPO(actor()), setting(), number=1)
    assert not found.is_target and "P(y > mu)" in found.best.known.symbols and found.best.variation < 1e-8


def test_simpo_ends_at_the_margins_of_its_closed_form_on_a_pair():
    """tau (log pi_1/l_1 - log pi_2/l_2) = log E of the pair that is compared, whatever the lengths."""
    pair_law = torch.zeros(6, 6, dtype=torch.float64)
    pair_law[0, 2] = 1.0
    head = PRA(tau=2.0, link=Logistic(margin=0.7), reduce="mean")
    law = find(SimPO(actor(), head), setting(PROBLEM.but(pair_law=pair_law)), number=1).end.log_law
    margin = 2.0 * (law[0] / PROBLEM.lengths[0] - law[2] / PROBLEM.lengths[2])
    p = float(torch.sigmoid(PROBLEM.reward[0] - PROBLEM.reward[2]))
    assert float(margin) == pytest.approx(simpo(p, 0.7), abs=1e-6)


def test_demonstrations_are_imitated():
    found = find(Algorithm(actor(), NLL()), setting(), number=2)
    assert found.best.known.words.startswith("the law of the demonstrations") and found.unique
    torch.testing.assert_close(found.end.log_law, (PROBLEM.log_base + PROBLEM.reward).log_softmax(-1))


def test_rewards_are_learned_up_to_a_constant_or_wholly():
    model = RewardModel("lit_rlhf/reviews")
    for algorithm, free in ((BradleyTerry(model), True), (RewardRegression(model), False)):
        error = find(algorithm, setting(), number=2).end.scores - PROBLEM.reward
        torch.testing.assert_close(error, error.mean().expand(6) if free else torch.zeros_like(error), atol=1e-5, rtol=0)


def test_labels_that_are_certain_have_no_finite_minimiser():
    assert find(DPO(actor(), PRA(tau=TAU)), setting(labels="hard"), number=1).end.outcome == "unbounded"


def test_the_target_does_not_depend_on_the_pair_law_but_on_its_coverage():
    dpo = DPO(actor(), PRA(tau=TAU))
    assert find(dpo, setting(other_pairs(PROBLEM)), number=2).is_target
    for problem in (without(PROBLEM, 3), in_two_parts(PROBLEM)):
        found = find(dpo, setting(problem), number=2)
        assert not found.unique and found.end.flat == 1


def test_pointwise_data_may_lack_one_response_where_the_partition_is_known_and_not_two():
    one, two = (find(Algorithm(actor(), Known(TAU), FrozenCopy()), setting(unseen(PROBLEM, k)), number=2) for k in (1, 2))
    assert one.is_target and one.unique
    assert not two.unique


@dataclass(frozen=True)
class Known(LossHead):
    """RA with the true partition function of this problem: a head from outside the package."""

    tau: float
    family = "RA"
    needs = frozenset({"policy", "reward"})
    unit = "sequence"

    def __call__(self, evidence, batch):
        constant = self.tau * (PROBLEM.log_base + PROBLEM.reward / self.tau).logsumexp(-1)
        error = completion_rewards(evidence, batch, self.tau) + constant - batch.reward
        return LossOutput((Term("known", (batch.sequence_weight * error.square()).sum(), "sequence"),))


@dataclass(frozen=True)
class Broken(LossHead):
    """Its loss is no number."""

    family = "PRA"
    needs = frozenset({"policy", "chosen"})
    unit = "pair"

    def __call__(self, evidence, batch):
        return LossOutput((Term("broken", evidence.policy.values.sum() * math.nan, "pair"),))


@dataclass(frozen=True)
class Endless(Broken):
    """Its loss falls for ever: the likelihood ratio of every pair, without a link."""

    def __call__(self, evidence, batch):
        rewards = completion_rewards(evidence, batch, 1.0)
        gap = rewards[batch.chosen] - rewards[batch.rejected]
        return LossOutput((Term("endless", -(batch.weight * gap).sum(), "pair"),))


@pytest.mark.parametrize(("head", "outcome"), [(Broken(), "not finite"), (Endless(), "unbounded")])
def test_a_head_without_a_number_or_an_end_is_found_out(head, outcome):
    assert find(Algorithm(actor(), head), setting(), number=1).end.outcome == outcome


def test_a_time_that_is_over_ends_the_search():
    found = find(DPO(actor()), setting(deadline=0.0), number=1)
    assert found.end.outcome == "unsettled"


def test_the_pace_is_the_one_of_theory_and_descent_keeps_it():
    algorithm = DPO(actor(), PRA(tau=TAU))
    found = find(algorithm, setting(), number=1)
    measured = pace(exact_field(algorithm, found.setting), found.end.weights)
    eigenvalues = spectrum(pra_hessian(PROBLEM.rho, bradley_terry(PROBLEM.reward), TAU))
    assert measured.least == pytest.approx(float(eigenvalues[0]), rel=1e-4)
    assert measured.largest == pytest.approx(float(eigenvalues[-1]), rel=1e-4)
    assert measured.measured == pytest.approx(measured.predicted, abs=1e-3)


# ---- on-line


def online(head, credit, **parts):
    return OnlineAlgorithm(actor(), head, ReviewReward(), credit=credit, reference=FrozenCopy(), **parts)


def test_the_policy_gradient_with_the_kl_in_the_reward_ends_at_the_posterior_target():
    found = find(online(Reinforce(), [KLInReward(TAU), RewardToGo()]), setting(updates=150), number=1)
    assert found.end.how == "exact" and found.is_target and found.matches[0].divergence < 1e-4


def test_ppo_with_a_critic_ends_there_too():
    head = ClippedSurrogate() + 0.5 * ValueLoss()
    algorithm = online(head, [KLInReward(TAU), GAE()], critic=Critic("lit_rlhf/reviews"), group_size=2, epochs=2)
    found = find(algorithm, setting(updates=200), number=1)
    assert found.is_target and found.matches[0].divergence < 1e-3


def test_without_a_temperature_the_best_responses_alone_are_left():
    algorithm = OnlineAlgorithm(actor(), Reinforce(), ReviewReward(), credit=[RewardToGo()])
    found = find(algorithm, setting(updates=150), number=1)
    assert found.matches[0].known.symbols == "pi^delta" and found.matches[0].variation < 0.05


def test_a_reference_that_follows_takes_the_target_along():
    """u <- u^(1/2) pi^(1/2) after every round: round k ends at u e^{(1 + k) r / (2 tau)} / Z."""
    found = find(DPO(actor(), PRA(tau=TAU), EMA(decay=0.5, every=3)), setting(), number=1)
    assert "follows" in found.moves[0] and len(found.rounds) == 4
    for k, law in enumerate(found.rounds, start=1):
        torch.testing.assert_close(law, log_target(PROBLEM.reward, 2 * TAU / (1 + k), PROBLEM.log_base))
