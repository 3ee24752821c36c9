import dataclasses
import math

import pytest
import torch
from losses.given import (
    LAW,
    LENGTHS,
    PROMPT_OF,
    UNTRAINED,
    bandit,
    double,
    evidence,
    gradient,
    metric,
    scored,
    total,
    whole,
)
from losses.test_policy import rollout

from lit_rlhf.errors import InputError
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.importance import TruncatedImportance
from lit_rlhf.losses.policy import ClippedSurrogate, Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.losses.regularisers import KLPenalty
from lit_rlhf.types import Rollout


def off_policy(theta, reference, behaviour, reward, **fields):
    """Every response of a bandit, as often as the behaviour draws it."""
    seen, batch = bandit(theta, reference, list(range(len(theta))), reward)
    return seen, Rollout(batch.sequences, behaviour.log(), reward, weight=behaviour, **fields)


def laws():
    draw = torch.Generator().manual_seed(31)
    theta, reward, base, old = (torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(4))
    return theta.requires_grad_(), reward, base.softmax(0), old.softmax(0)


def slope(head, theta, seen, batch):
    return torch.autograd.grad(head(seen, batch).terms[0].total, theta, retain_graph=True)[0]


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_exact_weights_restore_the_gradient_of_reward_and_kl(tau):
    theta, reward, base, old = laws()
    logps = theta.log_softmax(0)
    (exact,) = torch.autograd.grad((logps.exp() * (tau * (logps - base.log()) - reward)).sum(), theta)
    seen, batch = off_policy(theta, base, old, reward)
    for head in (PolicyGradient(tau, "none"), PolicyGradient(tau, "mean")):
        assert torch.allclose(slope(TruncatedImportance(head, math.inf), theta, seen, batch), exact, atol=1e-12)
    plain = PolicyGradient(tau, "none")
    for head in (plain, TruncatedImportance(plain, 0.5)):
        assert not torch.allclose(slope(head, theta, seen, batch), exact, atol=1e-2)


def test_exact_weights_restore_the_policy_gradient_and_what_k2_and_k3_are_gradients_of():
    theta, reward, base, old = laws()
    policy = theta.softmax(0)
    seen, batch = off_policy(theta, base, old, reward, advantages=reward)
    expected = {
        Reinforce(): -(policy * reward).sum(),
        KLPenalty("k2"): (policy * (policy.log() - base.log())).sum(),
        KLPenalty("k3"): (base * (base.log() - policy.log())).sum(),
    }
    for head, objective in expected.items():
        (exact,) = torch.autograd.grad(objective, theta, retain_graph=True)
        assert torch.allclose(slope(TruncatedImportance(head, math.inf), theta, seen, batch), exact, atol=1e-12)
        assert not torch.allclose(slope(head, theta, seen, batch), exact, atol=1e-2)


@pytest.mark.parametrize(
    "head", [PolicyGradient(0.3), RA(0.3, "mean_reward"), Reinforce("sequence"), GroupVariance(0.3)], ids=repr
)
def test_sequences_weigh_their_cut_ratio_by_a_loop(head):
    batch, seen = rollout(), evidence()
    ratios = [math.exp(x) for x in whole(seen.policy.values.detach() - batch.behaviour)]
    cut = [min(r, 1.1) for r in ratios]
    by_hand = dataclasses.replace(batch, weight=double([w * c for w, c in zip(LAW, cut, strict=True)]))
    weighed = TruncatedImportance(head, 1.1)
    assert total(weighed, seen, batch) == pytest.approx(total(head, seen, by_hand))
    assert torch.allclose(gradient(weighed, seen, batch), gradient(head, seen, by_hand))
    assert metric(weighed, seen, batch, "importance") == pytest.approx(
        sum(w * c for w, c in zip(LAW, cut, strict=True)) / sum(LAW)
    )
    share = sum(w for w, r in zip(LAW, ratios, strict=True) if r > 1.1) / sum(LAW)
    assert metric(weighed, seen, batch, "importance_cut") == pytest.approx(share) and 0 < share < 1
    assert weighed.needs == head.needs | {"policy", "behaviour"} and weighed.unit == head.unit


def test_tokens_weigh_their_own_ratio_by_a_loop():
    batch, seen, head = rollout(), evidence(), Reinforce("sequence")
    ratio = (seen.policy.values.detach() - batch.behaviour).exp().clamp_max(1.1)
    by_hand = dataclasses.replace(batch, advantages=batch.advantages * ratio)
    weighed = TruncatedImportance(head, 1.1, of="token")
    assert total(weighed, seen, batch) == pytest.approx(total(head, seen, by_hand))
    assert torch.allclose(gradient(weighed, seen, batch), gradient(head, seen, by_hand))
    assert not gradient(weighed, seen, batch)[list(UNTRAINED)].any()
    assert 0 < metric(weighed, seen, batch, "importance_cut") < 1


def test_what_has_no_weight_of_its_own_is_refused():
    for head in (PRA(), RDA()):
        with pytest.raises(InputError, match="compares pairs, whose law is free; leave it out"):
            TruncatedImportance(head)
    with pytest.raises(InputError, match="of=token weighs advantages, and PolicyGradient reads none; set of=sequence"):
        TruncatedImportance(PolicyGradient(), of="token")
    with pytest.raises(InputError, match="TruncatedImportance.largest is 0"):
        TruncatedImportance(Reinforce(), largest=0)
    with pytest.raises(InputError, match="TruncatedImportance reads the log-prob.*ScoredBatch has none"):
        TruncatedImportance(PolicyGradient())(evidence(), scored())


def test_a_sequence_that_the_policy_has_left_stays_in_its_group():
    batch, seen = rollout(), evidence()
    first = sum(LENGTHS[:7])
    left = dataclasses.replace(batch, behaviour=batch.behaviour.index_fill(0, torch.tensor([first]), 2e3))
    others = dataclasses.replace(left, weight=batch.weight.index_fill(0, torch.tensor([7]), 0.0))
    head = TruncatedImportance(GroupVariance(0.3))
    assert PROMPT_OF.count(PROMPT_OF[7]) > 2 and math.isfinite(total(head, seen, left))
    assert total(head, seen, left) != pytest.approx(total(head, seen, others))


def test_inside_the_clip_a_surrogate_needs_no_weights():
    """Its own ratio is the importance: at the same policy both have the gradient of the reward."""
    theta, reward, base, old = laws()
    seen, batch = off_policy(theta, base, old, reward, advantages=reward)
    expected = slope(TruncatedImportance(Reinforce(), math.inf), theta, seen, batch)
    wide = ClippedSurrogate(low=10.0, high=1e6, average="sum")
    assert torch.allclose(slope(wide, theta, seen, batch), expected, atol=1e-12)
