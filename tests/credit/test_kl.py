import dataclasses
import math
import warnings

import pytest
import torch
from credit import tree
from credit.given import COUNTED, OWNER, TOKENS, TRAINED, UNTRAINED, WEIGHT, metric, rollout, tokens_of

from lit_rlhf.credit.base import credited
from lit_rlhf.credit.groups import LeaveOneOut
from lit_rlhf.credit.kl import AdaptiveKL, KLInReward
from lit_rlhf.credit.temporal import GAE, RewardToGo
from lit_rlhf.errors import InputError
from lit_rlhf.functional import kl
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.losses.regularisers import KLPenalty
from lit_rlhf.types import Evidence, Kept, Law, Rollout, ScoredBatch, Sequences, TokenLogps

# ---- what KLs are as losses, by enumeration


def bandit(theta, base):
    """Every one of the responses of one token, each with the weight of its probability."""
    one = torch.ones(len(theta), dtype=torch.long)
    given = Sequences(torch.tensor([0]), torch.tensor([1]), torch.arange(len(theta)), one, torch.zeros_like(one))
    pi = theta.log_softmax(-1)
    return Evidence(TokenLogps(pi), base.log_softmax(-1)), ScoredBatch(given, pi.detach(), pi.detach().exp())


def test_as_a_loss_k1_has_no_gradient_k2_that_of_the_kl_and_k3_that_of_the_other_kl():
    theta, base = tree.THETA.flatten().clone().requires_grad_(), tree.BASE.flatten()
    evidence, batch = bandit(theta, base)
    log_pi, log_u = theta.log_softmax(-1), base.log_softmax(-1)
    forward, reverse = (log_u.exp() * (log_u - log_pi)).sum(), (log_pi.exp() * (log_pi - log_u)).sum()
    k1 = tree.slope((batch.weight * kl.k1(log_pi, log_u)).sum(), theta)
    assert float(k1.abs().max()) < 1e-14 < 1e-2 < float(tree.slope(reverse, theta).abs().max())
    for estimator, target in (("k2", reverse), ("k3", forward)):
        (term,) = KLPenalty(estimator)(evidence, batch).terms
        assert torch.allclose(tree.slope(term.total, theta), tree.slope(target, theta), rtol=1e-12, atol=1e-15)


def test_per_token_losses_take_the_prefixes_as_they_come():
    """The gradient is that of sum_s d(s) KL(pi(. | s) || u(. | s)) with the law d of the prefixes held fixed."""
    theta = tree.THETA.clone().requires_grad_()
    given = tree.sequences([tuple(range(7))])
    evidence = Evidence(TokenLogps(tree.logps(theta, given)), tree.logps(tree.BASE, given))
    batch = ScoredBatch(given, tree.REWARD, tree.law(theta).detach().exp())
    log_pi, log_u = theta.log_softmax(-1), tree.BASE.log_softmax(-1)
    visits = torch.cat([torch.ones(1), log_pi[0, 1:].detach().exp()])
    held = {
        "k2": (visits * (log_pi.exp() * (log_pi - log_u)).sum(-1)).sum(),
        "k3": (visits * (log_u.exp() * (log_u - log_pi)).sum(-1)).sum(),
    }
    whole = tree.slope(-tree.objective(theta, 1.0) + (tree.law(theta).exp() * tree.REWARD).sum(), theta)
    for estimator, target in held.items():
        (term,) = KLPenalty(estimator)(evidence, batch).terms
        found = tree.slope(term.total, theta)
        assert torch.allclose(found, tree.slope(target, theta), rtol=1e-12, atol=1e-15)
        assert float((found - whole).abs().max()) > 1e-2


# ---- what a KL in the reward is


def drawn(theta, groups, law=None):
    """A rollout of the tree's responses by the policy theta, and its evidence."""
    given = tree.sequences(groups)
    reward = tree.REWARD[[k for group in groups for k in group]]
    now = tree.logps(theta, given)
    weight = None if law is None else law.detach()
    return Evidence(TokenLogps(now)), Rollout(given, now.detach(), reward, tree.logps(tree.BASE, given), weight=weight)


def ascent(theta, evidence, made):
    """Minus the gradient of the policy-gradient loss, a sum over sequences."""
    (term,) = Reinforce()(evidence, made).terms
    return -tree.slope(term.total, theta)


@pytest.mark.parametrize("tau", [0.0, 0.3, 2.0])
def test_with_leave_one_out_the_expected_gradient_is_that_of_the_posterior_objective(tau):
    theta = tree.THETA.clone().requires_grad_()
    pairs = [(a, b) for a in range(7) for b in range(7)]
    log_pi = tree.law(theta)
    law = torch.stack([(log_pi[a] + log_pi[b]).exp() for a, b in pairs]).repeat_interleave(2)
    evidence, made = drawn(theta, pairs, law)
    done = credited(made, [KLInReward(tau), LeaveOneOut()]).rollout
    exact = tree.slope(tree.objective(theta, tau), theta)
    assert torch.allclose(ascent(theta, evidence, done) / 2, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("tau", [0.0, 0.3])
@pytest.mark.parametrize("critic", [False, True], ids=["reward to go", "a critic of any values"])
def test_token_by_token_it_is_the_same_at_gamma_one(tau, critic):
    theta = tree.THETA.clone().requires_grad_()
    evidence, made = drawn(theta, [tuple(range(7))], tree.law(theta).exp())
    values = torch.tensor([0.7, -2.0, 1.1], dtype=torch.float64)
    made = dataclasses.replace(made, values=values[tree.states(made.sequences)])
    found = {}
    for gamma in (1.0, 0.5):
        step = GAE(gamma, lam=1.0) if critic else RewardToGo(gamma)
        found[gamma] = ascent(theta, evidence, credited(made, [KLInReward(tau), step]).rollout)
    exact = tree.slope(tree.objective(theta, tau), theta)
    assert torch.allclose(found[1.0], exact, rtol=1e-12, atol=1e-14)
    assert float((found[0.5] - exact).abs().max()) > 1e-2


@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
def test_a_group_gives_rda_two_tau_and_group_variance_tau_times_its_gradient(tau):
    theta = tree.THETA.clone().requires_grad_()
    evidence, made = drawn(theta, [(0, 3, 6, 3, 2)])
    evidence = dataclasses.replace(evidence, reference=made.reference)
    rloo = -ascent(theta, evidence, credited(made, [KLInReward(tau), LeaveOneOut()]).rollout) / 5
    for head, batch, factor in ((RDA(tau), made.pairs(), 2 * tau), (GroupVariance(tau), made, tau)):
        (term,) = head(evidence, batch).terms
        found = tree.slope(term.total / batch.count(term.unit), theta)
        assert torch.allclose(found, factor * rloo, rtol=1e-12, atol=1e-14)


# ---- the step by a loop


def ratio(given, t):
    return (given.unfiltered[t] - given.reference[t]).item()


@pytest.mark.parametrize("before", [None, torch.linspace(-1.0, 1.0, TOKENS, dtype=torch.float64)])
def test_every_token_pays_tau_times_its_log_ratio(before):
    sampled = torch.linspace(-3.0, -0.1, TOKENS, dtype=torch.float64)
    given = rollout(token_reward=before, policy=sampled, law=Law(0.7))
    found = KLInReward(0.4)(given).rollout.token_reward
    for t in range(TOKENS):
        paid = 0.0 if t in UNTRAINED else 0.4 * (sampled[t].item() - given.reference[t].item())
        assert found[t].item() == pytest.approx((0.0 if before is None else before[t].item()) - paid)


def test_metrics_are_of_the_unfiltered_laws_per_token_and_per_completion():
    given = rollout(policy=torch.linspace(-3.0, -0.1, TOKENS, dtype=torch.float64), law=Law(0.7))
    done = KLInReward(0.4)(given)
    for name, formula in (("k1", lambda x: x), ("k3", lambda x: math.exp(-x) - 1 + x)):
        tokens = {t: formula(ratio(given, t)) for t in TRAINED if WEIGHT[OWNER[t]]}
        mass = sum(WEIGHT[OWNER[t]] for t in tokens)
        per_token = sum(WEIGHT[OWNER[t]] * x for t, x in tokens.items()) / mass
        whole = sum(WEIGHT[k] * sum(tokens[t] for t in tokens_of(k)) for k in COUNTED) / sum(WEIGHT)
        assert metric(done, f"kl_unfiltered_{name}/token") == pytest.approx(per_token)
        assert metric(done, f"kl_unfiltered_{name}/completion") == pytest.approx(whole)
    assert metric(done, "tau") == 0.4


def test_a_reference_and_a_temperature_are_needed():
    with pytest.raises(InputError, match=r"this rollout has none; set model.reference"):
        KLInReward()(rollout(reference=None))
    with pytest.raises(InputError, match=r"KLInReward.tau is -1"):
        KLInReward(-1)
    with pytest.raises(InputError, match=r"AdaptiveKL.target is 0"):
        AdaptiveKL(0.1, 0, 100)


# ---- the adaptive coefficient


def apart(nats, n=40, noise=0.0, length=2, **changes):
    """n completions whose mean log-ratio is this many nats."""
    given = Sequences(
        torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long), torch.zeros(n * length, dtype=torch.long),
        torch.full((n,), length), torch.zeros(n, dtype=torch.long),
    )
    sign = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(n // 2)
    ratio = nats / length + noise * sign.repeat_interleave(length)
    return Rollout(given, ratio - 5.0, torch.zeros(n, dtype=torch.float64), torch.full_like(ratio, -5.0), **changes)


@pytest.mark.parametrize(("nats", "error"), [(6.6, 0.1), (60.0, 0.2), (5.4, -0.1), (0.0, -0.2)])
def test_tau_moves_towards_the_target_by_a_clipped_proportional_step(nats, error):
    step = KLInReward(AdaptiveKL(0.5, target=6.0, horizon=400))
    done = step(apart(nats))
    assert metric(done, "tau") == 0.5
    assert done.rollout.token_reward.sum().item() == pytest.approx(-0.5 * nats * 40)
    assert step.tau == pytest.approx(0.5 * (1 + error * 40 / 400))


def test_an_iteration_longer_than_the_horizon_does_not_overturn_tau_and_an_empty_one_leaves_it():
    step = KLInReward(AdaptiveKL(0.5, target=6.0, horizon=4))
    step(apart(0.0))
    assert step.tau == pytest.approx(0.4)
    step(apart(0.0, weight=torch.zeros(40)))
    assert step.tau == pytest.approx(0.4)


def test_a_checkpoint_holds_the_adaptive_tau_and_nothing_of_a_fixed_one():
    step = KLInReward(AdaptiveKL(0.5, 6.0, 400))
    step(apart(9.0))
    twin = KLInReward(AdaptiveKL(0.5, 6.0, 400))
    twin.load_state_dict(step.state_dict())
    assert twin.tau == step.tau != 0.5
    assert KLInReward(0.3).state_dict() == {}
    fixed = KLInReward(0.3)
    fixed.load_state_dict(step.state_dict())
    assert fixed.tau == 0.3
    twin.load_state_dict({})
    assert twin.tau == step.tau


# ---- a KL below zero


def said(given, step=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (step or KLInReward())(given)
    return [str(one.message) for one in caught]


def test_a_kl_beyond_three_errors_below_zero_warns_once_with_number_and_causes():
    step = KLInReward()
    (text,) = said(apart(-0.4, n=100, noise=0.5), step)
    error = 1.0 / math.sqrt(99)
    assert f"-0.4 nats a completion, {0.4 / error:.1f} standard errors below 0, over 100 completions" in text
    assert "dropout" in text and "another tokenizer" in text and "temperature" not in text
    assert not said(apart(-0.4, n=100, noise=0.5), step)


def test_the_law_that_sampled_is_the_first_cause_where_there_is_one():
    kept = Kept(torch.zeros(0, dtype=torch.long), torch.zeros(200, dtype=torch.long))
    (text,) = said(apart(-0.4, n=100, noise=0.5, law=Law(0.5, kept)))
    assert "Likely causes: sampling at temperature 0.5 and from a filtered set of tokens" in text


@pytest.mark.parametrize(
    "given",
    [
        apart(-0.2, n=100, noise=0.5), apart(0.4, n=100, noise=0.5), apart(0.0, n=100), apart(-1e-5, n=100),
        apart(-3.0, n=2, noise=0.5).select(torch.tensor([0])), apart(-0.4, n=100, noise=0.5, weight=torch.zeros(100)),
    ],
    ids=["chance", "positive", "zero", "rounding", "one sample", "none"],
)
def test_chance_rounding_and_positive_kls_say_nothing(given):
    assert not said(given)


def test_an_opponents_samples_are_not_the_policys():
    opponent = torch.zeros(100, dtype=torch.bool).index_fill(0, torch.arange(50), True)
    shifted = apart(0.4, n=100, noise=0.1)
    behaviour = shifted.behaviour - 9.0 * opponent.repeat_interleave(2)
    done = KLInReward()(dataclasses.replace(shifted, behaviour=behaviour, opponent=opponent))
    assert metric(done, "kl_unfiltered_k1/completion") == pytest.approx(0.4)
    assert not said(dataclasses.replace(shifted, behaviour=behaviour, opponent=opponent))
    assert said(dataclasses.replace(shifted, behaviour=behaviour))


def test_untrained_tokens_may_be_nan():
    given = rollout()
    assert given.reference.isnan().sum() == len(UNTRAINED)
    assert bool(KLInReward()(given).rollout.token_reward.isfinite().all())
