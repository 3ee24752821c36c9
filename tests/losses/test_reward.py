import pytest
import torch
from losses.given import double, metric, pairs, scored, softplus, total

from lit_rlhf.errors import InputError
from lit_rlhf.losses.reward import BradleyTerryLoss, ScoreRegression
from lit_rlhf.types import Evidence

SCORE = double([0.3, -0.9, 1.2, 0.4, -2.0, 0.8, 0.0, 1.7, -0.6])


@pytest.mark.parametrize(("margin", "centring"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.01), (0.4, 0.01)])
def test_bradley_terry_by_a_loop(margin, centring):
    batch, s = pairs(), SCORE.tolist()
    columns = (batch.chosen, batch.rejected, batch.probability, batch.reward_gap, batch.weight)
    expected = sum(
        weight
        * (
            p * softplus(-(s[w] - s[l] - margin * gap))
            + (1 - p) * softplus(-(s[l] - s[w] - margin * gap))
            + centring * (s[w] + s[l]) ** 2
        )
        for w, l, p, gap, weight in zip(*(x.tolist() for x in columns), strict=True)
    )
    head = BradleyTerryLoss(margin, centring)
    assert total(head, Evidence(score=SCORE), batch) == pytest.approx(expected)
    assert head.needs == {"score", "chosen"} | ({"reward_gap"} if margin else set())


def test_centring_fixes_the_constant_that_differences_leave_open():
    batch = pairs()
    plain, centred = BradleyTerryLoss(), BradleyTerryLoss(centring=0.1)
    assert total(plain, Evidence(score=SCORE + 3), batch) == pytest.approx(total(plain, Evidence(score=SCORE), batch))
    assert total(centred, Evidence(score=SCORE + 3), batch) > total(centred, Evidence(score=SCORE), batch)


def test_a_margin_without_gaps_says_so():
    with pytest.raises(InputError, match="reads 'reward_gap'"):
        BradleyTerryLoss(margin=1.0)(Evidence(score=SCORE), pairs(reward_gap=None))


@pytest.mark.parametrize("link", ["squared", "logistic"])
def test_regression_by_a_loop(link):
    label = [0.1, 1.0, 0.0, 0.5, 0.9, 1.0, 0.3, 0.7, 0.2]
    batch = scored(label)
    cost = {
        "squared": lambda s, r: (s - r) ** 2 / 2,
        "logistic": lambda s, r: r * softplus(-s) + (1 - r) * softplus(s),
    }[link]
    weight = batch.weight.tolist()
    expected = sum(w * cost(s, r) for w, s, r in zip(weight, SCORE.tolist(), label, strict=True))
    assert total(ScoreRegression(link), Evidence(score=SCORE), batch) == pytest.approx(expected)
    error = sum(w * (s - r) ** 2 for w, s, r in zip(weight, SCORE.tolist(), label, strict=True)) / sum(weight)
    assert metric(ScoreRegression(link), Evidence(score=SCORE), batch, "squared_error") == pytest.approx(error)


def test_an_unknown_link_is_refused():
    with pytest.raises(InputError, match="ScoreRegression.link is 'sigmoid'; it is one of squared, logistic"):
        ScoreRegression("sigmoid")


@pytest.mark.parametrize("head", [BradleyTerryLoss(), ScoreRegression(), ScoreRegression("logistic")], ids=repr)
def test_extreme_scores_have_finite_gradients_and_a_missing_score_is_named(head):
    batch = pairs() if isinstance(head, BradleyTerryLoss) else scored([1.0, 0.0, 1, 0, 1, 0, 1, 0, 1])
    score = (1e4 * SCORE.sign()).requires_grad_()
    term = head(Evidence(score=score), batch).terms[0]
    assert torch.isfinite(term.total) and torch.isfinite(torch.autograd.grad(term.total, score)[0]).all()
    with pytest.raises(InputError, match="reads 'score'"):
        head(Evidence(), batch)
