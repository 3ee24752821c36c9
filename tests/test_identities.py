"""What the four families have in common, through the real heads: a table of logits over n responses to one prompt.

d = tau (theta - log u) - r is the residual, pi^tau = u e^{r/tau} / Z the target, L_w the Laplacian of the pair graph
with weights w; every head's gradient is a Laplacian times d. Expectations are sums over all responses, weighted by
their law.
"""

import itertools

import pytest
import torch
from support import Bigram, FrozenBigram, random_sequences
from torch import Tensor
from torch.autograd.functional import hessian

from lit_rlhf.losses.base import LossHead, Prior
from lit_rlhf.losses.bda import ExponentialWeight, PolicyGradient
from lit_rlhf.losses.listwise import InfoNCA
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, ScoredBatch, Sequences, TokenLogps, every_pair

N = 6
DRAW = torch.Generator().manual_seed(0)
THETA, REWARD = (torch.randn(N, generator=DRAW, dtype=torch.float64) for _ in range(2))
BASE = torch.randn(N, generator=DRAW, dtype=torch.float64).log_softmax(-1)
MU = torch.rand(N, generator=DRAW, dtype=torch.float64) + 0.1
MU = MU / MU.sum()
EDGES = torch.tensor(list(itertools.combinations(range(N), 2)))
RHO = torch.rand(len(EDGES), generator=DRAW, dtype=torch.float64) + 0.1
RHO = RHO / RHO.sum()

temperatures = pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
forms = pytest.mark.parametrize("base", [None, BASE], ids=["prior", "posterior"])


def responses() -> Sequences:
    """One prompt, and all responses, of one token each."""
    one = torch.ones(N, dtype=torch.long)
    return Sequences(torch.tensor([0]), torch.tensor([1]), torch.arange(N), one, torch.zeros_like(one))


def scores(law: Tensor | None, reward: Tensor = REWARD) -> ScoredBatch:
    return ScoredBatch(responses(), reward, law)


def pairs(law: Tensor, reward: Tensor = REWARD) -> PreferenceBatch:
    """Every edge with the law's weight and Bradley-Terry labels."""
    first, second = EDGES.unbind(1)
    gap = reward[first] - reward[second]
    return PreferenceBatch(responses(), first, second, torch.sigmoid(gap), gap, law)


def loss(head: LossHead, theta: Tensor, base: Tensor | None, batch: Batch, **evidence: Tensor) -> Tensor:
    """The sum of the head's terms for pi = softmax(theta)."""
    ids = batch.sequences.completion_ids
    reference = None if base is None else base[ids]
    seen = Evidence(policy=TokenLogps(theta.log_softmax(-1)[ids]), reference=reference, **evidence)
    return sum(term.total for term in head(seen, batch).terms)


def slope(head: LossHead, theta: Tensor, base: Tensor | None, batch: Batch) -> Tensor:
    """The gradient by theta."""
    leaf = theta.clone().requires_grad_()
    return torch.autograd.grad(loss(head, leaf, base, batch), leaf)[0]


def residual(theta: Tensor, base: Tensor | None, tau: float) -> Tensor:
    return tau * (theta - (0 if base is None else base)) - REWARD


def target(base: Tensor | None, tau: float, reward: Tensor = REWARD) -> Tensor:
    return ((0 if base is None else base) + reward / tau).softmax(-1)


def fisher(pi: Tensor) -> Tensor:
    return pi.diag() - torch.outer(pi, pi)


def laplacian(weight: Tensor) -> Tensor:
    """[N, N] of the edges' weights: (L d)_j = sum_k w_jk (d_j - d_k)."""
    first, second = EDGES.unbind(1)
    w = torch.zeros(N, N, dtype=weight.dtype).index_put((first, second), weight)
    return (w + w.T).sum(1).diag() - (w + w.T)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert float((found - expected).norm()) <= tolerance * float(expected.norm())


def on_policy(theta: Tensor) -> Tensor:
    """The law pi x pi of unordered pairs."""
    pi = theta.softmax(-1)
    return 2 * pi[EDGES[:, 0]] * pi[EDGES[:, 1]]


# ---- one residual, four Laplacians


@temperatures
@forms
def test_every_gradient_is_a_laplacian_of_the_residual(tau, base):
    pi, d = THETA.softmax(-1), residual(THETA, base, tau)
    value = tau * (d.new_zeros(N) if base is None else base).add(REWARD / tau).logsumexp(-1)
    error = tau * (THETA.log_softmax(-1) - (0 if base is None else base)) - REWARD + value
    h = d[EDGES[:, 0]] - d[EDGES[:, 1]]
    gap = REWARD[EDGES[:, 0]] - REWARD[EDGES[:, 1]]
    secant = (torch.sigmoid(h + gap) - torch.sigmoid(gap)) / h
    near(slope(PolicyGradient(tau, "none"), THETA, base, scores(pi)), fisher(pi) @ d)
    near(slope(RA(tau, "exact"), THETA, base, scores(MU)), tau * (MU.diag() - torch.outer(pi, MU)) @ error)
    near(slope(RDA(tau), THETA, base, pairs(RHO)), tau * laplacian(RHO) @ d)
    near(slope(PRA(tau), THETA, base, pairs(RHO)), tau * laplacian(RHO * secant) @ d)


@temperatures
@forms
def test_on_policy_the_families_are_collinear_whatever_the_constant(tau, base):
    pi = THETA.softmax(-1)
    direction = slope(PolicyGradient(tau, "none"), THETA, base, scores(pi))
    for partition in ("exact", "mean_reward", "none", *(() if base is None else ("group",))):
        near(slope(RA(tau, partition), THETA, base, scores(pi)), tau * direction)
    near(slope(RDA(tau), THETA, base, pairs(on_policy(THETA))), 2 * tau * direction)


@temperatures
@pytest.mark.parametrize("posterior", [False, True])
def test_on_samples_group_variance_and_rda_are_leave_one_out_reinforce(tau, posterior):
    sequences = random_sequences(7, prompts=1, per_prompt=5)
    reward = torch.randn(5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    policy = Bigram().double()
    reference = FrozenBigram()
    reference.bigram.double()
    evidence = Evidence(policy.token_logps(sequences), reference.token_logps(sequences) if posterior else None)

    def mean_slope(head, batch):
        (term,) = head(evidence, batch).terms
        return torch.autograd.grad(term.total / batch.count(term.unit), policy.table, retain_graph=True)[0]

    rloo = mean_slope(PolicyGradient(tau, "leave_one_out"), ScoredBatch(sequences, reward))
    near(mean_slope(GroupVariance(tau), ScoredBatch(sequences, reward)), tau * rloo)
    near(mean_slope(RDA(tau), every_pair(sequences, reward)), 2 * tau * rloo)


def test_small_margins_make_preferences_a_quarter_of_differences():
    near(slope(PRA(1.0), 1e-4 * THETA, None, pairs(RHO, 1e-4 * REWARD)),
         slope(RDA(1.0), 1e-4 * THETA, None, pairs(RHO, 1e-4 * REWARD)) / 4, 1e-6)


# ---- labels and forms


@temperatures
def test_dpo_over_enumerated_labels_is_pra_with_soft_labels(tau):
    soft = pairs(RHO)
    ends = {"chosen": torch.cat([soft.chosen, soft.rejected]), "rejected": torch.cat([soft.rejected, soft.chosen])}
    law = torch.cat([RHO * soft.probability, RHO * (1 - soft.probability)])
    hard = PreferenceBatch(responses(), **ends, probability=torch.ones_like(law), weight=law)
    drawn, known = (float(loss(PRA(tau), THETA, BASE, batch)) for batch in (hard, soft))
    assert drawn == pytest.approx(known, abs=1e-12)
    near(slope(PRA(tau), THETA, BASE, hard), slope(PRA(tau), THETA, BASE, soft), 1e-12)


@temperatures
def test_the_posterior_form_is_the_prior_form_of_a_shaped_reward(tau):
    shaped = REWARD + tau * BASE
    for head, batch, other in (
        (RDA(tau), pairs(RHO), pairs(RHO, shaped)), (RA(tau, "exact"), scores(MU), scores(MU, shaped)),
        (PolicyGradient(tau, "mean"), scores(MU), scores(MU, shaped)),
        (GroupVariance(tau), scores(None), scores(None, shaped)),
    ):
        one, two = loss(head, THETA, BASE, batch), loss(Prior(head), THETA, BASE, other)
        assert float(one) == pytest.approx(float(two), abs=1e-12)
        near(slope(head, THETA, BASE, batch), slope(Prior(head), THETA, BASE, other), 1e-12)


# ---- targets


def lbfgs(*weights: Tensor) -> torch.optim.LBFGS:
    return torch.optim.LBFGS(
        weights, max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )


def minimised(head: LossHead, base: Tensor | None, batch: Batch, start: Tensor = THETA) -> Tensor:
    """pi where L-BFGS ends."""
    theta = start.clone().requires_grad_()
    optimizer = lbfgs(theta)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(head, theta, base, batch)
        value.backward()
        return value

    optimizer.step(closure)
    return theta.detach().softmax(-1)


@temperatures
@forms
def test_every_family_has_the_same_minimiser(tau, base):
    law = target(base, tau, torch.zeros(N))
    for head, batch in (
        (RA(tau, "exact"), scores(MU)), (RDA(tau), pairs(RHO)), (PRA(tau), pairs(RHO)),
        (GroupVariance(tau), scores(None)), (InfoNCA(tau), scores(None)), (ExponentialWeight(tau), scores(law)),
    ):
        assert float((minimised(head, base, batch) - target(base, tau)).abs().max()) < 1e-6, head


@temperatures
@forms
def test_natural_policy_gradient_halves_the_residual_and_ends_there_too(tau, base):
    theta = THETA.clone()
    for _ in range(30):
        pi = theta.softmax(-1)
        inverse = torch.linalg.pinv(fisher(pi), hermitian=True, rtol=1e-12)
        theta = theta - inverse @ slope(PolicyGradient(tau, "none"), theta, base, scores(pi)) / (2 * tau)
    d, start = residual(theta, base, tau), residual(THETA, base, tau)
    assert float((d.max() - d.min()) / (start.max() - start.min())) == pytest.approx(0.5**30, rel=1e-2)
    assert float((theta.softmax(-1) - target(base, tau)).abs().max()) < 1e-6


def test_a_learned_partition_becomes_the_log_partition():
    theta, z = THETA.clone().requires_grad_(), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = lbfgs(theta, z)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(RA(0.7, "learned"), theta, BASE, scores(MU), log_partition=z)
        value.backward()
        return value

    optimizer.step(closure)
    assert float((theta.detach().softmax(-1) - target(BASE, 0.7)).abs().max()) < 1e-6
    assert float(z.detach()) == pytest.approx(float((BASE + REWARD / 0.7).logsumexp(-1)), abs=1e-6)


def test_the_pair_law_moves_the_target_only_of_labels_that_no_reward_explains():
    laws = [RHO, RHO.flip(0), torch.full_like(RHO, 1 / len(RHO))]
    found = [minimised(PRA(0.5), BASE, pairs(law)) for law in laws]
    smoothed = [minimised(PRA(0.5, label_smoothing=0.1), BASE, pairs(law)) for law in laws]
    for other in range(1, 3):
        assert float((found[other] - found[0]).abs().max()) < 1e-7
        assert float((smoothed[other] - smoothed[0]).abs().max()) > 1e-4


def test_a_wrong_constant_off_policy_displaces_the_target_as_derived():
    tau, delta = 0.8, 1e-3
    normalised = REWARD - tau * (BASE + REWARD / tau).logsumexp(-1)
    right = minimised(RA(tau, "none"), BASE, scores(MU, normalised))
    wrong = minimised(RA(tau, "none"), BASE, scores(MU, normalised - delta))
    pi = target(BASE, tau)
    w = pi / MU
    assert float((right - pi).abs().max()) < 1e-6
    shift = pi * (delta / tau) * (w / (pi * w).sum() - 1)
    assert float((wrong - right - shift).abs().max()) < 10 * delta**2 < float(shift.abs().max()) / 10


@pytest.mark.parametrize("head", [RDA(0.6), PRA(0.6)], ids=["rda", "pra"])
def test_apart_from_its_component_a_response_keeps_its_mass(head):
    parts = torch.tensor([0, 0, 1, 1, 1, 2])
    inside = parts[EDGES[:, 0]] == parts[EDGES[:, 1]]
    mean = torch.stack([REWARD[parts == part].mean() for part in parts])
    expected = (BASE + (REWARD - mean) / 0.6).softmax(-1)
    found = minimised(head, BASE, pairs(RHO * inside), start=BASE)
    assert float((found - expected).abs().max()) < 1e-6
    assert float((found - target(BASE, 0.6)).abs().max()) > 1e-2


# ---- rates


def hessians(tau: float) -> list[tuple[LossHead, Batch, Tensor]]:
    """Head, batch and the Hessian at pi^tau that the theory states."""
    pi, p = target(BASE, tau), pairs(RHO).probability
    a = torch.eye(N, dtype=torch.float64) - pi
    return [
        (RA(tau, "exact"), scores(MU), tau**2 * (a.T @ MU.diag() @ a)),
        (RDA(tau), pairs(RHO), tau**2 * laplacian(RHO)),
        (PRA(tau), pairs(RHO), tau**2 * laplacian(RHO * p * (1 - p))),
    ]


@temperatures
def test_hessians_at_the_target(tau):
    theta = target(BASE, tau).log()
    for head, batch, expected in hessians(tau):
        assert float((hessian(lambda x: loss(head, x, BASE, batch), theta) - expected).abs().max()) < 1e-8, head


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_gradient_descent_contracts_by_the_second_eigenvalue(tau):
    pi = target(BASE, tau)
    families = [*hessians(tau), (PolicyGradient(tau, "none"), None, tau * fisher(pi))]
    for head, batch, curvature in families:
        values, vectors = torch.linalg.eigh(curvature)
        eta = 1 / float(values[-1])
        theta, sizes = pi.log() + 1e-5 * vectors[:, 1], []
        for _ in range(6):
            d = residual(theta, BASE, tau)
            sizes.append(float(d.max() - d.min()))
            theta = theta - eta * slope(head, theta, BASE, scores(theta.softmax(-1)) if batch is None else batch)
        assert sizes[-1] / sizes[-2] == pytest.approx(1 - eta * float(values[1]), abs=2e-4), head
