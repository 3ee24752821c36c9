"""The ragged containers: every tensor shape of the project is stated here, once.

Letters: N prompts, S sequences (each a completion of one prompt), T = total completion tokens, E pairs, K completions
per prompt, V vocabulary, D width. `[sum P]` is the concatenation of N prompts. There are no pads, prompt positions or
shifts in any per-token tensor, so there is no mask to get wrong: entry t of a `[T]` tensor belongs to completion token t.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

Unit = Literal["sequence", "token", "pair", "chosen_token"]


class Ragged:
    """What all containers share: moving every tensor inside, however deep, to a device."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same value on `device` (Lightning moves a batch by calling this)."""
        moved = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), (Tensor, Ragged))
        }
        return dataclasses.replace(self, **moved)


@dataclass(frozen=True)
class Sequences(Ragged):
    """Completions of prompts, concatenated.

    A prompt has at least one token (what the first completion token is predicted from) and a completion at least one
    (its terminator). Length 0 is refused, because an empty segment would silently shift all that follow.

    Raises:
        ValueError: lengths and ids disagree, or a segment is empty (checked where the tensors are on the CPU).
    """

    prompt_ids: Tensor
    """[sum P] token ids of the N prompts."""
    prompt_lengths: Tensor
    """[N]"""
    completion_ids: Tensor
    """[T] token ids of the S completions."""
    completion_lengths: Tensor
    """[S]"""
    prompt_of: Tensor
    """[S] the index in 0..N-1 of each completion's prompt."""
    weight: Tensor | None = None
    """[T] weight of each token, 0 where it is not trained on. None is 1 everywhere."""

    def __post_init__(self) -> None:
        _expect("prompt_of", self.prompt_of, len(self.completion_lengths))
        _expect("weight", self.weight, len(self.completion_ids))
        if self.prompt_ids.device.type != "cpu":
            return
        for name in ("prompt", "completion"):
            lengths = getattr(self, f"{name}_lengths")
            _expect(f"{name}_ids", getattr(self, f"{name}_ids"), int(lengths.sum()))
            if len(lengths) and int(lengths.min()) < 1:
                row = int(lengths.argmin())
                raise ValueError(f"{name}_lengths[{row}] is {int(lengths[row])}: a {name} has at least one token")

    @property
    def token_weight(self) -> Tensor:
        """[T] `weight`, or ones."""
        return torch.ones(len(self.completion_ids), device=self.completion_ids.device) if self.weight is None else self.weight

    def select(self, sequences: Tensor) -> Sequences:
        """The sequences of these indices, in this order, with the prompts they need, in the order of first use."""
        prompt_of = self.prompt_of[sequences]
        prompts, renumbered = _renumber(prompt_of)
        tokens = segment_indices(self.completion_lengths, sequences)
        return Sequences(
            prompt_ids=self.prompt_ids[segment_indices(self.prompt_lengths, prompts)],
            prompt_lengths=self.prompt_lengths[prompts],
            completion_ids=self.completion_ids[tokens],
            completion_lengths=self.completion_lengths[sequences],
            prompt_of=renumbered,
            weight=None if self.weight is None else self.weight[tokens],
        )

    def group_tokens(self) -> Tensor:
        """[N] tokens of each prompt's group: the prompt once and all its completions."""
        return self.prompt_lengths.index_add(0, self.prompt_of, self.completion_lengths)


@dataclass(frozen=True)
class PromptRecord:
    """What a reward may know of a prompt: its text, and what the row says besides."""

    prompt: str | tuple[Mapping[str, Any], ...]
    """Plain text, or messages {"role": ..., "content": ...}."""
    answer: str | None = None
    """The right one, where the data have it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The row's further columns."""
    row: str = ""
    """Where it came from: file:row."""


@dataclass(frozen=True)
class Prompts(Ragged):
    """Prompts to complete: what the train loader of an on-line algorithm gives for one iteration."""

    prompt_ids: Tensor
    """[sum P]"""
    prompt_lengths: Tensor
    """[N]"""
    records: tuple[PromptRecord, ...]
    """N of them."""
    index: Tensor
    """[N] place of each prompt in the iteration, over all ranks: what its random draws are seeded by."""
    weight: Tensor
    """[N] 0 for a repeat that only keeps a rank in step with the others, else the row's weight."""

    def __post_init__(self) -> None:
        for name in ("index", "weight"):
            _expect(name, getattr(self, name), len(self.prompt_lengths))
        if len(self.records) != len(self.prompt_lengths):
            raise ValueError(f"{len(self.records)} records, expected {len(self.prompt_lengths)}")
        if self.prompt_ids.device.type == "cpu":
            _expect("prompt_ids", self.prompt_ids, int(self.prompt_lengths.sum()))

    def select(self, prompts: Tensor) -> Prompts:
        """The prompts of these indices, in this order."""
        return Prompts(
            self.prompt_ids[segment_indices(self.prompt_lengths, prompts)], self.prompt_lengths[prompts],
            tuple(self.records[index] for index in prompts.tolist()), self.index[prompts], self.weight[prompts],
        )


@dataclass(frozen=True)
class Kept(Ragged):
    """The tokens that a sampler's filter (top-k, top-p, min-p) left to choose from, at every completion token."""

    ids: Tensor
    """[sum m] token ids."""
    lengths: Tensor
    """[T] m of each completion token; 0 where nothing was filtered and all V tokens were left."""

    def select(self, tokens: Tensor) -> Kept:
        """The sets of these completion tokens, in this order."""
        return Kept(self.ids[segment_indices(self.lengths, tokens)], self.lengths[tokens])


@dataclass(frozen=True)
class Law(Ragged):
    """How a sampler made its distribution of a policy's logits z: softmax(z / temperature) over the kept tokens."""

    temperature: float = 1.0
    kept: Kept | None = None
    """None: nothing was filtered."""

    def select(self, tokens: Tensor) -> Law:
        """The part that concerns these completion tokens."""
        return Law(self.temperature, None if self.kept is None else self.kept.select(tokens))


@dataclass(frozen=True)
class Samples(Ragged):
    """What a sampler returns: K completions of every prompt, those of a prompt one after the other."""

    sequences: Sequences
    behaviour: Tensor
    """[T] log-probs of the sampled tokens under the law that sampled them, in nats."""
    policy: Tensor
    """[T] log-probs of the same policy, unfiltered and at temperature 1, in nats."""
    finished: Tensor
    """[S] bool: ended by a token or string of the stop set; False where it was cut at the greatest length."""
    law: Law | None = None
    """None: the policy's own distribution was sampled, and `behaviour` equals `policy`."""

    def __post_init__(self) -> None:
        for name in ("behaviour", "policy"):
            _expect(name, getattr(self, name), len(self.sequences.completion_ids))
        _expect("finished", self.finished, len(self.sequences.completion_lengths))


class Batch(Ragged):
    """What a loss head reads besides the evidence: sequences, and what is known of their reward."""

    sequences: Sequences
    units: ClassVar[tuple[Unit, ...]] = ("sequence", "token")
    """The units that `count` knows."""

    def select(self, sequences: Tensor) -> Self:
        """The part of the batch that concerns these sequences, in this order."""
        raise TypeError(f"{type(self).__name__} does not say how to select sequences")

    @property
    def sequence_weight(self) -> Tensor:
        """[S] ones, where nothing else is known."""
        return torch.ones(len(self.sequences.completion_lengths), device=self.sequences.completion_lengths.device)

    @property
    def token_weight(self) -> Tensor:
        """[T] the weight of each token times that of its sequence."""
        return self._spread(self.sequence_weight)

    def _spread(self, weight: Tensor) -> Tensor:
        """[T] each token's own weight times this of its sequence [S]."""
        return weight[torch.repeat_interleave(self.sequences.completion_lengths)] * self.sequences.token_weight

    def count(self, unit: Unit) -> Tensor:
        """[] the sum of the weights of its tokens, sequences or pairs: what a sum of losses is divided by."""
        if unit == "token":
            return self.token_weight.sum()
        raise ValueError(f"{type(self).__name__} has no unit {unit!r}")

    def split(self, token_budget: int) -> tuple[Self, ...]:
        """Micro-batches of at most `token_budget` tokens that keep a prompt's sequences (and a pair's ends) together.

        Raises:
            ValueError: one group alone is larger than the budget.
        """
        return tuple(self.select(which) for which in split_groups(self.sequences, token_budget))


@dataclass(frozen=True)
class PreferenceBatch(Batch):
    """A pair graph over sequences: K responses of a prompt may have any set of edges."""

    units: ClassVar[tuple[Unit, ...]] = ("sequence", "token", "pair", "chosen_token")

    sequences: Sequences
    chosen: Tensor
    """[E] index into the S sequences."""
    rejected: Tensor
    """[E] index into the S sequences."""
    probability: Tensor
    """[E] that chosen is preferred; 1 is a hard label, 1/2 a tie."""
    reward_gap: Tensor | None = None
    """[E] reward of chosen less reward of rejected, where it is known."""
    weight: Tensor | None = None
    """[E] the pair law; None is 1 everywhere."""
    drawn: Rollout | None = None
    """The rollout whose sequences these are, where they were sampled."""

    def __post_init__(self) -> None:
        for name in ("rejected", "probability", "reward_gap", "weight"):
            _expect(name, getattr(self, name), len(self.chosen))

    @property
    def pair_weight(self) -> Tensor:
        """[E] `weight`, or ones."""
        return torch.ones_like(self.probability) if self.weight is None else self.weight

    def count(self, unit: Unit) -> Tensor:
        if unit == "pair":
            return self.pair_weight.sum()
        if unit == "sequence":
            return self.sequence_weight.sum()
        if unit == "chosen_token":
            return self.chosen_token_weight.sum()
        return super().count(unit)

    @property
    def sequence_weight(self) -> Tensor:
        """[S] 1 for the ends of pairs that count, 0 for sequences in none."""
        ends = torch.cat([self.chosen[self.pair_weight > 0], self.rejected[self.pair_weight > 0]])
        return torch.zeros_like(self.sequences.completion_lengths, dtype=torch.float32).index_fill(0, ends, 1.0)

    @property
    def sequence_weight_as_chosen(self) -> Tensor:
        """[S] the weights of the pairs in which a sequence is the chosen end."""
        weight = self.pair_weight
        return weight.new_zeros(len(self.sequences.completion_lengths)).index_add(0, self.chosen, weight)

    @property
    def chosen_token_weight(self) -> Tensor:
        """[T] the weight of each token as part of a chosen end."""
        return self._spread(self.sequence_weight_as_chosen)

    def select(self, sequences: Tensor) -> PreferenceBatch:
        """Pairs with one end outside are left out."""
        place = torch.full((len(self.sequences.completion_lengths),), -1, device=sequences.device)
        place[sequences] = torch.arange(len(sequences), device=sequences.device)
        chosen, rejected = place[self.chosen], place[self.rejected]
        kept = (chosen >= 0) & (rejected >= 0)
        return PreferenceBatch(
            self.sequences.select(sequences), chosen[kept], rejected[kept], self.probability[kept],
            None if self.reward_gap is None else self.reward_gap[kept],
            None if self.weight is None else self.weight[kept],
            None if self.drawn is None else self.drawn.select(sequences),
        )


@dataclass(frozen=True)
class ScoredBatch(Batch):
    """Sequences with a reward each: scored responses, labels (1 desirable, 0 not), or demonstrations (all 1)."""

    sequences: Sequences
    reward: Tensor
    """[S] in nats once divided by tau; a label in {0, 1} for unpaired data."""
    weight: Tensor | None = None
    """[S] the sampling law; None is 1 everywhere."""

    def __post_init__(self) -> None:
        for name in ("reward", "weight"):
            _expect(name, getattr(self, name), len(self.sequences.completion_lengths))

    @property
    def sequence_weight(self) -> Tensor:
        """[S] `weight`, or ones."""
        return torch.ones_like(self.reward) if self.weight is None else self.weight

    def count(self, unit: Unit) -> Tensor:
        return self.sequence_weight.sum() if unit == "sequence" else super().count(unit)

    def select(self, sequences: Tensor) -> ScoredBatch:
        weight = None if self.weight is None else self.weight[sequences]
        return ScoredBatch(self.sequences.select(sequences), self.reward[sequences], weight)


@dataclass(frozen=True)
class Rollout(Batch):
    """Sequences sampled from a policy, with what credit assignment needs and makes."""

    sequences: Sequences
    behaviour: Tensor
    """[T] log-probs under the law that sampled the tokens, in nats."""
    reward: Tensor
    """[S]"""
    reference: Tensor | None = None
    """[T] log-probs of the reference, unfiltered and at temperature 1, in nats."""
    values: Tensor | None = None
    """[T] the critic's value before each token."""
    advantages: Tensor | None = None
    """[T]"""
    returns: Tensor | None = None
    """[T]"""
    weight: Tensor | None = None
    """[S] the sampling law; None is 1 everywhere."""
    policy: Tensor | None = None
    """[T] log-probs of the policy that sampled, unfiltered and at temperature 1, in nats; None where `behaviour` has them."""
    token_reward: Tensor | None = None
    """[T] what was received at each token besides `reward`, which falls due at a completion's last token."""
    finished: Tensor | None = None
    """[S] bool: ended by the stop set; None where it is not known."""
    opponent: Tensor | None = None
    """[S] bool: drawn from the algorithm's opponent (a reference, a mixture) and not from the policy; None: none was."""
    law: Law | None = None
    """How the tokens were sampled; None is the policy's own distribution."""

    per_token: ClassVar[tuple[str, ...]] = (
        "behaviour", "reference", "values", "advantages", "returns", "policy", "token_reward",
    )
    per_sequence: ClassVar[tuple[str, ...]] = ("reward", "weight", "finished", "opponent")

    def __post_init__(self) -> None:
        for name in self.per_token:
            _expect(name, getattr(self, name), len(self.sequences.completion_ids))
        for name in self.per_sequence:
            _expect(name, getattr(self, name), len(self.sequences.completion_lengths))

    @property
    def sequence_weight(self) -> Tensor:
        """[S] `weight`, or ones."""
        return torch.ones_like(self.reward) if self.weight is None else self.weight

    @property
    def unfiltered(self) -> Tensor:
        """[T] log-probs of the policy that sampled, at temperature 1 over all tokens: what a KL is of."""
        return self.behaviour if self.policy is None else self.policy

    def count(self, unit: Unit) -> Tensor:
        return self.sequence_weight.sum() if unit == "sequence" else super().count(unit)

    def select(self, sequences: Tensor) -> Rollout:
        tokens = segment_indices(self.sequences.completion_lengths, sequences)
        chosen = {name: value if (value := getattr(self, name)) is None else value[tokens] for name in self.per_token}
        chosen |= {name: value if (value := getattr(self, name)) is None else value[sequences] for name in self.per_sequence}
        law = None if self.law is None else self.law.select(tokens)
        return Rollout(self.sequences.select(sequences), law=law, **chosen)

    def pairs(self) -> PreferenceBatch:
        """The pair graph of each prompt's group: every pair once, the better one chosen, with its reward gap."""
        return dataclasses.replace(every_pair(self.sequences, self.reward, self.weight), drawn=self)


@dataclass(frozen=True)
class TokenLogps(Ragged):
    """Log-probs of completion tokens; entry t scores completion token t, and no shift happens anywhere else."""

    values: Tensor
    """[T] in nats."""
    entropy: Tensor | None = None
    """[T] of the distribution the token was drawn from, in nats, when it was asked for."""
    collision: Tensor | None = None
    """[T] log sum_v pi_v^2 of that distribution, in nats, without gradient, when it was asked for."""
    acting: Tensor | None = None
    """[T] in nats, under the law by which a rollout was sampled (its temperature, its kept tokens); None: the same as `values`."""

    def __post_init__(self) -> None:
        _expect("entropy", self.entropy, len(self.values))
        _expect("acting", self.acting, len(self.values))
        _expect("collision", self.collision, len(self.values))


@dataclass(frozen=True)
class Observation(Ragged):
    """What a head wants to know of the whole optimizer step: rows gathered over micro-batches and ranks.

    A head returns one from `observe` for its micro-batch. It reads back, in `Evidence.observed`, the rows of the
    whole step, with `start` saying where its own rows stand among them.
    """

    values: Tensor
    """[n, c] n rows (pairs or sequences) of c numbers each, without gradient."""
    weight: Tensor
    """[n]"""
    start: int = 0
    """The index of this micro-batch's first row."""
    running: Tensor | None = None
    """[c] the running mean over earlier steps, where the head asks for one (`decay` > 0); None before the first step."""
    decay: float = 0.0
    """Weight of the past in the running mean; 0 keeps none."""

    def mean(self) -> Tensor:
        """[c] the weighted mean over all rows; 0 where there are none."""
        total = (self.values * self.weight[:, None]).sum(0)
        return total / self.weight.sum().to(total.dtype).clamp_min(torch.finfo(total.dtype).tiny)


@dataclass(frozen=True)
class Evidence(Ragged):
    """What a head may read of the models besides its batch. A part that is not there is None."""

    policy: TokenLogps | None = None
    """Log-probs of the trained policy."""
    reference: Tensor | None = None
    """[T] log-probs of the reference, in nats. None is the prior form (u = 1)."""
    score: Tensor | None = None
    """[S] scores of a reward model in training."""
    values: Tensor | None = None
    """[T] the critic's values."""
    log_partition: Tensor | None = None
    """[N] learned log Z of each prompt."""
    tau: Tensor | None = None
    """[] a learned temperature."""
    soft_q: Any = None
    """`components.soft_q.SoftStates`: what policy and soft critics say of all V next tokens, [chunk, V] at a time."""
    observed: tuple[Observation, ...] | None = None
    """One per statistic the head declares; None lets the head form it from its own batch."""


def segment_indices(lengths: Tensor, which: Tensor) -> Tensor:
    """The positions of the segments `which` in a concatenation of segments of `lengths`, in the order of `which`."""
    starts = lengths.cumsum(0) - lengths
    chosen = lengths[which]
    offset = torch.repeat_interleave(starts[which] - (chosen.cumsum(0) - chosen), chosen)
    return offset + torch.arange(len(offset), device=lengths.device)


def split_groups(sequences: Sequences, token_budget: int) -> tuple[Tensor, ...]:
    """Sequences, by index, in stretches of whole prompt groups of at most `token_budget` tokens.

    Raises:
        ValueError: one group alone is larger than the budget.
    """
    tokens = sequences.group_tokens()
    if len(tokens) and int(tokens.max()) > token_budget:
        raise ValueError(f"a prompt and its completions have {int(tokens.max())} tokens, more than token_budget={token_budget}")
    part_of, part, used = [], 0, 0
    for size in tokens.tolist():
        if used + size > token_budget:
            part, used = part + 1, 0
        used += size
        part_of.append(part)
    part_of_sequence = torch.tensor(part_of, device=sequences.prompt_of.device)[sequences.prompt_of]
    return tuple((part_of_sequence == index).nonzero()[:, 0] for index in range(part + 1))


def joined_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """Several rollouts as one, the prompts of each after those of the one before.

    Raises:
        ValueError: a field is there in one and missing in another, or they were sampled at different temperatures.
    """
    if len(parts) == 1:
        return parts[0]
    fields: dict[str, Any] = {}
    for name in (*Rollout.per_token, *Rollout.per_sequence):
        values = [getattr(part, name) for part in parts]
        if len({value is None for value in values}) > 1:
            raise ValueError(f"{name} is missing in some of the rollouts that are joined")
        fields[name] = None if values[0] is None else torch.cat(values)
    laws = [part.law for part in parts]
    return Rollout(joined_sequences([part.sequences for part in parts]), law=_joined_laws(laws, parts), **fields)


def joined_sequences(parts: Sequence[Sequences]) -> Sequences:
    """Several containers as one, the prompts of each after those of the one before."""
    prompts = [len(part.prompt_lengths) for part in parts]
    starts = [sum(prompts[:index]) for index in range(len(parts))]
    joined = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("prompt_ids", "prompt_lengths", "completion_ids", "completion_lengths")
    }
    prompt_of = torch.cat([part.prompt_of + start for part, start in zip(parts, starts, strict=True)])
    weighted = any(part.weight is not None for part in parts)
    return Sequences(**joined, prompt_of=prompt_of, weight=torch.cat([part.token_weight for part in parts]) if weighted else None)


def _joined_laws(laws: Sequence[Law | None], parts: Sequence[Rollout]) -> Law | None:
    """The law of all tokens; where some of the rollouts were filtered, the others have no set."""
    temperatures = {1.0 if law is None else law.temperature for law in laws}
    if len(temperatures) > 1:
        raise ValueError(f"rollouts sampled at the temperatures {sorted(temperatures)} cannot be joined")
    if all(law is None or law.kept is None for law in laws):
        return next((law for law in laws if law is not None), None)
    kept = [
        Kept(part.sequences.completion_ids[:0], torch.zeros_like(part.sequences.completion_ids))
        if part.law is None or part.law.kept is None else part.law.kept
        for part in parts
    ]
    return Law(temperatures.pop(), Kept(torch.cat([one.ids for one in kept]), torch.cat([one.lengths for one in kept])))


def every_pair(sequences: Sequences, reward: Tensor, weight: Tensor | None = None) -> PreferenceBatch:
    """All pairs within each prompt, the higher reward [S] chosen, `probability` = sigma(gap) and `reward_gap` = gap.

    A pair weighs what its lighter end weighs [S].
    """
    same = sequences.prompt_of[:, None] == sequences.prompt_of[None, :]
    first, second = torch.triu(same, diagonal=1).nonzero(as_tuple=True)
    swapped = reward[second] > reward[first]
    chosen, rejected = torch.where(swapped, second, first), torch.where(swapped, first, second)
    gap = reward[chosen] - reward[rejected]
    law = None if weight is None else torch.minimum(weight[chosen], weight[rejected])
    return PreferenceBatch(sequences, chosen, rejected, torch.sigmoid(gap), gap, law)


def _expect(name: str, value: Tensor | None, length: int) -> None:
    if value is not None and tuple(value.shape) != (length,):
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected ({length},)")


def _renumber(prompt_of: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct values in the order of first use, and each entry's index among them."""
    values, inverse = torch.unique(prompt_of, return_inverse=True)
    positions = torch.arange(len(prompt_of), device=prompt_of.device)
    first = torch.full((len(values),), len(prompt_of), device=prompt_of.device).scatter_reduce(0, inverse, positions, "amin")
    order = first.argsort()
    return values[order], order.argsort()[inverse]
