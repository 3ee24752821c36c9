import math

import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, posterior, value

from lit_rlhf.algorithms.f_dpo import FDPO
from lit_rlhf.losses.divergences import AlphaDivergence, ForwardKL, JensenShannon, ReverseKL
from lit_rlhf.losses.pra import PRA

SCORES = [
    (JensenShannon(), lambda w: math.log(2 * w / (1 + w))),
    (ForwardKL(), lambda w: -1 / w),
    (AlphaDivergence(alpha=0.3), lambda w: (1 - w**-0.3) / 0.3),
    (ReverseKL(), math.log),
]


def expected(score, batch):
    margins = (score(math.exp(w.ratio)) - score(math.exp(l.ratio)) for w, l in pairs(batch))
    return mean(-log_sigmoid(0.1 * margin) for margin in margins)


@pytest.mark.parametrize(("divergence", "score"), SCORES, ids=lambda value: type(value).__name__)
def test_the_score_of_the_divergence_takes_the_place_of_the_log_ratio(divergence, score):
    batch = drawn()
    algorithm = FDPO(loss=PRA(divergence=divergence), **posterior())
    assert value(algorithm, batch) == pytest.approx(expected(score, batch), rel=1e-5)


def test_the_default_is_jensen_shannon():
    batch = drawn()
    assert value(FDPO(**posterior()), batch) == pytest.approx(expected(SCORES[0][1], batch), rel=1e-5)
