import pytest
import torch

from lit_rlhf.functional import kl

REFERENCE = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()


@pytest.fixture
def theta():
    return torch.tensor([0.3, -0.7, 1.1, 0.2], dtype=torch.float64, requires_grad=True)


def expected_loss(estimator, theta):
    """E_{y ~ pi}[k(log pi(y), log u(y))], the sampling law held constant: its gradient is that of sampled losses."""
    policy = theta.log_softmax(0)
    return (policy.exp().detach() * estimator(policy, REFERENCE)).sum()


def divergence(first, second):
    return (first.exp() * (first - second)).sum()


@pytest.mark.parametrize("estimator", [kl.k1, kl.k3])
def test_k1_and_k3_are_unbiased(estimator, theta):
    exact = divergence(theta.log_softmax(0), REFERENCE)
    assert expected_loss(estimator, theta).item() == pytest.approx(exact.item())


def test_k2_is_half_the_mean_square(theta):
    policy = theta.detach().log_softmax(0)
    expected = sum(p.exp() * (p - u) ** 2 / 2 for p, u in zip(policy, REFERENCE, strict=True))
    assert expected_loss(kl.k2, theta).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("estimator", "exact"),
    [
        (kl.k1, lambda policy: 0.0 * policy.sum()),
        (kl.k2, lambda policy: divergence(policy, REFERENCE)),
        (kl.k3, lambda policy: divergence(REFERENCE, policy)),
    ],
)
def test_as_losses_they_have_the_gradient_of_nothing_of_the_reverse_and_of_the_forward_kl(estimator, exact, theta):
    (found,) = torch.autograd.grad(expected_loss(estimator, theta), theta)
    (expected,) = torch.autograd.grad(exact(theta.log_softmax(0)), theta)
    assert torch.allclose(found, expected, atol=1e-12)


def test_k3_is_never_negative_and_finite_in_both_tails():
    policy = torch.tensor([-1e4, -40.0, -1e-4, 0.0, 0.0, 0.0], requires_grad=True)
    reference = torch.tensor([0.0, 0.0, 0.0, 0.0, -40.0, -1e4])
    found = kl.k3(policy, reference)
    (slope,) = torch.autograd.grad(found.sum(), policy)
    assert torch.isfinite(found).all() and torch.isfinite(slope).all() and (found >= 0).all()
    assert slope[0] < 0 < slope[5]
