"""The on-line regime: one item of the train loader is one iteration: sample, score, credit, then epochs of updates.

Every update goes through `Algorithm.update`, so micro-batches and ranks change nothing given the same rollouts; and a
completion is a function of weights, prompt, seed, iteration and its place, so they do not change the rollouts either.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor

from lit_rlhf.algorithms import minibatches as plan
from lit_rlhf.algorithms.base import Algorithm, Strand
from lit_rlhf.algorithms.collection import ATTEMPTS, collect, scatter_tokens
from lit_rlhf.algorithms.evaluating import evaluate
from lit_rlhf.algorithms.gauge import aim, gauge_line, measured, obstacle
from lit_rlhf.algorithms.opponents import Opponent
from lit_rlhf.algorithms.pairing import Collected, Pairs, RewardPairs
from lit_rlhf.algorithms.ptx import Ptx
from lit_rlhf.algorithms.replay import Replay
from lit_rlhf.algorithms.watching import distributions, largest_apart, of_credit, of_ratio, ratios
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic, SharedCritic
from lit_rlhf.components.modes import evaluating
from lit_rlhf.components.reference import Reference
from lit_rlhf.credit.base import CreditStep, credited
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossHead, Metric
from lit_rlhf.ranks import gather_rows, largest_over_ranks, sum_over_ranks, world_size
from lit_rlhf.rewards.base import Reward
from lit_rlhf.sampling.base import Sampler
from lit_rlhf.sampling.native import NativeSampler
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Prompts, Rollout

FIRST_RATIO = {"32-true": 1e-3, "bf16-mixed": 0.25}
"""Nats by which log-probs of sampler and training may differ before any update, by `trainer.precision`."""


class OnlineAlgorithm(Algorithm):
    """Minimises its head on completions that the policy itself has just written.

    Args:
        actor: the policy in training.
        loss: the head, or a sum of heads.
        sampler: `NativeSampler()` when None.
        reward: of whole responses.
        credit: steps from rewards to advantages, in order.
        reference: the base measure u of the posterior form; its log-probs are computed once per iteration.
        critic: gives `Evidence.values`, and `Rollout.values` at the start of the iteration.
        group_size: K, completions of each prompt.
        epochs: passes over the sequences of an iteration.
        minibatches: updates of a pass; prompts stay whole.
        max_iterations: ends the run after so many items; `trainer.max_steps` counts updates.
        pairs: how groups become pairs, for heads that read pairs; `RewardPairs()` when None.
        stop_kl: the iteration's updates end once the estimate of KL(behaviour || policy) per token, in nats and over all
            ranks, is above it.
        resample: how often groups of constant reward are replaced (dynamic sampling).
        opponent: adds completions of another law to every group.
        replay: adds sequences of earlier iterations.
        ptx: adds the likelihood of other texts to every update.
        val_sampler: of validation; the sampler without randomness when None.
        val_samples: completions of each prompt in validation.
        kwargs: of `Algorithm`.

    Raises:
        InputError: a part is missing, or an argument is out of range.
    """

    samples = True
    monitored = "val/reward"

    def __init__(
        self,
        actor: Actor,
        loss: LossHead,
        reward: Reward,
        sampler: Sampler | None = None,
        credit: Sequence[CreditStep] = (),
        reference: Reference | None = None,
        critic: Critic | SharedCritic | None = None,
        group_size: int = 1,
        epochs: int = 1,
        minibatches: int = 1,
        max_iterations: int | None = None,
        pairs: Pairs | None = None,
        stop_kl: float | None = None,
        resample: int = 0,
        opponent: Opponent | None = None,
        replay: Replay | None = None,
        ptx: Ptx | None = None,
        val_sampler: Sampler | None = None,
        val_samples: int = 1,
        **kwargs,
    ) -> None:
        self.sampler, self.reward, self.credit = sampler or NativeSampler(), reward, tuple(credit)
        self.val_sampler, self.val_samples = val_sampler or self.sampler.greedy(), val_samples
        self.pairs, self.opponent, self.replay, self.ptx = pairs or RewardPairs(), opponent, replay, ptx
        self.group_size, self.epochs, self.minibatches = group_size, epochs, minibatches
        self.max_iterations, self.stop_kl, self.resample = max_iterations, stop_kl, resample
        refuse_numbers(self)
        super().__init__(actor, loss, reference, critic, **kwargs)
        self.distributions: dict[str, Tensor] = {}
        """Of the last iteration, name -> [n] on this rank: what is drawn as histograms."""
        self._apart: Tensor | None = None
        self._watches_first = self._warned = False

    @property
    def needs(self) -> frozenset[str]:
        return self.loss.needs | {"prompt"}

    @property
    def paired(self) -> bool:
        """Whether the head reads pairs."""
        return bool({"chosen", "reward_gap"} & self.loss.needs)

    @property
    def max_new_tokens(self) -> int:
        """Room that prompts must leave for completions, in training and in validation."""
        return max(self.sampler.max_new_tokens, self.val_sampler.max_new_tokens)

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and completion that the policy can read; no weights are read for it."""
        return self.actor.model.origin.context

    @property
    def stop_set(self) -> StopSet:
        """What ends a completion."""
        return StopSet.of(self.actor.model, self.sampler.stop)

    # ---- set-up

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "predict":
            raise InputError(
                "predict scores given completions, and this algorithm samples its own: use `evaluate RUN`, which writes them"
            )

    def check(self, data: LightningDataModule) -> None:
        super().check(data)
        self._check_parts()

    def _check_parts(self) -> None:
        self.sampler.check(self.actor.model)
        self.val_sampler.check(self.actor.model)
        for name in ("reward", "pairs"):
            try:
                getattr(self, name).check()
            except InputError as error:
                raise InputError(f"model.{name}: {str(error).removeprefix(f'model.{name}: ')}") from error

    def configure_model(self) -> None:
        if self._built:
            return
        self._check_parts()
        super().configure_model()
        self.reward.build()
        self.pairs.build()

    def on_fit_start(self) -> None:
        super().on_fit_start()
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        for part in (self.reward, self.pairs):
            part.to(self.device)
            part.write_to(folder)

    on_validation_start = on_test_start = on_predict_start = on_fit_start

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.ptx is not None:
            self.ptx.attach(self)
        if self.trainer.is_global_zero:
            print(f"  sampler: {self.sampler.describe(self.actor.model)}")
            print(f"  in validation: {self.val_sampler.describe(self.actor.model)}")
            most = self.epochs * self.minibatches
            print(f"  iteration: up to {most} updates; trainer.max_steps counts updates, trainer.val_check_interval iterations")
            print(f"  gauge: {gauge_line(self)}")

    def planned_updates(self) -> float:
        steps, trainer = self.trainer.max_steps, self.trainer
        epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
        items = min(math.inf if self.max_iterations is None else self.max_iterations, epochs * self._items_of_epoch())
        parts = min(self.minibatches, trainer.datamodule.batch_size)  # a part has a prompt at least
        return min(math.inf if steps < 0 else steps, items * self.epochs * parts)

    def _items_of_epoch(self) -> float:
        self.trainer.fit_loop.setup_data()
        return self.trainer.num_training_batches

    # ---- one iteration

    def training_step(self, item: tuple[Prompts], index: int) -> None:
        step, before = self.trainer.global_step, self._states()
        try:
            self._iterate(item[0])
        except BaseException:
            if self.trainer.global_step == step:  # no update has begun: what is saved now is the state before the item
                self._restore(before)
            raise
        self.items_done += 1
        if self.max_iterations is not None and self.items_done >= self.max_iterations:
            self.trainer.should_stop = True

    def _iterate(self, prompts: Prompts) -> None:
        with self._sampling():
            collected = collect(self, prompts, self.items_done)
            batch, index = self._batch(collected)
        rollout = rollout_of(batch)
        self.distributions = distributions(rollout)
        self.recorder.add("tokens", _tokens(rollout), 1.0 / world_size())
        self.recorder.add("rollout/tokens", len(collected.rollout.sequences.completion_ids), 1.0 / world_size())
        self._watches_first = self.replay is None  # what is replayed was sampled by another policy
        updates = self._updates(batch, index)
        self.recorder.add("rollout/updates", float(updates))

    @contextlib.contextmanager
    def _sampling(self) -> Iterator[None]:
        """Without gradient and dropout; every part's mode is given back."""
        with torch.no_grad(), evaluating(self):
            yield

    def _batch(self, collected: Collected) -> tuple[Batch, Tensor]:
        """What the head reads of the iteration, and the place of each of its prompts."""
        self.enter("other")
        scored = dataclasses.replace(collected, rollout=self._with_models(collected.rollout))
        done = credited(scored.rollout, self.credit)
        self.recorder.add_metrics(done.metrics, of_credit(done.rollout))
        scored = dataclasses.replace(scored, rollout=done.rollout)
        if not obstacle(self):
            self.recorder.add_metrics(measured(done.rollout, aim(self)))
        if self.replay is not None:
            scored = self.replay.mixed(scored, self.recorder)
        return (self.pairs(scored) if self.paired else scored.rollout), scored.index

    def _with_models(self, rollout: Rollout) -> Rollout:
        """Log-probs of the reference and values of the critic, where the composition has them."""
        budget, pieces = self.trainer.datamodule.micro_batch_tokens, {"reference": [], "values": []}
        for which, part in plan.in_parts(rollout, budget):
            if self.reference is not None:
                pieces["reference"].append((which, self.reference.token_logps(part.sequences)))
            if self.critic is not None and self.critic.fills == "values":
                pieces["values"].append((which, self.critic.values(part.sequences)))
        lengths = rollout.sequences.completion_lengths
        return dataclasses.replace(rollout, **{name: scatter_tokens(found, lengths) for name, found in pieces.items() if found})

    def _updates(self, batch: Batch, index: Tensor) -> int:
        """Epochs of shuffled minibatches; how many updates were made."""
        data, updates = self.trainer.datamodule, 0
        places = 1 + largest_over_ranks(int(index.max()), self.device)
        for epoch in range(self.epochs):
            for part in plan.orders(places, self.minibatches, data.seed, self.items_done, epoch):
                if 0 <= self.trainer.max_steps <= self.trainer.global_step:
                    return updates
                own = plan.micro_batches(batch, index, part, data.micro_batch_tokens)
                measured = self.update(own, *self._others())
                updates += 1
                self._check_first_ratio()
                if self.stop_kl is not None and self._moved(measured) > self.stop_kl:
                    self.recorder.add("rollout/stopped_early", 1.0)
                    return updates
        self.recorder.add("rollout/stopped_early", 0.0)
        return updates

    def _others(self) -> tuple[Strand, ...]:
        if self.ptx is None:
            return ()
        return (self.ptx.strand(self.trainer.global_step, self.global_rank, self.trainer.world_size, self.device),)

    def evidence(self, batch: Batch) -> Evidence:
        rollout = rollout_of(batch)
        if rollout is None:  # of another strand
            return Evidence(policy=self.actor.token_logps(batch.sequences))
        policy, values = self.policy_and_values(batch.sequences, **({} if rollout.law is None else {"law": rollout.law}))
        learned = {part.fills: part(batch.sequences) for part in self.learned}
        return Evidence(policy=policy, reference=rollout.reference, values=values, **learned)

    # ---- what is measured

    def watch(self, evidence: Evidence, batch: Batch) -> tuple[Metric, ...]:
        rollout = rollout_of(batch)
        if rollout is None:
            return ()
        self.distributions["rollout/ratios"] = ratios(evidence, rollout)
        if self._watches_first:
            apart = largest_apart(evidence, rollout)
            self._apart = apart if self._apart is None else torch.maximum(self._apart, apart)
        return (*super().watch(evidence, batch), *of_ratio(evidence, rollout))

    def _moved(self, measured: Sequence[Metric]) -> float:
        """The mean over all ranks of the estimate of KL(behaviour || policy) per token, in nats."""
        sums = [torch.stack([one.total, one.weight]).float() for one in measured if one.name == "policy_kl"]
        total, weight = sum_over_ranks(sum(sums)).tolist()
        return total / max(weight, 1e-9)

    def _check_first_ratio(self) -> None:
        """Before its first update of an iteration the policy is the one that sampled: the ratio is 1 up to rounding."""
        if not self._watches_first:
            return
        self._watches_first, apart = False, float(gather_rows(self._apart[None])[0].max())
        self._apart = None
        self.recorder.add("rollout/first_ratio_error", apart)
        if not apart <= FIRST_RATIO[self.trainer.precision] and not self._warned:
            self._warned = True
            warnings.warn(
                f"before any update of the iteration a token's log-prob differs by {apart:.3g} nats from what the sampler "
                "recorded: the ratio should be 1. Dropout, another precision in sampling, or a model whose states depend on "
                "the sequences beside it are the likely causes",
                stacklevel=2,
            )

    # ---- validation

    def validation_step(self, item: tuple[Prompts], index: int) -> None:
        """Completions of held-out prompts by `val_sampler`: reward, length, KL to the reference, pass@k."""
        with self._sampling():
            evaluate(self, item[0])

    test_step = validation_step

    # ---- checkpoints

    def _states(self) -> dict[str, Any]:
        """What an iteration changes besides weights, optimizer and data position."""
        replay = None if self.replay is None else self.replay.state_dict()
        credit = [step.state_dict() for step in self.credit]
        return {"steps": [type(step).__name__ for step in self.credit], "credit": credit, "replay": replay}

    def _restore(self, states: dict[str, Any]) -> None:
        """Raises: InputError: the checkpoint is of other credit steps."""
        now = [type(step).__name__ for step in self.credit]
        if (then := states.get("steps", now)) != now:
            raise InputError(
                f"model.credit: the checkpoint is of {then}, and this composition has {now}; resume with the same steps, or "
                "start a new run from the weights, naming this one as its model"
            )
        for step, state in zip(self.credit, states["credit"], strict=True):
            step.load_state_dict(state)
        if self.replay is not None and states["replay"] is not None:
            self.replay.load_state_dict(states["replay"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["online"] = self._states()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if "online" in checkpoint:
            self._restore(checkpoint["online"])


def rollout_of(batch: Batch) -> Rollout | None:
    """The rollout that a batch is, or is made of; None for given data."""
    return batch.drawn if isinstance(batch, PreferenceBatch) else batch if isinstance(batch, Rollout) else None


def refuse_numbers(algorithm: OnlineAlgorithm) -> None:
    """Raises: InputError: an argument is out of range."""
    for name, least in (
        ("group_size", 1), ("epochs", 1), ("minibatches", 1), ("max_iterations", 1), ("resample", 0), ("val_samples", 1),
    ):
        value = getattr(algorithm, name)
        if value is not None and value < least:
            raise InputError(f"model.{name}: {value}, expected {least} or more")
    if algorithm.stop_kl is not None and not algorithm.stop_kl > 0:
        raise InputError(f"model.stop_kl: {algorithm.stop_kl}, expected nats above 0, or null to make every update")
    if algorithm.resample and algorithm.group_size < 2:
        raise InputError("model.resample: the reward of a group of one never varies; set model.group_size to 2 or more")
    if algorithm.resample and algorithm.reward.crosses_ranks:
        raise InputError(
            "model.resample: each rank replaces groups as often as it has to, and a part of the reward (BatchNormalised) is "
            "called by all ranks together; leave one of them out (Whiten normalises advantages over all ranks)"
        )
    if algorithm.resample >= ATTEMPTS:
        raise InputError(f"model.resample: {algorithm.resample}, expected less than {ATTEMPTS}")
    if algorithm.sampler.processing.greedy:
        raise InputError(
            "model.sampler.temperature: 0 always gives the likeliest completion, and nothing is learned from its copies; "
            "expected a positive number (validation has its own val_sampler)"
        )


def _tokens(rollout: Rollout) -> Tensor:
    """Of completions that count and of the prompts, once per group."""
    counted = (rollout.sequence_weight > 0) * rollout.sequences.completion_lengths
    return counted.sum() + rollout.sequences.prompt_lengths.sum()
