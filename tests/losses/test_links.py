import math

import pytest
import torch
from losses.given import double, sigmoid, softplus

from lit_rlhf.errors import InputError
from lit_rlhf.losses.links import (
    EXO,
    SPPO,
    APODown,
    APOZero,
    DiscoPOP,
    Hinge,
    Logistic,
    MarginLink,
    NCAPair,
    Positive,
    Squared,
)

TAU = 0.4
# l(a, b) of each paper, in plain numbers.
PAPERS = {
    "dpo": (Logistic(), lambda a, b: softplus(b - a)),
    "simpo": (Logistic(margin=0.6), lambda a, b: softplus(0.6 - (a - b))),
    "ipo": (Squared(), lambda a, b: ((a - b) / TAU - 1 / (2 * TAU)) ** 2),
    "slic": (Hinge(), lambda a, b: max(0.0, 1 - (a - b))),
    "discopop": (
        DiscoPOP(sharpness=0.3),
        lambda a, b: (1 - sigmoid((a - b) / 0.3)) * softplus(b - a) + sigmoid((a - b) / 0.3) * math.exp(b - a),
    ),
    "apo_zero": (APOZero(), lambda a, b: (1 - sigmoid(a)) + sigmoid(b)),
    "apo_down": (APODown(), lambda a, b: sigmoid(a) + (1 - sigmoid(a - b))),
    "nca_pair": (NCAPair(), lambda a, b: softplus(-a) + softplus(a) / 2 + softplus(b) / 2),
    "sppo": (SPPO(), lambda a, b: (a / TAU - 1 / TAU / 2) ** 2 + (b / TAU + 1 / TAU / 2) ** 2),
    "dpop": (Positive(penalty=3.0), lambda a, b: softplus(-(a - b - 3.0 * max(0.0, -a)))),
}
EVERY = [link for link, _ in PAPERS.values()] + [EXO()]
POINTS = [(0.0, 0.0), (1.3, -0.4), (-0.7, 0.9), (-2.0, -2.5), (0.2, 0.3)]
A, B = double(POINTS).T


def slope(link, margin, label, tau=1.0):
    """Of the expected loss by the margin of a pair."""
    m = double([margin]).requires_grad_()
    return torch.autograd.grad(link(m, torch.zeros_like(m), double([label]), tau).sum(), m)[0].item()


@pytest.mark.parametrize("name", PAPERS)
def test_a_hard_label_costs_what_the_paper_says(name):
    link, paper = PAPERS[name]
    found = link(A, B, torch.ones_like(A), TAU)
    assert found.tolist() == pytest.approx([paper(a, b) for a, b in POINTS])
    assert link(A, B, torch.zeros_like(A), TAU).tolist() == pytest.approx([paper(b, a) for a, b in POINTS])


@pytest.mark.parametrize("name", PAPERS)
def test_a_soft_label_costs_its_expectation(name):
    link, paper = PAPERS[name]
    labels = [0.5, 0.9, 0.2, 0.35, 1.0]
    expected = [p * paper(a, b) + (1 - p) * paper(b, a) for (a, b), p in zip(POINTS, labels, strict=True)]
    assert link(A, B, double(labels), TAU).tolist() == pytest.approx(expected)


def test_exo_is_the_divergence_from_the_model_to_the_label():
    for (a, b), p in zip(POINTS, [0.5, 0.9, 0.2, 0.35, 0.01], strict=True):
        q = sigmoid(a - b)
        expected = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
        assert EXO()(double([a]), double([b]), double([p]), 1.0).item() == pytest.approx(expected)


def test_exo_refuses_labels_of_infinite_loss():
    for label in (0.0, 1.0):
        with pytest.raises(InputError, match="EXO: a label is 0 or 1.*label_smoothing"):
            EXO()(A, B, torch.full_like(A, label), 1.0)


@pytest.mark.parametrize(
    ("link", "label", "margin"),
    [
        (Logistic(), 0.8, math.log(0.8 / 0.2)),
        (EXO(), 0.8, math.log(0.8 / 0.2)),
        (Squared(), 0.8, (2 * 0.8 - 1) / 2),  # of tau * log-ratio: the log-ratio itself is (2p - 1) / (2 tau)
        (Logistic(margin=0.5), 0.5, 0.0),
    ],
)
def test_the_minimum_over_the_margin(link, label, margin):
    assert slope(link, margin, label, TAU) == pytest.approx(0.0, abs=1e-9)
    assert slope(link, margin - 0.1, label, TAU) < 0 < slope(link, margin + 0.1, label, TAU)


@pytest.mark.parametrize("label", [0.6, 0.9])
def test_simpo_s_margin_moves_the_minimum_to_the_closed_form(label):
    g = math.exp(0.7)
    e = ((2 * label - 1) * g + math.sqrt((2 * label - 1) ** 2 * g**2 + 4 * label * (1 - label))) / (2 * (1 - label))
    assert slope(Logistic(margin=0.7), math.log(e), label) == pytest.approx(0.0, abs=1e-9)


def test_hinge_goes_to_1_for_any_label_above_one_half():
    for label in (0.55, 0.99):
        assert slope(Hinge(), 0.99, label) < 0 < slope(Hinge(), 1.01, label)


@pytest.mark.parametrize("label", [0.7, 0.95])
def test_sppo_goes_to_win_rates_less_one_half_over_tau(label):
    a, b = (double([sign * (label - 0.5)]).requires_grad_() for sign in (1, -1))  # tau times the log-ratios
    slopes = torch.autograd.grad(SPPO()(a, b, double([label]), TAU).sum(), (a, b))
    assert [one.item() for one in slopes] == pytest.approx([0.0, 0.0], abs=1e-9)


@pytest.mark.parametrize("link", EVERY, ids=lambda link: type(link).__name__)
def test_turning_the_pair_and_its_label_round_changes_nothing(link):
    labels = double([0.3, 0.5, 0.9, 0.2, 0.6])
    assert torch.allclose(link(A, B, labels, TAU), link(B, A, 1 - labels, TAU))


@pytest.mark.parametrize("link", EVERY, ids=lambda link: type(link).__name__)
def test_what_a_link_says_of_itself_holds(link):
    moved = link(A + 0.8, B + 0.8, torch.full_like(A, 0.7), TAU)
    plain = link(A, B, torch.full_like(A, 0.7), TAU)
    assert torch.allclose(moved, plain) == link.of_difference
    assert isinstance(link, MarginLink) <= link.of_difference
    tie, three = (link(A, B, torch.full_like(A, p), TAU) for p in (0.5, 0.75))
    assert torch.allclose(three + link(A, B, torch.full_like(A, 0.25), TAU), 2 * tie) == link.affine


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("link", EVERY, ids=lambda link: type(link).__name__)
def test_extremes_have_finite_losses_and_gradients(link, label, dtype):
    label = min(max(label, 0.01), 0.99) if isinstance(link, EXO) else label
    corners = [
        (1e4, -1e4),
        (-1e4, 1e4),
        (1e4, 1e4),
        (-1e4, -1e4),
        (0.0, 1e4),
        (-1e4, 0.0),
        (100.0, -3.0),
        (-100.0, 3.0),
    ]
    a, b = torch.tensor(corners, dtype=dtype).T.contiguous().requires_grad_()
    found = link(a, b, torch.full_like(a, label), 0.1)
    slopes = torch.autograd.grad(found.sum(), (a, b))
    assert found.dtype == dtype and torch.isfinite(found).all()
    assert all(torch.isfinite(one).all() for one in slopes)


def test_discopop_has_its_own_value_where_e_to_the_minus_m_overflows():
    margin = torch.tensor([-1e4, -300.0], requires_grad=True)
    found = DiscoPOP()(margin, torch.zeros_like(margin), torch.ones_like(margin), 1.0)
    assert found.tolist() == [1e4, 300.0]  # s e^{-m} is 0 there, and -log sigma(m) is -m
    assert torch.autograd.grad(found.sum(), margin)[0].tolist() == [-1.0, -1.0]


def test_discopop_refuses_a_sharpness_that_is_not_positive():
    with pytest.raises(InputError, match="DiscoPOP.sharpness is 0"):
        DiscoPOP(sharpness=0)


def test_dpop_punishes_a_preferred_end_below_the_reference_only():
    one = torch.ones(1, dtype=torch.float64)
    above, below = (
        Positive(5.0)(x * one, -x * one, one, 1.0).item() - Logistic()(x * one, -x * one, one, 1.0).item()
        for x in (1, -1)
    )
    assert above == 0 < below
