"""Outcomes 14 to 20: how fast, and what of a loss changes it. Gradient descent on the real heads' exact losses."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from theory.given import FLAT, MU, N, RHO, THETA, WORLD, apart, random_law, random_logits, temperatures
from torch import Tensor
from torch.autograd.functional import hessian

from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA
from lit_rlhf.theory import rates
from lit_rlhf.theory import residual as exact
from lit_rlhf.theory.boltzmann import kl, log_target, objective
from lit_rlhf.theory.worlds import World, expected_loss, slope
from lit_rlhf.types import PreferenceBatch

LABELS = exact.bradley_terry(WORLD.reward)
EVEN = rates.uniform_pairs(N)


def goal(tau: float, world: World = WORLD) -> Tensor:
    return log_target(world.reward, tau, world.log_base)


def gap(theta: Tensor, tau: float, world: World = WORLD) -> float:
    """range(d)."""
    return float(exact.spread(exact.residual(theta, world.reward, tau, world.log_base)))


# ---- 14: Hessians, and what gradient descent makes of them


@temperatures
def test_hessians_at_the_target(tau):
    target = goal(tau)
    for head, batch, expected in (
        (RA(tau, "exact"), WORLD.scored(MU), rates.ra_hessian(target.exp(), MU, tau)),
        (RDA(tau), WORLD.pairs(RHO), rates.rda_hessian(RHO, tau)),
        (PRA(tau), WORLD.pairs(RHO), rates.pra_hessian(RHO, LABELS, tau)),
    ):
        assert apart(hessian(lambda theta: expected_loss(head, theta, WORLD, batch), target), expected) < 1e-8, head
    of_objective = hessian(lambda theta: -objective(theta.log_softmax(-1), WORLD.reward, tau, WORLD.log_base), target)
    assert apart(of_objective, rates.bda_hessian(target.exp(), tau)) < 1e-8


def families(tau: float) -> list:
    """Head, the batch at a policy, and the derivative of its gradient at the target; those on policy last."""
    target = goal(tau).exp()
    own = rates.on_policy(target)
    given, drawn = (lambda batch: lambda pi: batch), (lambda make: lambda pi: make(pi))
    return [
        (RA(tau, "exact"), given(WORLD.scored(MU)), rates.ra_hessian(target, MU, tau)),
        (RDA(tau), given(WORLD.pairs(RHO)), rates.rda_hessian(RHO, tau)),
        (PRA(tau), given(WORLD.pairs(RHO)), rates.pra_hessian(RHO, LABELS, tau)),
        (PolicyGradient(tau, "none"), drawn(WORLD.scored), rates.bda_hessian(target, tau)),
        (RA(tau, "none"), drawn(WORLD.scored), tau * rates.bda_hessian(target, tau)),
        (RDA(tau), drawn(lambda pi: WORLD.pairs(exact.independent(pi))), rates.rda_hessian(own, tau)),
        (PRA(tau), drawn(lambda pi: WORLD.pairs(exact.independent(pi))), rates.pra_hessian(own, LABELS, tau)),
    ]


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_gradient_descent_contracts_by_the_second_eigenvalue(tau):
    for head, batch, curvature in families(tau):
        eta, (_, vectors) = rates.largest_step(curvature), torch.linalg.eigh(curvature)
        theta, sizes = goal(tau) + 1e-5 * vectors[:, 1], []
        for _ in range(6):
            sizes.append(gap(theta, tau))
            theta = theta - eta * slope(head, theta, WORLD, batch(theta.softmax(-1)))
        assert sizes[-1] / sizes[-2] == pytest.approx(rates.contraction(curvature, eta), abs=2e-4), head


@temperatures
def test_on_policy_pairs_are_twice_as_steep_as_the_objective(tau):
    target = goal(tau).exp()
    doubled = 2 * tau * rates.bda_hessian(target, tau)
    assert apart(rates.rda_hessian(rates.on_policy(target), tau), doubled) < 1e-12
    sorted_law, values = target.sort().values, rates.spectrum(exact.fisher(target))
    assert bool((sorted_law[:-1] <= values + 1e-15).all()) and bool((values <= sorted_law[1:] + 1e-15).all())


def test_of_a_tree_the_hessian_goes_through_the_jacobian():
    tau, world = 0.7, World(FLAT.reward[:4], FLAT.log_base[:4].log_softmax(-1))

    def leaves(weights: Tensor) -> Tensor:
        sign = torch.tensor([1.0, -1.0], dtype=weights.dtype)
        first, left, right = (torch.nn.functional.logsigmoid(weight * sign) for weight in weights)
        return torch.cat([first[0] + left, first[1] + right])

    target = goal(tau, world)
    halves = target.view(2, 2)
    tree = torch.cat([halves.logsumexp(1).diff().neg(), halves.diff(dim=1).neg()[:, 0]])
    assert apart(leaves(tree), target) < 1e-12
    rho = random_law(90, 4, 4)
    jacobian = torch.autograd.functional.jacobian(leaves, tree)
    found = hessian(lambda weights: expected_loss(RDA(tau), leaves(weights), world, world.pairs(rho)), tree)
    assert apart(found, rates.tree_hessian(jacobian, rates.rda_hessian(rho, tau))) < 1e-10


# ---- 15: the temperature


def steps(head: LossHead, tau: float, eta: float, most: int = 4000) -> int:
    """Until KL(pi || pi^tau) < 1e-3, from the reference, on all pairs alike."""
    theta, batch = FLAT.log_base, FLAT.pairs(EVEN)
    for step in range(most):
        if float(kl(theta.log_softmax(-1), goal(tau, FLAT))) < 1e-3:
            return step
        theta = theta - eta * slope(head, theta, FLAT, batch)
    raise AssertionError(f"{head} needs more than {most} steps at tau = {tau}")


def test_off_line_a_low_temperature_is_slow_by_the_size_of_the_step_alone():
    taus = (0.2, 0.5, 1.0, 2.0)
    curvatures = [rates.pra_hessian(RHO, LABELS, tau) for tau in taus]
    conditions = [rates.condition(one) for one in curvatures]
    assert max(conditions) - min(conditions) < 1e-8 * conditions[0]
    largest = rates.largest_step(rates.rda_hessian(EVEN, 2.0))
    fixed = [steps(RDA(tau), tau, largest) for tau in taus]
    assert fixed == sorted(fixed, reverse=True) and len({*fixed}) == 4
    assert fixed[0] / fixed[1] == pytest.approx((taus[1] / taus[0]) ** 2, rel=0.5)
    fitted = [steps(RDA(tau), tau, rates.largest_step(rates.rda_hessian(EVEN, tau))) for tau in taus]
    assert max(fitted) <= 3


def test_on_policy_a_low_temperature_is_worse_conditioned():
    taus = (0.2, 0.5, 1.0, 2.0)
    for hessians in (
        [rates.bda_hessian(goal(tau).exp(), tau) for tau in taus],
        [rates.pra_hessian(rates.on_policy(goal(tau).exp()), LABELS, tau) for tau in taus],
    ):
        conditions = [rates.condition(one) for one in hessians]
        assert all(one > 1.5 * other for one, other in zip(conditions[:-1], conditions[1:], strict=True))


# ---- 16: designs of pairs


REWARD = torch.from_numpy(np.random.default_rng(9).normal(size=8))


def test_no_pair_law_beats_uniform_pairs_for_differences():
    for n in (3, 6, 9):
        even = rates.spectrum(rates.rda_hessian(rates.uniform_pairs(n), 1.0))
        assert apart(even, torch.full_like(even, 2 / (n - 1))) < 1e-12
        for seed in range(20):
            assert float(rates.spectrum(rates.rda_hessian(random_law(seed, n, n), 1.0))[0]) < 2 / (n - 1)


def best_design(p: Tensor) -> float:
    """The largest lambda_2 under PRA that ascent finds from all pairs alike, by a soft minimum that hardens."""
    first, second = torch.triu_indices(len(p), len(p), offset=1)
    logits = (1 / (p * (1 - p)))[first, second].log().requires_grad_()
    optimizer, best = torch.optim.Adam([logits], lr=0.02), 0.0
    for step in range(400):
        rho = torch.zeros_like(p).index_put((first, second), logits.softmax(-1))
        values = rates.spectrum(rates.pra_hessian(rho, p, 1.0))
        best = max(best, float(values[0].detach()))
        sharp = 10 ** (2.5 + 2 * step / 400)
        optimizer.zero_grad()
        (torch.logsumexp(-sharp * values, 0) / sharp).backward()
        optimizer.step()
    return best


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.2, 1.5, 2.0, 3.0])
def test_inverse_variance_is_the_best_design_while_the_criterion_holds(scale):
    best = scale <= 1
    reward, p = scale * REWARD, exact.bradley_terry(scale * REWARD)
    values = rates.spectrum(rates.pra_hessian(rates.inverse_variance(reward), p, 1.0))
    pairs = (1 / (p * (1 - p))).triu(1).sum()
    assert apart(values, torch.full_like(values, float(8 / pairs))) < 1e-12
    assert rates.inverse_variance_is_best(reward) is best
    found, level = best_design(p), float(values[0])
    assert found <= level * (1 + 1e-9) if best else found > level * 1.001


def test_label_noise_slows_preferences_down_by_the_variance_of_the_label():
    for scale in (0.1, 1.0, 4.0):
        p = exact.bradley_terry(scale * REWARD)
        ratio = rates.spectrum(rates.pra_hessian(rates.uniform_pairs(8), p, 1.0))[0] * 7 / 2
        spread = p * (1 - p)
        off = ~torch.eye(8, dtype=torch.bool)
        assert float(spread[off].min()) <= float(ratio) <= float(spread[off].max()) <= 0.25


# ---- 17: the sampler


def shrinking(design, tau: float) -> list[float]:
    """range(d) of PRA on pairs of this design of the margins, from the reference, with the step that fits it."""
    theta, sizes = WORLD.log_base, []
    for _ in range(12):
        sizes.append(gap(theta, tau))
        margin = exact.margins(theta, tau, WORLD.log_base)
        q = torch.sigmoid(margin)
        rho = design(margin)
        eta = 1 / (tau**2 * N * float((exact.edge_weights(rho) * q * (1 - q)).sum() / (N * (N - 1))))
        theta = theta - eta * slope(PRA(tau), theta, WORLD, WORLD.pairs(rho))
    return sizes


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_pairs_by_the_inverse_slope_converge_quadratically(tau):
    sizes = shrinking(rates.inverse_slope, tau)
    large = [size for size in sizes if size > 1e-7]
    assert len(large) < 8
    assert all(sizes[t + 1] / sizes[t] ** 2 < 2 for t in range(len(large)))
    even = shrinking(lambda margin: rates.uniform_pairs(N), tau)
    assert even[-1] / even[-2] > 1e-2 and even[-1] / even[-2] ** 2 > 10


# ---- 18: finite samples


def replicates(world: World, rho: Tensor, tau: float, pairs: int, number: int, seed: int) -> PreferenceBatch:
    """So many data sets of N drawn labels each, every one a prompt of its own; a pair weighs how often it was drawn."""
    generator, n = torch.Generator().manual_seed(seed), world.n
    first, second = torch.triu_indices(n, n, offset=1)
    law, left, counts = exact.edge_weights(rho)[first, second], torch.full((number,), float(pairs)).double(), []
    for place in range(len(law)):
        share = (law[place] / law[place:].sum()).clamp_max(1.0)
        counts.append(torch.binomial(left, share.expand(number), generator=generator))
        left = left - counts[-1]
    count = torch.stack(counts, 1)
    wins = torch.binomial(count, exact.bradley_terry(world.reward)[first, second].expand_as(count), generator=generator)
    start = n * torch.arange(number)[:, None]
    return PreferenceBatch(
        world.sequences(torch.arange(n).expand(number, n)), (start + first).flatten(), (start + second).flatten(),
        (wins / count).nan_to_num(0.5).flatten(), weight=(count / pairs).flatten(),
    )


def estimates(world: World, tau: float, batch: PreferenceBatch, number: int) -> Tensor:
    """[number, n] log pi^ of every data set: Newton's method with the head's gradients."""
    n, theta = world.n, goal(tau, world).repeat(number, 1)
    first, second = batch.chosen.view(number, -1)[0], batch.rejected.view(number, -1)[0]
    incidence = torch.zeros(len(first), n, dtype=theta.dtype)
    incidence[torch.arange(len(first)), first], incidence[torch.arange(len(first)), second] = 1.0, -1.0
    for _ in range(8):
        leaf = theta.clone().requires_grad_()
        evidence = world.evidence(goal(tau, world), batch)
        policy = dataclasses.replace(evidence.policy, values=leaf.log_softmax(-1).flatten())
        (term,) = PRA(tau)(dataclasses.replace(evidence, policy=policy), batch).terms
        gradient = torch.autograd.grad(term.total, leaf)[0]
        q = torch.sigmoid(tau * (theta - world.log_base) @ incidence.T)
        edges = tau**2 * batch.weight.view(number, -1) * q * (1 - q)
        curvature = torch.einsum("ej,be,ek->bjk", incidence, edges, incidence)
        step = torch.linalg.solve(curvature + torch.ones(n, n, dtype=theta.dtype) / n, gradient)
        theta = theta - step
    assert float(step.abs().max()) < 1e-8
    return theta.log_softmax(-1)


@pytest.mark.parametrize("pairs", [2000, 20000])
def test_a_finite_sample_is_off_by_the_trace_of_the_inverse(pairs):
    world, tau, number = dataclasses.replace(FLAT, reward=0.5 * FLAT.reward), 0.8, 6000
    rho = exact.edge_weights(RHO) / exact.edge_weights(RHO).sum()
    batch = replicates(world, rho, tau, pairs, number, seed=5)
    found = estimates(world, tau, batch, number)
    mean = float(kl(found, goal(tau, world)).mean())
    assert mean / float(exact.expected_kl(rho, world.reward, tau, pairs, world.log_base)) == pytest.approx(1, abs=0.05)
    logits = found - found.mean(1, keepdim=True)
    spread = torch.cov(logits.T)
    assert float((spread - exact.covariance(rho, world.reward, tau, pairs)).norm() / spread.norm()) < 0.1


# ---- 19: on the way


def trajectory(head: LossHead, world: World, start: Tensor, tau: float, eta: float, batch=None) -> list[Tensor]:
    """Residuals of gradient descent; on policy where there is no batch."""
    theta, found = start, []
    for _ in range(60):
        found.append(exact.residual(theta, world.reward, tau, world.log_base))
        theta = theta - eta * slope(head, theta, world, batch or world.scored(theta.softmax(-1)))
    return found


@temperatures
def test_the_range_of_the_residual_never_increases(tau):
    degree = float(exact.edge_weights(RHO).sum(1).max())
    for head, eta, batch in (
        (PolicyGradient(tau, "none"), 1 / tau, None), (RDA(tau), 1 / (tau**2 * degree), WORLD.pairs(RHO)),
        (PRA(tau), 4 / (tau**2 * degree), WORLD.pairs(RHO)),
    ):
        sizes = [float(exact.spread(d)) for d in trajectory(head, WORLD, THETA, tau, eta, batch)]
        assert all(after <= before + 1e-12 for before, after in zip(sizes[:-1], sizes[1:], strict=True)), head
        assert sizes[-1] < 0.9 * sizes[0]


def test_off_line_no_reference_changes_the_course_and_on_policy_each_does():
    tau, other = 0.7, dataclasses.replace(WORLD, log_base=random_law(95, N).log())
    for head in (RDA(tau), PRA(tau)):
        courses = [
            torch.stack(trajectory(head, world, start, tau, 0.5, world.pairs(RHO)))
            for world, start in (
                (WORLD, WORLD.log_base), (other, other.log_base), (WORLD.prior, torch.zeros(N, dtype=torch.float64)),
            )
        ]
        assert apart(courses[1], courses[0]) < 1e-12 and apart(courses[2], courses[0]) < 1e-12
    one, two = (
        torch.stack(trajectory(PolicyGradient(tau, "none"), world, world.log_base, tau, 0.5))
        for world in (WORLD, other)
    )
    assert float((two - one).abs().max()) > 1e-2


@temperatures
def test_the_course_stays_within_its_global_bounds(tau):
    eta = 1 / (tau**2 * float(exact.edge_weights(RHO).sum(1).max()))
    shrink = rates.global_contraction(RHO, WORLD.reward, tau, eta)
    on_pairs = trajectory(PRA(tau), WORLD, WORLD.log_base, tau, eta, WORLD.pairs(RHO))
    course = [float((d - d.mean()).norm()) for d in on_pairs]
    assert 0 < shrink < 1 and all(size <= shrink**step * course[0] + 1e-12 for step, size in enumerate(course))
    law, width = goal(tau).exp(), float(exact.spread(WORLD.reward))
    for d in trajectory(PolicyGradient(tau, "none"), WORLD, WORLD.log_base, tau, 1 / tau):
        pi = (WORLD.log_base + (d + WORLD.reward) / tau).softmax(-1)
        assert bool((pi >= law * math.exp(-width / tau) - 1e-15).all())
        floor = math.exp(-width / tau) * float(law.min())
        assert float(rates.spectrum(exact.fisher(pi))[0]) >= floor


@temperatures
def test_a_natural_gradient_step_can_end_it_at_once(tau):
    pi = THETA.softmax(-1)
    gradient = slope(PolicyGradient(tau, "none"), THETA, WORLD, WORLD.scored(pi))
    theta = THETA - exact.pseudo_inverse(exact.fisher(pi)) @ gradient / tau
    assert apart(theta.softmax(-1), goal(tau).exp()) < 1e-10


def test_without_a_regulariser_the_policy_gradient_takes_time_in_proportion():
    world, theta, eta = World(torch.tensor([0.7, 0.0], dtype=torch.float64)), torch.zeros(2, dtype=torch.float64), 2.0
    for _ in range(500):
        theta = theta - eta * slope(PolicyGradient(0.0, "none"), theta, world, world.scored(theta.softmax(-1)))
    assert float(theta.softmax(-1)[1]) == pytest.approx(rates.bandit_time(0.7, eta, 500), rel=0.02)


def test_the_bound_by_the_excess_loss_holds():
    for seed in range(20):
        theta, rho = random_logits(seed), random_law(seed, N, N)
        distance = float(kl(theta.log_softmax(-1), goal(0.9)))
        assert distance <= float(exact.kl_bound(theta, rho, WORLD.reward, 0.9, WORLD.log_base))
    assert float(exact.kl_bound(goal(0.9), RHO, WORLD.reward, 0.9, WORLD.log_base)) == pytest.approx(0, abs=1e-12)


# ---- 20: a class that does not contain the target


def test_in_a_restricted_class_the_targets_separate():
    generator = torch.Generator().manual_seed(4)
    tau, features = 0.4, torch.randn(N, 2, generator=generator, dtype=torch.float64)
    world = dataclasses.replace(FLAT, log_base=FLAT.uniform.log())

    def nearest(loss) -> float:
        """KL(pi || pi^tau) where L-BFGS ends in the weights of the features."""
        weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=300, tolerance_change=0, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss(features @ weights)
            value.backward()
            return value

        optimizer.step(closure)
        return float(kl((features @ weights.detach()).log_softmax(-1), goal(tau, world)))

    bda = nearest(lambda logits: -objective(logits.log_softmax(-1), world.reward, tau, world.log_base))
    others = [
        nearest(lambda logits, head=head, batch=batch: expected_loss(head, logits, world, batch))
        for head, batch in (
            (RA(tau, "exact"), world.scored(world.uniform)), (RDA(tau), world.pairs(EVEN)),
            (PRA(tau), world.pairs(EVEN)), (RDA(tau), world.pairs(RHO)),
        )
    ]
    assert all(bda <= other + 1e-9 for other in others)
    assert max(others) > bda + 0.05 > 0.05
