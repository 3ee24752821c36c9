import math

import pytest
from by_hand import chosen_nll, drawn, log_sigmoid, mean, pairs, value
from support import Bigram

from lit_rlhf.algorithms.orpo import ORPO


def log_odds(response):
    probability = math.exp(response.mean_logp)
    return math.log(probability / (1 - probability))


def test_it_is_likelihood_and_a_tenth_of_the_log_odds_ratio():
    batch = drawn()
    odds = mean(-log_sigmoid(log_odds(w) - log_odds(l)) for w, l in pairs(batch))
    assert value(ORPO(Bigram()), batch) == pytest.approx(chosen_nll(batch) + 0.1 * odds, rel=1e-5)


def test_metrics_go_by_the_mean_log_probability_of_a_token():
    assert {metric.reduce for metric in ORPO(Bigram()).metrics} == {"mean"}
