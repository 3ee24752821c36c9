"""The policy in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_rlhf.components.language_model import LanguageModel, as_trained
from lit_rlhf.types import Law, Sequences, TokenLogps


class Actor(nn.Module):
    """pi(y | x): the language model that is trained.

    Args:
        model: a language model, or its source.
        lr: learning rate of this part; the optimizer's own when None.
    """

    def __init__(self, model: LanguageModel | str, lr: float | None = None) -> None:
        super().__init__()
        self.model, self.lr = as_trained(model), lr

    def build(self) -> None:
        """Loads the weights, once."""
        self.model.build()

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.model.tokenizer

    def hidden(self, sequences: Sequences) -> Tensor:
        """[T, D] the state that each completion token is predicted from."""
        return self.model.hidden(sequences)

    def token_logps(
        self,
        sequences: Sequences,
        entropy: bool = False,
        collision: bool = False,
        law: Law | None = None,
        hidden: Tensor | None = None,
    ) -> TokenLogps:
        """log pi(y_t | x, y_<t) of every completion token, and what is asked for; see `LanguageModel.token_logps`."""
        return self.model.token_logps(sequences, entropy, collision, law, hidden)

    def head_parity(self, sequences: Sequences) -> float:
        """See `LanguageModel.head_parity`."""
        return self.model.head_parity(sequences)

    def save(self, folder: str | Path, card: str | None = None) -> None:
        """Writes a plain Hugging Face folder; see `LanguageModel.save`."""
        self.model.save(folder, card)
