import dataclasses
import statistics

import pytest
import torch
from credit.given import COUNTED, OWNER, PROMPT_OF, double, mates_of, metric, rollout
from scipy.stats import beta

from lit_rlhf.credit.beta import BetaNormalised
from lit_rlhf.errors import InputError

REWARD = (1.0, 0.0, 3.0, 2.5, 0.5, 1.0, torch.nan, 2.0)


def test_by_a_loop_on_rewards_between_two_numbers():
    done = BetaNormalised(least=-1.0, greatest=3.0)(rollout(reward=double(REWARD)))
    share = {k: (REWARD[k] + 1) / 4 for k in COUNTED}
    rates = {p: statistics.mean(share[k] for k in COUNTED if PROMPT_OF[k] == p) for p in range(3)}
    centre, spread = statistics.mean(rates.values()), statistics.variance(rates.values())
    both = centre * (1 - centre) / spread - 1
    law = beta(1 + both * centre / 3, 1 + both * (1 - centre) / 3)
    assert (metric(done, "beta_alpha"), metric(done, "beta_beta")) == pytest.approx(law.args)
    for t, k in enumerate(OWNER):
        expected = (share[k] - rates[PROMPT_OF[k]]) / law.pdf(rates[PROMPT_OF[k]]) if k in COUNTED else 0.0
        assert done.rollout.advantages[t].item() == pytest.approx(expected)


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_groups_that_are_all_right_or_all_wrong_have_none(reward):
    given = rollout(reward=double([reward] * 8))
    assert BetaNormalised()(given).rollout.advantages.tolist() == [0.0] * len(OWNER)
    varied = dataclasses.replace(given, reward=double([1.0 - reward if k == 7 else reward for k in range(8)]))
    found = BetaNormalised()(varied).rollout.advantages
    assert all((found[t].item() != 0) == (k in mates_of(7)) for t, k in enumerate(OWNER))


def test_no_interval_is_refused():
    with pytest.raises(InputError, match="greatest is above least"):
        BetaNormalised(least=1.0)
