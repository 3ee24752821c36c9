"""The built-in task, exactly: mean reward and KL to the target, before and after training."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_rlhf.callbacks.files import replacing, run_directory
from lit_rlhf.components.modes import evaluating
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.data import grammar
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossHead
from lit_rlhf.types import Sequences


@dataclasses.dataclass(frozen=True)
class Exact:
    """Sums over all responses, averaged over prompts."""

    reward: float
    """E_pi r."""
    optimum: float
    """E_{pi^tau} r."""
    kl_to_target: float
    """KL(pi || pi^tau) in nats."""


def exact(logps: Tensor, base: Tensor, reward: Tensor, tau: float) -> Exact:
    """What is true of a policy pi whose every response is known.

    pi^tau = u e^{r / tau} / Z, and KL(pi || pi^tau) = sum_y pi (log pi - log pi^tau).

    Args:
        logps: [X, Y] log pi(y | x) of all Y responses to X prompts, in nats.
        base: [X, Y] log u(y | x): the reference's, or 0 for the prior form.
        reward: [X, Y]
        tau: temperature.
    """
    logps, reward = logps.double(), reward.double()
    target = (base.double() + reward / tau).log_softmax(-1)
    policy = logps.exp()
    return Exact(
        reward=float((policy * reward).sum(-1).mean()),
        optimum=float((target.exp() * reward).sum(-1).mean()),
        kl_to_target=float((policy * (logps - target)).sum(-1).mean()),
    )


def temperatures(head: LossHead) -> Iterator[float]:
    """The tau of a head and of the heads it is composed of, in order."""
    for field in dataclasses.fields(head):
        value = getattr(head, field.name)
        if field.name == "tau" and value is not None:
            yield float(value)
        for inner in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(inner, LossHead):
                yield from temperatures(inner)


def target_tau(algorithm: LightningModule) -> float | None:
    """The tau of the law that a composition aims at: of the KL in its reward, else of its loss; None where neither has one."""
    own = (step.tau for step in getattr(algorithm, "credit", ()) if isinstance(step, KLInReward) and step.tau > 0)
    return next(itertools.chain(own, temperatures(algorithm.loss)), None)


class ExactSummary(Callback):
    """Prints a table before and after training and writes `summary.json` in the run directory.

    The table has the policy's mean reward, the mean reward of the target pi^tau, and KL(pi || pi^tau): sums over all
    4,369 responses to every prompt of the built-in task, no estimates. The base measure u is the algorithm's
    reference, or 1 without one. The file has `reward_before`, `reward_after`, `reward_optimum`,
    `kl_to_target_before` and `kl_to_target_after`. A resumed run keeps the "before" of its first start.

    Args:
        tau: of the target; that of the KL in the reward, or else the loss's own, when None.
        chunk: responses computed at once; it changes no result.

    Raises:
        InputError: the data are not `Reviews`, or no tau is known.
    """

    def __init__(self, tau: float | None = None, chunk: int = 2048) -> None:
        self.tau, self.chunk = tau, chunk
        self._before: dict[str, float] = {}
        self._base: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(trainer.datamodule, Reviews):
            raise InputError(
                f"trainer.callbacks: ExactSummary needs all responses, which only the built-in task has; data is "
                f"{type(trainer.datamodule).__name__}, expected Reviews. Leave the callback out"
            )
        if self.tau is None and target_tau(pl_module) is None:
            raise InputError(
                f"trainer.callbacks: ExactSummary finds no tau in {type(pl_module.loss).__name__}; give it as init_args.tau"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._before:
            self._before = dataclasses.asdict(self.measure(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        before, after = Exact(**self._before), self.measure(pl_module)
        if trainer.is_global_zero:
            print(_table(before, after, self._tau(pl_module)))
            with replacing(run_directory(None, trainer) / "summary.json") as file:
                json.dump(_summary(before, after), file, indent=2)

    @torch.no_grad()
    def measure(self, algorithm: LightningModule) -> Exact:
        """The exact numbers of the algorithm's present policy."""
        with evaluating(algorithm):
            logps = self._every_logp(lambda sequences: algorithm.actor.token_logps(sequences).values, algorithm.device)
        base = self._base_measure(algorithm, logps)
        reward = torch.stack([torch.from_numpy(grammar.rewards(prompt)) for prompt in grammar.PROMPTS])
        return exact(logps, base, reward, self._tau(algorithm))

    def state_dict(self) -> dict[str, Any]:
        return {"before": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = state_dict["before"]

    def _base_measure(self, algorithm: LightningModule, logps: Tensor) -> Tensor:
        """[X, Y] log u; computed once where the reference does not move."""
        if algorithm.reference is None:
            return torch.zeros_like(logps)
        if self._base is None or algorithm.reference.state_dict():
            self._base = self._every_logp(algorithm.reference.token_logps, algorithm.device)
        return self._base

    def _tau(self, algorithm: LightningModule) -> float:
        return target_tau(algorithm) if self.tau is None else self.tau

    def _every_logp(self, token_logps: Callable[[Sequences], Tensor], device: torch.device) -> Tensor:
        """[X, Y] on the CPU, by a function from sequences to [T] log-probs."""
        count = len(grammar.responses())
        parts = [
            torch.cat([
                _summed(token_logps, grammar.every_response(prompt, start, min(start + self.chunk, count)).to(device))
                for start in range(0, count, self.chunk)
            ])
            for prompt in grammar.PROMPTS
        ]
        return torch.stack(parts).cpu()


def _summed(token_logps: Callable[[Sequences], Tensor], sequences: Sequences) -> Tensor:
    """[S] log-probs of whole responses."""
    owner = torch.arange(len(sequences.completion_lengths), device=sequences.prompt_of.device)
    values = token_logps(sequences).double()
    return values.new_zeros(len(owner)).index_add(0, owner.repeat_interleave(sequences.completion_lengths), values)


def _summary(before: Exact, after: Exact) -> dict[str, float]:
    return {
        "reward_before": before.reward, "reward_after": after.reward, "reward_optimum": after.optimum,
        "kl_to_target_before": before.kl_to_target, "kl_to_target_after": after.kl_to_target,
    }


def _table(before: Exact, after: Exact, tau: float) -> str:
    rows = (
        ("mean reward", before.reward, after.reward, f"{after.optimum:.4f}"),
        ("KL to the target, nats", before.kl_to_target, after.kl_to_target, "0"),
    )
    lines = [f"{f'exact, tau = {tau:g}':<24}{'before':>12}{'after':>12}{'optimum':>12}"]
    return "\n".join(lines + [f"{name:<24}{first:>12.4f}{last:>12.4f}{best:>12}" for name, first, last, best in rows])
