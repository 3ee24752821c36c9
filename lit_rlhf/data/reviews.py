"""`Reviews`, the data of the built-in task: feedback on short reviews, drawn from the exact world of `grammar`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_rlhf.data import grammar
from lit_rlhf.data.designs import Named, PairDesign, PairTable
from lit_rlhf.data.planner import PlannedData, Split
from lit_rlhf.data.report import DataReport, Lengths, SplitReport, sample_text
from lit_rlhf.data.review_groups import Labels, ReviewGroups
from lit_rlhf.errors import InputError


class Reviews(PlannedData):
    """Feedback of the kind that the composition reads, on responses of the writer that the tiny model imitates.

    The responses y of a prompt x are drawn from the writer's law mu(y|x) (`grammar.log_law`), to which the shipped
    model is within 1e-3 nats, so every response can appear and, with the model as the reference, mu = u. With the
    reward r(x, y) of `grammar.rewards`:

    - pairs: all pairs of the K responses of a group, the one of higher reward chosen, with reward_gap = r - r' and
      labels `soft` (probability = sigma(gap), Bradley-Terry), `sampled` (the winner is drawn with that probability)
      or `hard` (the higher reward wins always; 1/2 where they are equal);
    - scored responses: K of them, with their rewards;
    - unpaired labels: one response, good with probability sigma(r - E_mu r), or where r > E_mu r if labels are `hard`;
    - demonstrations: one response, of the better writer mu e^r / Z;
    - prompts: none, and every step has nearly its share of each prompt.

    Every prompt is as frequent as any other. Validation, test and prediction data are drawn in the same way, apart.

    Args:
        batch_size: prompts in an optimizer step, over all ranks.
        micro_batch_tokens: most tokens in a micro-batch.
        seed: of the draws and of their order.
        num_workers: processes that make items.
        responses: K, of pairs and scores.
        labels: how reward differences become preferences.
        size: groups in an epoch.
        val_size: groups of validation, test and prediction data each.
        design: what training pairs weigh: `uniform`, `inverse_variance`, `sampler`, or a `PairDesign`.

    Raises:
        InputError: an argument is out of range, or the tokenizer is not the built-in task's.
    """

    max_completion_tokens = grammar.MAX_WORDS
    """A review that has not ended by then is cut."""

    def __init__(
        self,
        batch_size: int = 64,
        micro_batch_tokens: int = 8192,
        seed: int = 0,
        num_workers: int = 0,
        responses: int = 4,
        labels: Labels = "soft",
        size: int = 32768,
        val_size: int = 512,
        design: PairDesign | Named = "uniform",
    ) -> None:
        super().__init__(batch_size, micro_batch_tokens, seed, num_workers, design)
        for name, value, least in (("responses", responses, 2), ("size", size, 1), ("val_size", val_size, 0)):
            if value < least:
                raise InputError(f"data.{name}: {value}, expected {least} or more")
        self.responses, self.labels, self.size, self.val_size = responses, labels, size, val_size

    def reward_of(self, prompt_ids: np.ndarray, completion_ids: np.ndarray) -> float | None:
        """The reward of one response; None where this is not one of the task's prompts and responses."""
        prompt, response = grammar.decoded(prompt_ids), tuple(grammar.TOKENS[index] for index in completion_ids)
        known = prompt in grammar.PROMPTS and response in grammar.responses()
        return float(grammar.rewards(prompt)[grammar.responses().index(response)]) if known else None

    def attach(self, algorithm: Any) -> None:
        super().attach(algorithm)
        ids = self.tokenizer.convert_tokens_to_ids(list(grammar.TOKENS))
        if ids != list(range(len(grammar.TOKENS))):
            raise InputError(
                f"data: Reviews speaks {len(grammar.TOKENS)} words of its own, which the tokenizer of the model does not have. "
                "Train the model lit_rlhf/reviews, give yours that name as its tokenizer, or choose data of yours with Files"
            )

    def load(self, split: Split) -> ReviewGroups:
        n = self.size if split == "train" else self.val_size
        return ReviewGroups(split, n, self.responses, self.signal, self.labels, self.seed)

    def tokens(self, groups: ReviewGroups) -> np.ndarray:
        prompts, responses = groups.lengths
        return prompts + responses.sum(1)

    def strata(self, groups: ReviewGroups) -> np.ndarray:
        if self.signal == "prompt":
            return groups.prompts
        return groups.good if self.signal == "label" else np.zeros(len(groups))

    def pair_table(self, groups: ReviewGroups) -> PairTable:
        return groups.table

    @property
    def report(self) -> DataReport:
        """What was drawn, once `setup` is done."""
        return DataReport(
            sources=(f"the built-in task: {len(grammar.PROMPTS)} prompts, {len(grammar.responses()):,} responses to each, all known",),
            signal=self.signal,
            splits={split: _drawn(groups) for split, groups in self._loaded.items() if len(groups)},
            tokenizer=f"the task's own, {len(grammar.WORDS)} words and {grammar.EOS}",
            stop_set=grammar.EOS,
            notes=() if self._law is None else (self._law.line(),),
            samples=tuple(sample_text(group, self.tokenizer) for group in self.sample_prompts(2)),
        )


def _drawn(groups: ReviewGroups) -> SplitReport:
    """Every group is kept; the tokens of all completions are trained."""
    n, k = groups.drawn.shape
    prompts, lengths = groups.lengths
    return SplitReport(
        rows=n, kept=n, completions=n * k, pairs=groups.coverage.pairs if groups.paired else 0,
        prompt_lengths=Lengths.of(prompts), completion_lengths=Lengths.of(lengths.ravel()),
        trained=float(lengths.sum() / (lengths.sum() + prompts.sum())), coverage=groups.coverage if groups.paired else None,
        identification=groups.identification if groups.paired else None,
        scores=groups.scores if groups.signal == "reward" or groups.paired else None,
    )
