"""What a composition must improve follows from its head alone."""

import numpy as np
import pytest
from conformance.training import ROOT, fresh, tool

from lit_rlhf.data import grammar
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA

converge = tool("converge")


def aim(name, *overrides):
    algorithm, data = fresh(["--config", str(ROOT / "configs" / f"{name}.yaml"), *overrides])
    algorithm.configure_model()
    return converge.aim(algorithm, data.labels)


@pytest.mark.parametrize(("name", "expected"), [
    ("dpo", "KL to u"), ("pra_prior", "KL to u"), ("rda", "KL to u"), ("dro", "KL to u"), ("ra", "KL to u"),
    ("wpo", "KL to u"), ("rwr", "KL to mu"), ("sft", "KL to data"), ("bradley_terry", "residual"),
    ("ipo", "reward"), ("simpo", "reward"), ("kto", "reward"), ("aot", "reward"), ("una", "reward"), ("tr_dpo", "reward"),
    ("apo_down", "order"),
])
def test_aims_of_the_theory(name, expected):
    assert aim(name) == expected


def test_always_naming_the_better_end_leaves_no_target():
    assert aim("dpo", "--data.labels=hard") == "reward"


def test_the_target_is_that_of_the_heads_own_temperature():
    at_target = converge.BASE + converge.REWARD / 0.7
    assert converge.stationary(PRA(tau=0.7), at_target, converge.BASE, "sampled")
    assert not converge.stationary(PRA(tau=0.6), at_target, converge.BASE, "sampled")
    assert not converge.stationary(RA(tau=0.7, partition="none"), at_target, converge.BASE, "soft")


def test_a_distance_must_fall_by_a_tenth_and_a_reward_go_a_fiftieth_of_the_way():
    state, highest = converge.State, np.mean([grammar.rewards(prompt).max() for prompt in grammar.PROMPTS])
    assert converge.improved("KL to u", state(1.0), state(0.9))
    assert not converge.improved("KL to u", state(1.0), state(0.95))
    assert converge.improved("reward", state(reward=0.0), state(reward=0.021 * highest))
    assert not converge.improved("reward", state(reward=0.0), state(reward=0.019 * highest))
