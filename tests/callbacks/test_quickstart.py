"""The exact numbers of the built-in task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lit_rlhf.algorithms.base import Algorithm as Composition
from lit_rlhf.callbacks.quickstart import ExactSummary, exact, target_tau, temperatures
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy
from lit_rlhf.credit.groups import LeaveOneOut
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.data import grammar
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossHead, LossOutput, Prior
from lit_rlhf.losses.pra import PRA
from lit_rlhf.types import Sequences, TokenLogps
from support import fit

TAU = 0.7


@dataclass(frozen=True)
class Head(LossHead):
    """Nothing but a temperature."""

    tau: float | None = None
    family, needs, unit = "PRA", frozenset(), "pair"

    def __call__(self, evidence, batch) -> LossOutput:
        raise NotImplementedError


class Table(nn.Module):
    """A policy that is a table over all responses: the first token of a response carries all its log-probability."""

    def __init__(self, logps: np.ndarray) -> None:
        super().__init__()
        self.logps = torch.from_numpy(logps)
        self.place = {tuple(ids.tolist()): index for index, ids in enumerate(grammar.response_ids())}

    def token_logps(self, sequences: Sequences) -> TokenLogps:
        (prompt,) = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
        row = self.logps[grammar.PROMPTS.index(" ".join(grammar.TOKENS[index] for index in prompt))]
        values = []
        for ids in sequences.completion_ids.split(sequences.completion_lengths.tolist()):
            values += [row[self.place[tuple(ids.tolist())]], *[0.0] * (len(ids) - 1)]
        return TokenLogps(torch.tensor(values, dtype=torch.float64))


class Base:
    """A table as the reference; one that moves has a state."""

    def __init__(self, logps: np.ndarray, moves: bool = False) -> None:
        self.table, self.moves = Table(logps), moves

    def token_logps(self, sequences: Sequences) -> torch.Tensor:
        return self.table.token_logps(sequences).values

    def state_dict(self) -> dict:
        return {"moves": True} if self.moves else {}


class Algorithm(nn.Module):
    device, loss = torch.device("cpu"), Head(TAU)

    def __init__(self, policy: np.ndarray, base: np.ndarray | None) -> None:
        super().__init__()
        self.actor = Table(policy)
        self.reference = base if base is None else Base(base)


LAW = np.stack([grammar.log_law(prompt) for prompt in grammar.PROMPTS])
REWARD = np.stack([grammar.rewards(prompt) for prompt in grammar.PROMPTS])


def normalised(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def test_the_writer_is_as_far_from_the_target_as_the_closed_form_says():
    """KL(u || pi^tau) = log Z - E_u r / tau."""
    measured = ExactSummary().measure(Algorithm(LAW, LAW))
    mean = (np.exp(LAW) * REWARD).sum(1)
    log_z = np.logaddexp.reduce(LAW + REWARD / TAU, axis=1)
    assert measured.reward == pytest.approx(mean.mean())
    assert measured.kl_to_target == pytest.approx((log_z - mean / TAU).mean())


@pytest.mark.parametrize("base", [LAW, None])
def test_the_target_is_at_no_distance_and_at_the_optimum(base):
    target = normalised((0 if base is None else base) + REWARD / TAU)
    measured = ExactSummary(chunk=1000).measure(Algorithm(target, base))
    assert measured.kl_to_target == pytest.approx(0.0, abs=1e-9)
    assert measured.reward == pytest.approx(measured.optimum)


def test_the_gap_to_the_optimum_of_the_objective_is_tau_times_the_divergence():
    """J(pi^tau) - J(pi) = tau KL(pi || pi^tau) with J(pi) = E_pi r - tau KL(pi || u)."""
    policy = normalised(LAW + np.random.default_rng(0).normal(size=LAW.shape))

    def objective(logps: np.ndarray) -> float:
        return (np.exp(logps) * (REWARD - TAU * (logps - LAW))).sum(1).mean()

    target = normalised(LAW + REWARD / TAU)
    measured = exact(*map(torch.from_numpy, (policy, LAW, REWARD)), TAU)
    assert objective(target) - objective(policy) == pytest.approx(TAU * measured.kl_to_target)


def test_measuring_leaves_the_modes_of_all_parts():
    algorithm = Algorithm(LAW, LAW)
    algorithm.dropout = nn.Dropout().eval()
    ExactSummary().measure(algorithm)
    assert algorithm.training and algorithm.actor.training and not algorithm.dropout.training


@pytest.mark.parametrize("moves", [False, True])
def test_a_reference_that_moves_moves_the_target(moves):
    summary, algorithm = ExactSummary(), Algorithm(LAW, LAW)
    algorithm.reference.moves = moves
    first = summary.measure(algorithm)
    algorithm.reference.table = Table(normalised(LAW + REWARD))
    assert (summary.measure(algorithm).optimum > first.optimum + 0.1) == moves


def test_temperatures_are_found_inside_sums_and_wrappers():
    assert list(temperatures(0.5 * Head(0.1) + Prior(Head(0.2)))) == [0.1, 0.2]


def test_the_tau_of_the_target_is_that_of_the_kl_in_the_reward_before_that_of_the_loss():
    def composed(*credit):
        return SimpleNamespace(loss=Head(0.7), credit=credit)

    assert target_tau(composed(LeaveOneOut(), KLInReward(0.2))) == 0.2
    assert target_tau(composed(KLInReward(0.0))) == target_tau(SimpleNamespace(loss=Head(0.7))) == 0.7
    assert target_tau(SimpleNamespace(loss=Head(), credit=())) is None


def test_the_file_and_the_table(tmp_path, capsys):
    data = Reviews(size=8, val_size=0)
    trainer = SimpleNamespace(datamodule=data, is_global_zero=True, log_dir=None, default_root_dir=str(tmp_path))
    first, second = ExactSummary(), ExactSummary()
    start, end = Algorithm(LAW, LAW), Algorithm(normalised(LAW + REWARD / TAU), LAW)
    first.setup(trainer, start, "fit")
    first.on_train_start(trainer, start)
    second.load_state_dict(first.state_dict())
    second.on_train_start(trainer, end)
    second.on_train_end(trainer, end)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == ["reward_before", "reward_after", "reward_optimum", "kl_to_target_before", "kl_to_target_after"]
    assert summary["reward_before"] < summary["reward_after"] == pytest.approx(summary["reward_optimum"])
    assert summary["kl_to_target_before"] > 0.1 and summary["kl_to_target_after"] == pytest.approx(0, abs=1e-9)
    printed = capsys.readouterr().out
    assert f"{summary['reward_before']:.4f}" in printed and "tau = 0.7" in printed


def test_other_data_and_a_head_without_temperature_are_refused():
    algorithm = SimpleNamespace(loss=Head())
    with pytest.raises(InputError, match="data is SimpleNamespace, expected Reviews"):
        ExactSummary().setup(SimpleNamespace(datamodule=SimpleNamespace()), algorithm, "fit")
    with pytest.raises(InputError, match="no tau in Head"):
        ExactSummary().setup(SimpleNamespace(datamodule=Reviews(size=8)), algorithm, "fit")


def test_soft_preferences_bring_the_shipped_model_towards_its_target(tmp_path):
    algorithm = Composition(
        Actor("lit_rlhf/reviews"), PRA(0.5), FrozenCopy(), optimizer=lambda weights: torch.optim.AdamW(weights, lr=4e-3, betas=(0.8, 0.95))
    )
    callbacks = [ExactSummary()]
    fit(algorithm, Reviews(batch_size=32, val_size=0), max_steps=30, callbacks=callbacks, default_root_dir=tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["kl_to_target_after"] < summary["kl_to_target_before"] / 3
    assert summary["reward_before"] < summary["reward_after"] < summary["reward_optimum"] + 0.2
    law = np.exp(LAW)
    assert summary["reward_before"] == pytest.approx((law * REWARD).sum(1).mean(), abs=0.02)
