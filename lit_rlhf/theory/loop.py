"""Where on-line training goes: its own loop under a Trainer, on all groups with their probabilities or on draws."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.theory.laboratory import policy_of
from lit_rlhf.theory.pairing import BothOutcomes
from lit_rlhf.theory.sampling import Probe, multisets
from lit_rlhf.types import PromptRecord, Prompts

MOST = 12_000
"""Sequences of an iteration up to which every group is gone through; above it groups are drawn."""
DRAWN = 2048
"""Sequences of an iteration whose groups are drawn."""
UPDATES = 400
LARGEST, LEAST = 0.15, 1e-3
"""Steps of a logit, in nats, at the start and at the end."""
RARE = 1e-7
"""Groups of less probability, relative to the likeliest one, are left out."""
TAIL = 0.25
"""The share of a drawn run over which the policy is averaged."""


@dataclass(frozen=True)
class Course:
    """A run from one start."""

    law: Tensor
    """[n] log pi at the end; of drawn groups, the log of the mean over the tail."""
    laws: tuple[Tensor, ...]
    """After every iteration."""
    exact: bool
    """Whether every group was gone through with its probability."""
    updates: int
    error: float = 0.0
    """Standard error of the largest probability, by batch means over the tail; 0 where nothing is drawn."""
    finite: bool = True
    complete: bool = True
    """Whether the run had all of its time."""


class Groups(LightningDataModule):
    """The prompt of a problem as often as an iteration has groups, each weighing its group's probability.

    Args:
        algorithm: adapted, on-line.
        iterations: items.
    """

    micro_batch_tokens, seed = 2**40, 0

    def __init__(self, algorithm: OnlineAlgorithm, iterations: int) -> None:
        super().__init__()
        self.algorithm, self.iterations = algorithm, iterations
        self.tree = algorithm.actor.model.tree
        self.opponents = 0 if algorithm.opponent is None else algorithm.opponent.completions
        sizes = [algorithm.group_size, self.opponents]
        number = math.prod(math.comb(self.tree.n + size - 1, size) for size in sizes)
        self.exact = number * sum(sizes) <= MOST
        self.every = [multisets(self.tree.n, size) for size in sizes] if self.exact else []
        self.drawn = max(64, DRAWN // sum(sizes))

    def train_dataloader(self) -> DataLoader:
        return DataLoader([(prompts(torch.ones(self.drawn)),)] * self.iterations, batch_size=None, collate_fn=_same)

    def on_before_batch_transfer(self, item: Any, dataloader_idx: int) -> Any:
        """Weighs the groups by the policy as it is now."""
        return (self.weighed(),) if self.exact else item

    @torch.no_grad()
    def weighed(self) -> Prompts:
        """Every group that is not too rare; the sampler is told which responses it has."""
        sampler, actor = self.algorithm.sampler, self.algorithm.actor
        own = sampler.log_law(actor.model)
        (members, orders), (others, its_orders) = self.every
        weight = orders + own[members].sum(1)
        if self.opponents:
            weight = weight[:, None] + its_orders + self._opponent_law()[others].sum(1)
        else:
            weight = weight[:, None]
        first, second = (weight > weight.max() + math.log(RARE)).nonzero(as_tuple=True)
        sampler.told = {0: members[first], 1: others[second]}
        return prompts(weight[first, second].exp())

    def _opponent_law(self) -> Tensor:
        algorithm = self.algorithm
        probe = Probe(self.tree, algorithm.sampler.processing)
        algorithm.opponent.sample(probe, algorithm.actor, algorithm.reference, prompts(torch.ones(1)), 1)
        return probe.found

    def fresh_prompts(self, index: Tensor, iteration: int, attempt: int) -> Prompts:
        """Replacements of groups of constant reward."""
        found = prompts(torch.ones(len(index)))
        return Prompts(found.prompt_ids, found.prompt_lengths, found.records, index, found.weight)

    def rows(self, position: int) -> tuple[str, ...]:
        """For messages."""
        return (f"iteration {position} of the laboratory",)


def prompts(weight: Tensor) -> Prompts:
    """The same prompt once for every weight [N]."""
    one = torch.ones(len(weight), dtype=torch.long)
    records = (PromptRecord("the prompt"),) * len(weight)
    return Prompts(one * 0, one, records, torch.arange(len(weight)), weight.double())


class _Watch(Callback):
    """Lets the step fall, keeps the policies, and ends a run that has had its time."""

    def __init__(self, updates: int, deadline: float) -> None:
        self.updates, self.deadline, self.laws, self.late, self.made = updates, deadline, [], False, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        share = trainer.global_step / self.updates
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = LEAST + (LARGEST - LEAST) * (1 + math.cos(math.pi * share)) / 2

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.laws.append(policy_of(pl_module).net.law().detach().clone())
        self.made = trainer.global_step
        if time.perf_counter() > self.deadline:
            self.late = trainer.should_stop = True


def train(algorithm: OnlineAlgorithm, updates: int = UPDATES, deadline: float = math.inf) -> Course:
    """Runs an adapted composition from where its policy stands.

    With every group gone through an iteration is one of infinitely many prompts: passes of `minibatches` parts are as
    many passes over the whole.
    """
    passes = algorithm.epochs * algorithm.minibatches
    data = Groups(algorithm, updates)
    if data.exact:
        algorithm.epochs, algorithm.minibatches, algorithm.resample = passes, 1, 0
        algorithm.pairs = BothOutcomes.of(algorithm.pairs)
    algorithm.optimizer = lambda groups: torch.optim.Adam(groups, lr=LARGEST, eps=1e-12)
    algorithm.schedule, algorithm.max_iterations = None, None
    watch, finite = _Watch(updates, deadline), True
    start = policy_of(algorithm).net.law().detach().clone()
    try:
        with quiet():
            trainer(watch, updates).fit(algorithm, data)
    except FloatingPointError:
        finite = False
    laws = (start, *watch.laws)
    made = watch.made
    if not finite:
        return Course(laws[-1], laws, data.exact, made, finite=False)
    return _course(laws, data.exact, made, not watch.late)


def _course(laws: tuple[Tensor, ...], exact: bool, updates: int, complete: bool) -> Course:
    if exact:
        return Course(laws[-1], laws, True, updates, complete=complete)
    tail = torch.stack(laws[-max(8, int(TAIL * len(laws))) :]).exp()
    blocks = torch.stack([block.mean(0) for block in tail.tensor_split(8) if len(block)])
    error = float((blocks.std(0) / len(blocks) ** 0.5).max())
    return Course(tail.mean(0).log(), laws, False, updates, error, complete=complete)


def trainer(watch: Callback, updates: int) -> Trainer:
    """One that writes nothing."""
    return Trainer(
        accelerator="cpu", devices=1, max_steps=updates, max_epochs=1, limit_val_batches=0, logger=False,
        callbacks=[watch], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the lines of a run."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _same(item: Any) -> Any:
    return item
