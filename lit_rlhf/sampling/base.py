"""What a sampler is: prompts in, completions with exact log-probs out."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.sampling.processing import Processing
from lit_rlhf.sampling.stops import StopSet
from lit_rlhf.types import Prompts, Samples


class Sampler(ABC):
    """Draws K completions of every prompt. All its settings are its own arguments; a model's own file has no say."""

    max_new_tokens: int
    """A completion is cut there."""
    processing: Processing
    """From logits to the law that is sampled."""
    stop: Sequence[str]
    """Strings that end a completion, besides the tokens that do."""
    seed: int
    """Of the draws."""
    batch_tokens: int
    """Tokens that are held at a time, padding included; no result depends on it."""

    def greedy(self) -> Self:
        """The same sampler taking the likeliest token every time."""
        twin = copy.copy(self)
        twin.processing = Processing(temperature=0.0)
        return twin

    def check(self, policy: LanguageModel) -> None:
        """Reads the tokenizer and no weights.

        Raises:
            InputError: settings that cannot be served: an unknown stop string, no room for a token.
        """
        StopSet.of(policy, self.stop)

    def describe(self, policy: LanguageModel) -> str:
        """The settings in effect and the tokens and strings that end a completion, in one line."""
        told = (f"{name} {getattr(self, name)}" for name in ("max_new_tokens", "seed", "batch_tokens"))
        settings = ", ".join([str(self.processing), *told])
        return f"{type(self).__name__}: {settings}; a completion ends at {StopSet.of(policy, self.stop)}"

    @abstractmethod
    def sample(self, policy: LanguageModel, prompts: Prompts, group_size: int, draw: int) -> Samples:
        """`group_size` completions of every prompt, those of a prompt one after the other, without gradient.

        A completion is a function of the policy, its prompt, the sampler's seed, `draw`, its prompt's `index` and its
        place in the group, and of nothing else: neither of the prompts beside it nor of the global random state.

        Args:
            policy: whose weights are used as they are now.
            prompts: on the policy's device.
            group_size: K
            draw: the number of the iteration, or any other number that sets draws apart.
        """
