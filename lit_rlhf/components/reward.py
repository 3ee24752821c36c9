"""A reward model: a language model's trunk with a scalar head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lit_rlhf.components.language_model import LanguageModel, as_model
from lit_rlhf.components.learned import scalar_head
from lit_rlhf.components.runs import is_run, load_part, split_run
from lit_rlhf.types import Sequences

HEAD_FILE = "reward_head.safetensors"


class RewardModel(nn.Module):
    """r(x, y): a linear function of the state at the last completion token; 0 at the start for a fresh head.

    Where `model` is a run of ours that trained a reward model, or a folder written by `save`, the head comes along.

    Args:
        model: the trunk, trained too; a source or a language model.
        lr: learning rate of this part; the optimizer's own when None.
    """

    def __init__(self, model: LanguageModel | str, lr: float | None = None) -> None:
        super().__init__()
        self.model, self.lr = as_model(model), lr
        self.head: nn.Linear | None = None

    def build(self) -> None:
        """Loads the weights, once."""
        self.model.build()
        if self.head is None:
            self.head = scalar_head(self.model)
            saved = self._saved_head()
            if saved is not None:
                self.head.load_state_dict(saved)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.model.tokenizer

    def score(self, sequences: Sequences) -> Tensor:
        """[S] r(x, y) in nats."""
        return self.head(self.model.last_hidden(sequences))[:, 0].float()

    def save(self, folder: str | Path) -> None:
        """Writes trunk, tokenizer and head, by which `RewardModel(folder)` gives the same scores."""
        self.model.save(folder)
        save_file({name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}, Path(folder) / HEAD_FILE)

    def _saved_head(self) -> dict[str, Tensor] | None:
        source = self.model.source
        if source is None:
            return None
        if is_run(source):
            folder, _ = split_run(source)
            return load_part(source, "reward.head.") if (folder / "parts" / "reward").is_dir() else None
        path = Path(source) / HEAD_FILE
        return load_file(path) if path.exists() else None
