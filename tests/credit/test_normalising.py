import math

import pytest
import torch
from credit.given import COUNTED, OWNER, REWARD, TOKENS, TRAINED, WEIGHT, double, metric, rollout, tokens_of

from lit_rlhf.credit.base import credited
from lit_rlhf.credit.normalising import Baseline, Whiten
from lit_rlhf.credit.temporal import RewardToGo
from lit_rlhf.errors import InputError

ADVANTAGES = torch.linspace(-1.0, 2.0, TOKENS, dtype=torch.float64).square().index_fill(0, torch.tensor([14]), torch.nan)


def weights(over):
    if over == "token":
        return {t: WEIGHT[OWNER[t]] for t in TRAINED}
    return {t: WEIGHT[OWNER[t]] / len(tokens_of(OWNER[t])) for t in TRAINED}


def moments(values, weight):
    mass = sum(weight.values())
    mean = sum(w * values[t].item() for t, w in weight.items()) / mass
    return mean, math.sqrt(sum(w * (values[t].item() - mean) ** 2 for t, w in weight.items()) / mass)


@pytest.mark.parametrize("over", ["token", "sequence"])
@pytest.mark.parametrize("shift", [True, False])
def test_whitened_by_a_loop(over, shift):
    mean, std = moments(ADVANTAGES, weights(over))
    found = Whiten(shift, over)(rollout(advantages=ADVANTAGES)).rollout.advantages
    for t in TRAINED:
        assert found[t].item() == pytest.approx((ADVANTAGES[t].item() - mean * shift) / std)
    assert moments(found, weights(over)) == pytest.approx((0.0 if shift else mean / std, 1.0), abs=1e-7)


def test_what_does_not_vary_becomes_nothing():
    assert float(Whiten()(rollout(advantages=torch.full((TOKENS,), 0.1))).rollout.advantages.abs().max()) < 1e-6


def test_whitening_leaves_an_opponent_out_of_the_statistics():
    opponent = torch.zeros(8, dtype=torch.bool).index_fill(0, torch.tensor([0]), True)
    found = Whiten()(rollout(advantages=ADVANTAGES, opponent=opponent)).rollout.advantages
    rest = Whiten()(rollout(advantages=ADVANTAGES).select(torch.arange(1, 8))).rollout.advantages
    assert torch.equal(found[3:].nan_to_num(), rest.nan_to_num())


def mean_reward():
    return sum(WEIGHT[k] * REWARD[k] for k in COUNTED) / sum(WEIGHT)


def test_the_baseline_of_a_batch_is_its_mean_reward():
    done = credited(rollout(), [RewardToGo(), Baseline("batch")])
    for k in COUNTED:
        assert done.rollout.advantages[tokens_of(k)[0]].item() == pytest.approx(REWARD[k] - mean_reward())
    assert metric(done, "rollout/baseline") == pytest.approx(mean_reward())


def test_a_running_baseline_is_of_the_iterations_before_and_goes_into_a_checkpoint():
    step, given = Baseline(decay=0.75), rollout(advantages=torch.zeros(TOKENS))
    later = rollout(advantages=torch.zeros(TOKENS), reward=double(REWARD) + 4.0)
    used = [metric(step(one), "baseline") for one in (given, later, later)]
    first = mean_reward()
    assert used == pytest.approx([first, first, first + 1.0])
    twin = Baseline(decay=0.75)
    twin.load_state_dict(step.state_dict())
    assert metric(twin(given), "baseline") == pytest.approx(first + 1.75)
    nothing = rollout(advantages=torch.zeros(TOKENS), weight=torch.zeros(8))
    before = twin.state_dict()
    twin(nothing)
    assert twin.state_dict() == before


def test_what_is_missing_or_wrong_is_refused():
    for step in (Whiten(), Baseline()):
        with pytest.raises(InputError, match=f"{type(step).__name__} changes advantages, and no step before it made any"):
            step(rollout())
    for make, sentence in (
        (lambda: Whiten(over="batch"), "Whiten.over is 'batch'"), (lambda: Whiten(epsilon=0), "Whiten.epsilon is 0"),
        (lambda: Baseline("mean"), "Baseline.of is 'mean'"), (lambda: Baseline(decay=1), "Baseline.decay is 1"),
    ):
        with pytest.raises(InputError, match=sentence):
            make()
