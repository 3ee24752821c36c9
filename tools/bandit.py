"""Five responses to one prompt: where does the expected gradient of a composition vanish? `converge` decides by it.

Off-line, expectations are over the law of the data. On-line, they are over all groups that the policy may sample: each goes
through the composition's credit steps and pairs, and weighs its probability.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from lit_rlhf.algorithms.pairing import Collected, RewardPairs
from lit_rlhf.callbacks.quickstart import target_tau, temperatures
from lit_rlhf.components.soft_q import SoftStates
from lit_rlhf.credit.base import credited
from lit_rlhf.credit.temporal import RewardToGo
from lit_rlhf.data.collation import signal_of
from lit_rlhf.losses.base import LossHead
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Rollout, ScoredBatch, Sequences, TokenLogps

LENGTHS = torch.tensor([1, 2, 3, 1, 2])
REWARD = torch.tensor([0.3, -0.8, 1.1, 0.0, 0.5], dtype=torch.float64)
BASE = torch.tensor([0.3, 0.1, 0.2, 0.15, 0.25], dtype=torch.float64).log()
COPIES = torch.tensor([1, 2, 1, 3, 1])
LAW = COPIES.double() / COPIES.sum()
LARGEST = 4
"""Responses of a group, of an algorithm with larger ones."""
VANISHES = 1e-6
"""Of the gradient at the uniform law, or of a thousandth: a gradient below it is 0."""

# ---- off-line


def ascent(head: LossHead, labels: str) -> str:
    """`reward` where minimising the head on the bandit, from the law u, raises the mean reward, and `order` otherwise."""
    batch = bandit(signal_of(head.needs), labels, "group" in head.needs)
    logits = BASE.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        expected_loss(head, logits, BASE, None, batch).backward()
        optimizer.step()
    return "reward" if logits.detach().softmax(-1) @ REWARD > BASE.softmax(-1) @ REWARD else "order"


def stationary(head: LossHead, logits: Tensor, base: Tensor | None, labels: str) -> bool:
    """Whether the head's expected gradient vanishes at softmax(logits), in every learned part."""
    tau = next(temperatures(head))
    partition = ((torch.zeros_like(REWARD) if base is None else base) + REWARD / tau).logsumexp(-1)[None]
    batch = bandit(signal_of(head.needs), labels, "group" in head.needs)
    there, elsewhere = (slope(head, point, base, partition, batch) for point in (logits, torch.zeros_like(logits)))
    return there < VANISHES * max(elsewhere, 1e-3)


def slope(head: LossHead, logits: Tensor, base: Tensor | None, partition: Tensor, batch: Batch) -> float:
    """The norm of the gradient by the policy's logits and the log-partition."""
    leaves = [logits.clone().requires_grad_(), partition.clone().requires_grad_()]
    expected_loss(head, leaves[0], base, leaves[1], batch).backward()
    return sum(float(leaf.grad.square().sum()) for leaf in leaves if leaf.grad is not None) ** 0.5


def expected_loss(
    head: LossHead, logits: Tensor, base: Tensor | None, partition: Tensor | None, batch: Batch
) -> Tensor:
    """[] the loss of softmax(logits) on the bandit."""
    reference = None if base is None else per_token(base, batch)
    logps = logits.log_softmax(-1)
    collision = (2 * logps.detach()).logsumexp(-1).expand_as(logps)
    policy = TokenLogps(per_token(logps, batch), collision=per_token(collision, batch))
    output = head(Evidence(policy=policy, reference=reference, log_partition=partition), batch)
    return sum(term.total / batch.count(term.unit) for term in output.terms)


def per_token(values: Tensor, batch: Batch) -> Tensor:
    """[T] log-probs of the five responses in equal parts; a token's id is its response."""
    return (values / LENGTHS)[batch.sequences.completion_ids]


def bandit(signal: str, labels: str, grouped: bool) -> Batch:
    """All responses to one prompt with the feedback of the built-in task, in expectation; a group has copies."""
    one, five = torch.tensor([1]), torch.arange(len(LENGTHS))
    sequences = Sequences(one, one, five.repeat_interleave(LENGTHS), LENGTHS, torch.zeros_like(LENGTHS))
    if signal in ("gap", "preference"):
        return edges(sequences, labels)
    if signal == "reward" and grouped:
        drawn = five.repeat_interleave(COPIES)
        return ScoredBatch(sequences.select(drawn), REWARD[drawn])
    return ScoredBatch(sequences, REWARD if signal == "reward" else torch.sigmoid(REWARD - REWARD @ LAW), LAW)


def edges(sequences: Sequences, labels: str) -> PreferenceBatch:
    """Every pair, both ends drawn from the law; drawn labels as both outcomes, weighted by their probabilities."""
    first, second = torch.triu_indices(len(LAW), len(LAW), offset=1)
    gap = REWARD[first] - REWARD[second]
    weight, p = LAW[first] * LAW[second], torch.sigmoid(gap)
    if labels == "soft":
        return PreferenceBatch(sequences, first, second, p, gap, weight)
    won = p if labels == "sampled" else (gap > 0).double()
    chosen, rejected = torch.cat([first, second]), torch.cat([second, first])
    both = torch.cat([weight * won, weight * (1 - won)])
    return PreferenceBatch(sequences, chosen, rejected, torch.ones_like(both), torch.cat([gap, -gap]), both)


# ---- on-line


def boltzmann(algorithm: LightningModule) -> bool:
    """Whether the expected gradient on the policy's own samples vanishes at u e^{r/tau} / Z, u the reference or 1.

    The rewards are tau times those above: at a low temperature every gradient would be close to 0 there.
    """
    tau = target_tau(algorithm)
    if tau is None:
        return False
    base = torch.zeros_like(REWARD) if algorithm.reference is None else BASE
    target = (base + REWARD).log_softmax(-1)
    there, elsewhere = (own_slope(algorithm, logits, base, tau) for logits in (target, torch.zeros_like(target)))
    return there < VANISHES * max(elsewhere, 1e-3)


def imitates(algorithm: LightningModule) -> bool:
    """Whether what counts does not depend on the policy, which then comes to rest at its law (the best of n of a reference)."""
    if algorithm.opponent is None or algorithm.paired:
        return False
    laws = [kept_law(algorithm, policy) for policy in (BASE, torch.full_like(BASE, -math.log(len(BASE))))]
    if not torch.allclose(*laws):
        return False
    there, elsewhere = (own_slope(algorithm, logits, BASE, 1.0) for logits in (laws[0].log(), BASE))
    return there < VANISHES * max(elsewhere, 1e-3)


def kept_law(algorithm: LightningModule, policy: Tensor) -> Tensor:
    """[5] the share of each response in what counts after the credit steps."""
    rollout = sampled(algorithm, policy, BASE, REWARD)
    first = is_first(rollout.sequences)
    weight = torch.zeros_like(REWARD).index_add(0, rollout.sequences.completion_ids[first], rollout.sequence_weight)
    return weight / weight.sum()


def own_slope(algorithm: LightningModule, logits: Tensor, base: Tensor, tau: float) -> float:
    """The norm of the gradient by the policy's logits and the log-partition, on samples of softmax(logits)."""
    policy, head = logits.log_softmax(-1), algorithm.loss
    leaves = [policy.clone().requires_grad_(), (base + REWARD).logsumexp(-1)[None].requires_grad_()]
    batch = sampled(algorithm, policy, base, tau * REWARD)
    evidence = own_evidence(algorithm, batch, leaves, base, tau)
    output = head(evidence, batch)
    sum(term.total / batch.count(term.unit) for term in output.terms).backward()
    return sum(float(leaf.grad.square().sum()) for leaf in leaves if leaf.grad is not None) ** 0.5


def own_evidence(
    algorithm: LightningModule, batch: Batch, leaves: list[Tensor], base: Tensor, tau: float
) -> Evidence:
    """What the head may read, the critics being exact."""
    law, ids = leaves[0].log_softmax(-1), batch.sequences.completion_ids
    first = is_first(batch.sequences)
    entropy = torch.where(first, -(law.exp() * law).sum(), 0.0)
    collision = torch.where(first, (2 * law.detach()).logsumexp(-1), 0.0)
    policy = TokenLogps(torch.where(first, law[ids], 0.0), entropy, collision)
    reference = None if algorithm.reference is None else torch.where(first, base[ids], 0.0)
    rollout = batch.drawn if isinstance(batch, PreferenceBatch) else batch
    worth = tau * (REWARD if algorithm.reference is None else REWARD + base)

    def of_states(values: Tensor) -> Any:
        return lambda rows: values.expand(len(ids[rows]), -1)

    soft_q = SoftStates(len(REWARD), of_states(law), of_states(worth), of_states(worth), lambda taken: worth[taken].expand(2, -1))
    return Evidence(
        policy=policy, reference=reference, values=rollout.values, soft_q=soft_q,
        log_partition=leaves[1].expand(len(batch.sequences.prompt_lengths)),
    )


def sampled(algorithm: LightningModule, policy: Tensor, base: Tensor, reward: Tensor) -> Batch:
    """What the head reads of every group that may be sampled, weighted by its probability.

    Only the first token of a response is chosen: it carries all of its log-probability. Where every next token has a
    value, that is all there is.
    """
    lengths = torch.ones_like(LENGTHS) if "soft_q" in algorithm.loss.needs else LENGTHS
    rollout = groups(algorithm, policy, base, reward, lengths)
    steps = copy.deepcopy(list(algorithm.credit))
    if algorithm.critic is not None and algorithm.critic.fills == "values":
        rollout = dataclasses.replace(rollout, values=true_values(rollout, steps))
    rollout = credited(rollout, steps).rollout
    return labelled(algorithm, rollout) if algorithm.paired else rollout


def groups(algorithm: LightningModule, policy: Tensor, base: Tensor, reward: Tensor, lengths: Tensor) -> Rollout:
    """All groups of the policy's own responses, and of an opponent's where there is one."""
    size = min(algorithm.group_size, LARGEST)
    laws = [(policy, size)]
    if algorithm.opponent is not None:
        share = getattr(algorithm.opponent, "weight", 1.0)
        laws.append((((1 - share) * policy + share * base).log_softmax(-1), algorithm.opponent.completions))
    every = [list(multisets(law, size)) for law, size in laws]
    responses, weights = [], []
    for parts in itertools.product(*every):
        responses.append([one for members, _ in parts for one in members])
        weights.append(math.prod(probability for _, probability in parts))
    members, whole = torch.tensor(responses), sum(size for _, size in laws)
    drawn, prompts = members.flatten(), torch.ones(len(members), dtype=torch.long)
    owner = torch.arange(len(members)).repeat_interleave(whole)
    sequences = Sequences(prompts, prompts, drawn.repeat_interleave(lengths[drawn]), lengths[drawn], owner)
    other = torch.arange(whole).ge(size).repeat(len(members))
    behaviour = torch.where(other, laws[-1][0][drawn], policy[drawn]).repeat_interleave(lengths[drawn])
    first, ids = is_first(sequences), sequences.completion_ids
    return Rollout(
        sequences, torch.where(first, behaviour, 0.0), reward[drawn],
        reference=None if algorithm.reference is None else torch.where(first, base[ids], 0.0),
        weight=torch.tensor(weights, dtype=torch.float64).repeat_interleave(whole), policy=torch.where(first, policy[ids], 0.0),
        finished=torch.ones_like(other), opponent=None if algorithm.opponent is None else other,
    )


def multisets(law: Tensor, size: int) -> Any:
    """Every multiset of so many responses with its probability."""
    for members in itertools.combinations_with_replacement(range(len(law)), size):
        counts = [members.count(one) for one in range(len(law))]
        orders = math.factorial(size) / math.prod(math.factorial(count) for count in counts)
        yield list(members), orders * math.exp(sum(count * float(logp) for count, logp in zip(counts, law, strict=True)))


def true_values(rollout: Rollout, steps: list[Any]) -> Tensor:
    """[T] what is received from each token on, in expectation: known from a response's first token on."""
    shaping = [step for step in copy.deepcopy(steps) if not (step.gives | step.needs) & {"advantages", "returns"}]
    returns = RewardToGo()(credited(rollout, shaping).rollout).rollout.returns
    first, weight = is_first(rollout.sequences), rollout.token_weight
    return torch.where(first, (weight * first * returns).sum() / (weight * first).sum(), returns)


def labelled(algorithm: LightningModule, rollout: Rollout) -> PreferenceBatch:
    """The pairs of the groups; a drawn label as both outcomes, weighted by their probabilities."""
    own = algorithm.pairs
    hard = own.labels == "hard" or getattr(getattr(own, "judge", None), "deterministic", False)
    scale = getattr(own, "scale", getattr(getattr(own, "judge", None), "tau", 1.0))
    pairs = RewardPairs("hard" if hard else "soft", own.between, scale)
    found = pairs(Collected(rollout, (), torch.arange(len(rollout.sequences.prompt_lengths)), 0))
    if own.labels != "sampled":
        return found
    both = {name: torch.cat([getattr(found, one) for one in ends]) for name, ends in (
        ("chosen", ("chosen", "rejected")), ("rejected", ("rejected", "chosen")),
    )}
    weight = torch.cat([found.pair_weight * found.probability, found.pair_weight * (1 - found.probability)])
    gap = torch.cat([found.reward_gap, -found.reward_gap])
    return dataclasses.replace(found, **both, probability=torch.ones_like(weight), reward_gap=gap, weight=weight)


def is_first(sequences: Sequences) -> Tensor:
    """[T] bool: the first token of a completion."""
    lengths = sequences.completion_lengths
    return torch.zeros(int(lengths.sum()), dtype=torch.bool).index_fill(0, lengths.cumsum(0) - lengths, True)
