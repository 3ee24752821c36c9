"""What labels and rewards identify: where the optimum is finite, where labels contradict, what each family sees."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lit_rlhf.data.coverage import Nodes, PairGraph
from lit_rlhf.data.records import Group


@dataclass(frozen=True)
class Identification:
    """What the labels of a pair graph say of rewards.

    The logistic PRA loss has a finite minimiser iff in every connected component the win graph, with an arc from a to b
    where p(a > b) > 0, is strongly connected (Ford, "Solution of a ranking problem from binary comparisons", 1957).
    Elsewhere margins grow without end, whatever tau. Pairs of identical responses say nothing and are left out.
    """

    prompts: int
    """With a pair."""
    pairs: int
    distinct: int
    """Pairs of different ends; repeats count once."""
    finite: int
    """Prompts where the minimiser is finite."""
    single_certain: int
    """Prompts whose only distinct pair is always labelled 0 or 1 the same way."""
    cyclic: int
    """Prompts where the preferred ends go round: a over b over c over a, repeats of a pair averaged."""
    certain: int
    """Pairs with the label 0 or 1."""
    ties: int
    """Pairs with the label 1/2."""
    repeated: int
    """Distinct pairs that occur more than once."""
    contradicted: int
    """Of them, those whose labels point both ways."""
    disagreement: float
    """Probability that two labels of the same pair point different ways, ties aside."""
    curvature: float
    """Mean of 4 p (1 - p): how much curvature a pair has under PRA, of the most it can have."""
    compared: tuple[int, int, int] = (0, 0, 0)
    """How often a response is an end of a pair: least, median, most."""
    responses: int = 0
    """That are in a pair."""
    once: int = 0
    """Of them, those that are in one."""
    unbeaten: int = 0
    """That no label holds to be worse with any probability."""
    winless: int = 0
    """That no label holds to be better with any probability."""
    rows: int = 0
    """Of how many rows this is."""


def identification(graph: PairGraph) -> Identification | None:
    """Exact for this graph; None where no pair has different ends."""
    apart = graph.ends[:, 0] != graph.ends[:, 1]
    ends, p = graph.ends[apart], graph.probability[apart]
    if not len(ends):
        return None
    forward = ends[:, 0] < ends[:, 1]
    key = ends.min(1) * len(graph.prompt_of) + ends.max(1)
    pairs, which, count = np.unique(key, return_inverse=True, return_counts=True)
    of_first = np.where(forward, p, 1 - p)
    low, high = pairs // len(graph.prompt_of), pairs % len(graph.prompt_of)
    mean = np.bincount(which, of_first) / count
    ups, downs = (np.bincount(which, sign, len(pairs)) for sign in (of_first > 0.5, of_first < 0.5))
    couples = (ups + downs) * (ups + downs - 1) / 2
    prompt = graph.prompt_of[low]
    alone = np.bincount(prompt, minlength=graph.prompts) == 1
    of_pairs = np.bincount(prompt, minlength=graph.prompts) > 0
    return Identification(
        prompts=int(of_pairs.sum()), pairs=len(graph.ends), distinct=len(pairs),
        finite=int((of_pairs & _finite(graph, ends, p)).sum()),
        single_certain=int((alone[prompt] & np.isin(mean, (0.0, 1.0))).sum()),
        cyclic=_cyclic(graph, low, high, mean),
        certain=int(np.isin(p, (0.0, 1.0)).sum()), ties=int((graph.probability == 0.5).sum()),
        repeated=int((count > 1).sum()), contradicted=int(((ups > 0) & (downs > 0)).sum()),
        disagreement=float((ups * downs).sum() / max(couples.sum(), 1)),
        curvature=float((4 * p * (1 - p)).mean()), rows=graph.rows, **_support(ends, p),
    )


def _finite(graph: PairGraph, ends: np.ndarray, p: np.ndarray) -> np.ndarray:
    """[prompts] whether every component is one strong component of the win graph."""
    arcs = np.concatenate([ends[p > 0], ends[p < 1][:, ::-1]])
    return graph.parts(graph.components(arcs)) == graph.parts(graph.components())


def _cyclic(graph: PairGraph, low: np.ndarray, high: np.ndarray, mean: np.ndarray) -> int:
    """Prompts with a cycle of preferred ends."""
    pairs = np.stack([low, high], axis=1)
    arcs = np.concatenate([pairs[mean > 0.5], pairs[mean < 0.5][:, ::-1]])
    strong = graph.components(arcs)
    return len(np.unique(graph.prompt_of[np.bincount(strong)[strong] > 1]))


def _support(ends: np.ndarray, p: np.ndarray) -> dict[str, int | tuple[int, int, int]]:
    """How often responses are compared, and how many never lose or never win."""
    _, place = np.unique(ends, return_inverse=True)
    place = place.reshape(ends.shape)
    compared = np.bincount(place.ravel())
    won = np.bincount(place.ravel(), np.stack([p, 1 - p], axis=1).ravel())
    lost = np.bincount(place.ravel(), np.stack([1 - p, p], axis=1).ravel())
    low, middle, high = (int(x) for x in np.quantile(compared, (0, 0.5, 1), method="higher"))
    return {
        "compared": (low, middle, high), "responses": len(compared), "once": int((compared == 1).sum()),
        "unbeaten": int((lost == 0).sum()), "winless": int((won == 0).sum()),
    }


@dataclass(frozen=True)
class Scores:
    """What scored responses tell each family: RA reads rewards, RDA their differences in a prompt, PRA sigma of those."""

    prompts: int
    responses: int
    """Distinct ones of each prompt; one that is scored several times has the mean of its rewards."""
    alone: int
    """Prompts with one response: nothing to compare."""
    constant: int
    """Prompts with several responses of equal reward."""
    distinct: int
    """Rewards, equal ones of a prompt counted once."""
    pairs: int
    """Pairs of responses to the same prompt."""
    ties: int
    """Of them, those of equal reward."""
    spread: tuple[float, float, float]
    """Largest less smallest reward of a prompt with several responses: least, median, most."""
    gap: float
    """Median size of the reward difference of a pair; of a sample of prompts where there are many pairs."""
    rows: int = 0
    """Of how many rows this is."""


def scores(groups: Iterable[Group], most: int | None = None) -> Scores | None:
    """Of groups with rewards, or of the first `most`; None where there is no reward."""
    nodes, found, rows = Nodes(), [], 0
    for group in itertools.islice(groups, most):
        rows += 1
        if group.rewards is not None:
            found += zip(nodes.of(group), group.rewards, strict=True)
    prompt_of = np.array([prompt for prompt, _ in nodes.responses], dtype=np.int64)
    node, reward = (np.array(column) for column in zip(*found, strict=True)) if found else (np.empty(0), np.empty(0))
    return scores_of(prompt_of, node, reward, rows) if found else None


def scores_of(prompt_of: np.ndarray, node: np.ndarray, reward: np.ndarray, rows: int = 0) -> Scores:
    """The same of arrays.

    Args:
        prompt_of: [n] the prompt 0, 1, ... of each distinct response.
        node: [m] the response that is scored.
        reward: [m]
        rows: of how many rows this is.
    """
    mean = np.bincount(node, reward) / np.bincount(node)
    order = np.lexsort((mean, prompt_of))
    prompts, starts, sizes = np.unique(prompt_of[order], return_index=True, return_counts=True)
    by_prompt = np.split(mean[order], starts[1:])
    several = [own for own in by_prompt if len(own) > 1]
    equal = [np.unique(own, return_counts=True)[1] for own in by_prompt]
    spread = np.array([own[-1] - own[0] for own in several])
    return Scores(
        prompts=len(prompts), responses=len(mean), alone=int((sizes == 1).sum()), constant=int((spread == 0).sum()),
        distinct=sum(map(len, equal)), pairs=int((sizes * (sizes - 1) // 2).sum()),
        ties=int(sum((k * (k - 1) // 2).sum() for k in equal)),
        spread=tuple(float(x) for x in np.quantile(spread, (0, 0.5, 1))) if len(spread) else (0.0, 0.0, 0.0),
        gap=_median_gap(several), rows=rows,
    )


_PAIRS = 500_000
"""Pairs that the median difference is taken of, at most."""


def _median_gap(several: list[np.ndarray]) -> float:
    """Over the first prompts, each with at most 256 evenly spaced ones of its sorted rewards."""
    gaps, count = [np.zeros(0)], 0
    for own in several:
        few = own[np.linspace(0, len(own) - 1, min(len(own), 256)).astype(int)]
        first, second = np.triu_indices(len(few), 1)
        gaps.append(few[second] - few[first])
        count += len(first)
        if count > _PAIRS:
            break
    every = np.concatenate(gaps)
    return float(np.median(every)) if len(every) else 0.0
