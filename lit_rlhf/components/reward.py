"""A reward model: a language model's trunk with a scalar head."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lit_rlhf.components.heads import ScalarHead
from lit_rlhf.components.language_model import LanguageModel, as_model
from lit_rlhf.components.reading import described, file_of
from lit_rlhf.components.runs import is_run, load_part, model_part
from lit_rlhf.components.saving import CARD, merged, model_card, new_folder, write_network
from lit_rlhf.errors import InputError
from lit_rlhf.types import Sequences

CLASSIFIER = "score.weight"
"""The head's name in the sequence classifiers of transformers."""
HEAD_FILE = "reward_head.safetensors"
"""The head of a model whose class has no such classifier."""


class RewardModel(nn.Module):
    """r(x, y) = w . h, a linear function of the state at the last completion token; 0 at the start for a fresh head.

    The head comes along from a run of ours that trained a reward model, from a folder written by `save`, and from a
    sequence classifier with one label. Its tokenizer is its own.

    Args:
        model: the trunk, trained too; a source or a language model.
        lr: learning rate of this part; the optimizer's own when None.
    """

    def __init__(self, model: LanguageModel | str, lr: float | None = None) -> None:
        super().__init__()
        self.model, self.lr = as_model(model), lr
        self.head: ScalarHead | None = None

    def build(self, frozen: bool = False) -> None:
        """Loads the weights, once.

        Raises:
            InputError: the source cannot be read, or is a classifier of several labels.
        """
        self.model.build(frozen, head=False)
        if self.head is None:
            head = ScalarHead(self.model.net, self.model.width, bias=False)
            saved = None if self.model.source is None else saved_head(self.model.source, self.model.origin.revision)
            if saved is not None:
                head.load_state_dict({"weight": saved})
            self.head = head.requires_grad_(not frozen)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.model.tokenizer

    def score(self, sequences: Sequences) -> Tensor:
        """[S] r(x, y) in nats."""
        return self.head(self.model.last_hidden(sequences))

    def save(self, folder: str | Path, card: str | None = None) -> None:
        """Writes trunk, tokenizer and head, by which `RewardModel(folder)` gives the same scores.

        Where transformers has a sequence classifier for the trunk the folder is one, and
        `AutoModelForSequenceClassification.from_pretrained(folder)` gives them too.

        Args:
            folder: a new one, or an empty one.
            card: the text of its README.md; what the model itself says when None.

        Raises:
            InputError: the folder has files.
        """
        folder = Path(folder)
        with new_folder(folder) as new:
            trunk, weight = merged(self.model.net), self.head.weight.detach()
            scorer = classifier(trunk, weight)
            if scorer is None:
                write_network(trunk, self.model, new)
                save_file({CLASSIFIER: weight.cpu().contiguous()}, new / HEAD_FILE)
            else:
                write_network(scorer, self.model, new, _padded_apart(self.model, scorer.config))
            (new / CARD).write_text(card or model_card(self.model, folder.name), encoding="utf-8")


def saved_head(source: str, revision: str | None = None) -> Tensor | None:
    """[1, D] the head that comes with a source; None where it has none.

    Raises:
        InputError: it scores several labels.
    """
    if is_run(source):
        return load_part(source, "reward.head.")["weight"] if model_part(source) == "reward" else None
    weight = _stored(described(source), revision)
    if weight is not None and len(weight) != 1:
        raise InputError(f"{source}: its classifier has {len(weight)} labels; a reward model has one")
    return weight


def classifier(trunk: Any, weight: Tensor) -> Any | None:
    """The sequence classifier of transformers with this trunk (shared, not copied) and head, or None."""
    from transformers import AutoModelForSequenceClassification

    configuration = copy.deepcopy(trunk.config)
    configuration.num_labels, configuration.id2label, configuration.label2id = 1, {0: "reward"}, {"reward": 0}
    try:
        with torch.device("meta"):
            scorer = AutoModelForSequenceClassification.from_config(configuration)
    except ValueError:
        return None
    head = getattr(scorer, "score", None)
    if not isinstance(head, nn.Linear) or head.bias is not None or type(scorer.base_model) is not type(trunk):
        return None
    setattr(scorer, scorer.base_model_prefix, trunk)
    head.weight = nn.Parameter(weight.clone())
    return scorer


def is_classifier(folder: str | Path) -> bool:
    """Whether a folder holds a sequence classifier of transformers."""
    found = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    return found[0].endswith("ForSequenceClassification")


def _stored(folder: str, revision: str | None) -> Tensor | None:
    """The head's weight in the safetensors files of a folder or hub repository."""
    index = file_of(folder, "model.safetensors.index.json", revision)
    shard = None if index is None else json.loads(index.read_text(encoding="utf-8"))["weight_map"].get(CLASSIFIER)
    for name in (HEAD_FILE, shard or "model.safetensors"):
        path = file_of(folder, name, revision)
        if path is not None:
            with safe_open(path, framework="pt") as file:
                if CLASSIFIER in file.keys():  # noqa: SIM118 (it is no mapping)
                    return file.get_tensor(CLASSIFIER)
    return None


def _padded_apart(model: LanguageModel, configuration: Any) -> Any | None:
    """A tokenizer whose pad token ends no text, told to the configuration too.

    A classifier of transformers finds the last token of a padded row by its pad id, and where that is also the id that
    ends completions it takes the state before it.
    """
    if not model.origin.has_tokenizer:
        configuration.pad_token_id = None
        return None
    tokenizer = copy.deepcopy(model.tokenizer)
    ends = {*model.stop_ids, tokenizer.eos_token_id}
    apart = [token for token in (tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token)
             if token is not None and tokenizer.convert_tokens_to_ids(token) not in ends]
    if apart:
        tokenizer.pad_token = apart[0]
    configuration.pad_token_id = tokenizer.pad_token_id if apart else None
    return tokenizer
