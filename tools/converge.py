"""Does every algorithm go where it should? Each config trained on the built-in task, with the exact outcome.

    python tools/converge.py [CONFIG ...] [--updates N]

CONFIG is a file or the name of one in configs/; all of them without it, which takes a quarter of an hour or more. Mean
reward and KL divergence are sums over all 4,369 responses to every prompt. What must improve follows from what the
composition does on a bandit of five responses, through its own head, credit steps and pairs (`bandit`):

    KL to u     the gradient vanishes at u e^{r/tau} / Z, u the reference or 1: KL(pi || that law) must fall by a tenth,
                and to a tenth where the policy samples its own responses
    KL to mu    it vanishes at mu e^{r/tau} / Z, mu the law of the data: so must KL(pi || that law)
    KL to data  demonstrations: so must KL(pi || the law they are drawn from)
    KL to best  what counts are the best of n responses of the reference: so must KL(pi || their law)
    residual    a reward model: so must the root mean square of score - reward (less its mean over a prompt, on pairs)
    reward      anything else, also a moving reference: the mean reward must go a fiftieth of the way to the highest, and
                half of it where the policy samples its own responses; where a KL is steered to, the highest within it
    order       what lowers the mean reward on the bandit: so must the share of pairs whose better end gained less

Exit code 0 if all of it does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from lightning import LightningModule, Trainer, seed_everything
from torch import Tensor

from lit_rlhf.callbacks.quickstart import ExactSummary, target_tau
from lit_rlhf.cli import build
from lit_rlhf.config.places import find, missing
from lit_rlhf.credit.kl import AdaptiveKL
from lit_rlhf.data import grammar
from lit_rlhf.data.collation import signal_of
from lit_rlhf.functional.segment import segment_sum

sys.path.insert(0, str(Path(__file__).parent))
from bandit import BASE, LAW, REWARD, ascent, boltzmann, imitates, stationary  # noqa: E402

CONFIGS = Path(__file__).parents[1] / "configs"
FALL, WAY = {False: 0.9, True: 0.1}, {False: 0.02, True: 0.5}
"""The largest ratio after / before of what must fall, and the least share of the way to the highest reward: off-line, on-line."""
HIGHEST = float(np.mean([grammar.rewards(prompt).max() for prompt in grammar.PROMPTS]))
"""The mean reward of the best responses alone."""

# ---- what a composition aims at


def aim(algorithm: LightningModule, labels: str) -> str:
    """What the composition must improve; one of the words above."""
    head, signal = algorithm.loss, signal_of(algorithm.needs)
    if algorithm.samples and moves(algorithm):
        return "reward"
    if algorithm.samples:
        return "KL to u" if boltzmann(algorithm) else "KL to best" if imitates(algorithm) else "reward"
    if "score" in head.needs:
        return "residual"
    if signal == "demonstration":
        return "KL to data"
    tau = target_tau(algorithm)
    if tau is None or moves(algorithm):
        return ascent(head, labels)
    base = None if algorithm.reference is None else BASE
    if stationary(head, (0 if base is None else base) + REWARD / tau, base, labels):
        return "KL to u"
    if stationary(head, LAW.log() + REWARD / tau, base, labels):
        return "KL to mu"
    drawn_from_it = base is not None and stationary(head, LAW.log() + REWARD / tau, LAW.log(), labels)
    return "KL to u" if drawn_from_it else ascent(head, labels)


def moves(algorithm: LightningModule) -> bool:
    """Whether the target is not that of head and credit: a reference that follows, a temperature that is steered, other texts."""
    follows = algorithm.reference is not None and bool(algorithm.reference.state_dict())
    steered = any(isinstance(getattr(step, "coefficient", None), AdaptiveKL) for step in getattr(algorithm, "credit", ()))
    learned = any(part.fills == "tau" for part in algorithm.learned)
    return follows or steered or learned or getattr(algorithm, "ptx", None) is not None


# ---- how far it is


@dataclass(frozen=True)
class State:
    """Exact numbers of a policy, or of a reward model."""

    distance: float = math.nan
    """What must fall; NaN where there is nothing but the reward."""
    reward: float = math.nan
    optimum: float = math.nan
    """The mean reward of the target."""
    highest: float = HIGHEST
    """The largest mean reward that there can be."""


class FromData(ExactSummary):
    """The law of the data in the place of the reference."""

    def _base_measure(self, algorithm: LightningModule, logps: Tensor) -> Tensor:
        return torch.stack([torch.from_numpy(grammar.log_law(prompt)) for prompt in grammar.PROMPTS])


class BestOf(ExactSummary):
    """The law of the best of n responses of the reference: F^n - F_-^n, F the share of rewards up to its own."""

    def _base_measure(self, algorithm: LightningModule, logps: Tensor) -> Tensor:
        base, n = super()._base_measure(algorithm, logps).double(), algorithm.opponent.completions
        return torch.stack([
            best_of(law.exp(), torch.from_numpy(grammar.rewards(prompt)), n).log() - torch.from_numpy(grammar.rewards(prompt))
            for prompt, law in zip(grammar.PROMPTS, base, strict=True)
        ])


def best_of(law: Tensor, reward: Tensor, n: int) -> Tensor:
    """[Y] the law of the response with the highest reward among n; of equal ones, each as likely as any other drawn."""
    values, level = torch.unique(reward, return_inverse=True)
    mass = law.new_zeros(len(values)).index_add(0, level, law)
    up_to = mass.cumsum(0)
    return ((up_to**n - (up_to - mass) ** n) / mass)[level] * law


def within(algorithm: LightningModule, summary: ExactSummary) -> float:
    """The highest mean reward: of the best responses, or of the law u e^{r/tau} / Z at the KL that is steered to."""
    steered = [step.coefficient.target for step in algorithm.credit if isinstance(getattr(step, "coefficient", None), AdaptiveKL)]
    if not steered:
        return HIGHEST
    reward = torch.stack([torch.from_numpy(grammar.rewards(prompt)) for prompt in grammar.PROMPTS])
    base, low, high = summary._base.double(), 1e-3, 1e3
    for _ in range(60):
        tau = math.sqrt(low * high)
        law = (base + reward / tau).log_softmax(-1)
        low, high = (tau, high) if float((law.exp() * (law - base)).sum(-1).mean()) > steered[0] else (low, tau)
    return float((law.exp() * reward).sum(-1).mean())


def measured(algorithm: LightningModule, what: str) -> State:
    """Where the model stands."""
    if what == "residual":
        return State(residual(algorithm))
    if what == "order":
        return State(disorder(algorithm), ExactSummary(1.0).measure(algorithm).reward)
    tau = target_tau(algorithm) or 1.0
    summaries = {"KL to data": FromData(1.0), "KL to mu": FromData(tau), "KL to best": BestOf(1.0)}
    summary = summaries.get(what, ExactSummary(tau))
    exact = summary.measure(algorithm)
    if what != "reward":
        return State(exact.kl_to_target, exact.reward, exact.optimum)
    return State(reward=exact.reward, highest=within(algorithm, summary) if algorithm.samples else HIGHEST)


@torch.no_grad()
def residual(algorithm: LightningModule) -> float:
    """Root mean square of score - reward under the law of the data, less its mean where differences are learned."""
    squares = 0.0
    for prompt in grammar.PROMPTS:
        law, reward = torch.from_numpy(grammar.log_law(prompt)).exp(), torch.from_numpy(grammar.rewards(prompt))
        error = algorithm.reward.score(grammar.every_response(prompt)).double() - reward
        error = error - (law @ error if "chosen" in algorithm.needs else 0.0)
        squares += float(law @ error.square()) / len(grammar.PROMPTS)
    return squares**0.5


@torch.no_grad()
def disorder(algorithm: LightningModule) -> float:
    """The share of pairs drawn from the law of the data whose better end has the lower log(pi/u); ties count one half."""
    shares = []
    for prompt in grammar.PROMPTS:
        law, reward = (torch.from_numpy(one) for one in (np.exp(grammar.log_law(prompt)), grammar.rewards(prompt)))
        drawn = torch.multinomial(law, 2000, replacement=True, generator=torch.Generator().manual_seed(0))
        every = grammar.every_response(prompt)
        logps = algorithm.actor.token_logps(every).values - algorithm.reference.token_logps(every)
        gained, better = segment_sum(logps, every.completion_lengths)[drawn], reward[drawn]
        apart = better[:, None] > better
        right = (1 + torch.sign(gained[:, None] - gained)) / 2
        shares.append(1 - float(right[apart].mean()))
    return float(np.mean(shares))


def improved(what: str, before: State, after: State, samples: bool = False) -> bool:
    """Whether what must improve has; `samples` where the policy samples its own responses."""
    if what != "reward":
        return after.distance <= FALL[samples] * before.distance
    return after.reward - before.reward >= WAY[samples] * (after.highest - before.reward)


# ---- the table


def converge(config: Path, updates: int | None) -> tuple[bool, str]:
    """Trains a config; whether it improved, and its row."""
    seed_everything(0, verbose=False)
    algorithm, data = build(["--config", str(config)])
    steps = updates or yaml.safe_load(config.read_text())["trainer"]["max_steps"]
    algorithm.configure_model()
    what = aim(algorithm, data.labels)
    before, start = measured(algorithm, what), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        Trainer(
            accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, limit_val_batches=0, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False,
        ).fit(algorithm, data)
    seconds, after = time.perf_counter() - start, measured(algorithm, what)
    good = improved(what, before, after, algorithm.samples)
    numbers = (before.distance, after.distance, before.reward, after.reward, after.optimum)
    cells = "".join(f"{'-' if math.isnan(value) else format(value, '.3f'):>9}" for value in numbers)
    return good, f"{config.stem:<30}{what:<12}{cells}{steps:>8}{seconds:>7.0f}s  {'yes' if good else 'NO'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", metavar="CONFIG")
    parser.add_argument("--updates", type=int, help="of every config; its own max_steps without it")
    options = parser.parse_args()
    named = [find(name) or parser.error(f"{name}: {missing(name)}") for name in options.configs]
    configs = named or sorted(CONFIGS.glob("*.yaml"))
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    print(f"{'':<42}{'distance':^18}{'mean reward':^27}")
    columns = "".join(f"{name:>9}" for name in ("before", "after", "before", "after", "target"))
    print(f"{'config':<30}{'must improve':<12}{columns}{'updates':>8}{'time':>8}  improved")
    verdicts = []
    for config in configs:
        good, row = converge(config, options.updates)
        verdicts.append(good)
        print(row, flush=True)
    print(f"{sum(verdicts)} of {len(verdicts)} improve what they should; the mean reward of the best responses is {HIGHEST:.3f}")
    return int(not all(verdicts))


if __name__ == "__main__":
    sys.exit(main())
