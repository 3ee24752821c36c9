"""What an evaluation takes of a configuration: data, reward, sampler and judge, and the baseline it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lit_rlhf.commands.evaluation.asking import Asked
from lit_rlhf.components.runs import find_checkpoint, is_run, model_part, split_run
from lit_rlhf.config import Composed, check, compose
from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.nodes import Merger, Node
from lit_rlhf.config.resolving import resolved
from lit_rlhf.config.versions import Aliases
from lit_rlhf.errors import InputError

SAMPLER = "lit_rlhf.sampling.native.NativeSampler"
FILES = "lit_rlhf.data.modules.Files"
OF_MODEL = ("reward", "sampler")
"""What lies below `model` in a configuration of training, and at the top of an evaluation's."""
KEPT = (
    "as_messages", "max_length", "max_prompt_length", "overflow", "tolerate", "tokenizer", "chat_template",
    "template_arguments", "cache_dir", "batch_size", "micro_batch_tokens", "num_workers",
)
"""Arguments of `Files` that concern any prompts, not those of its own rows."""


@dataclass(frozen=True)
class Parts:
    """What is made of the configuration; no weight is read yet."""

    data: Any
    reward: Any
    sampler: Any
    judge: Any | None

    @property
    def judging(self) -> list[Any]:
        """The reward, and the judge where there is one."""
        return [self.reward] if self.judge is None else [self.reward, self.judge]


def composition(asked: Asked) -> Composed:
    """The configuration that is named, or that of the first run among the policies, with the overrides.

    Raises:
        InputError: there is none, or it is wrong; or a run does not exist.
    """
    for policy, key in asked.named.items():
        refuse_no_policy(policy, key)
    runs = (split_run(policy)[0] / "config.yaml" for policy in asked.policies if is_run(policy))
    default = next((file for file in runs if file.is_file()), None)
    if not asked.configured and default is None and asked.prompts is None:
        raise InputError(
            f"--config: none is given, and none of {', '.join(asked.policies)} is a run with a configuration; name one "
            "for its data, reward and sampler, or give --prompts and --reward"
        )
    return compose(asked.configuration, default)


def refuse_no_policy(source: str, key: str) -> None:
    """Looks at runs alone: folders and hub names are read later.

    Args:
        source: of a policy.
        key: the argument that names it.

    Raises:
        InputError: a run that does not exist, has no checkpoint, or trained a reward model.
    """
    if not is_run(source):
        return
    try:
        find_checkpoint(source)
        part = model_part(source)
    except InputError as error:
        raise InputError(f"{key} {error}") from error
    if part != "actor":
        raise InputError(f"{key} {source}: the run trained a reward model, expected a policy; --reward may name it")


def start_of(composed: Composed) -> str | None:
    """What the actor of a configuration starts from; None for random weights and where there is no actor."""
    node: Node | None = composed.root
    for name in ("model", "actor", "model"):
        node = node and node.child(name)
    if node is not None and isinstance(node.value, dict):
        node = None if node.child("config") and node.child("config").value else node.child("source")
    if node is None or not isinstance(node.value, str):
        return None
    root = Node({**composed.root.value, "start": node}, node.place)
    return resolved(root, Mistakes())["start"]


def narrowed(composed: Composed, prompts: str | None = None) -> Composed:
    """The parts of an evaluation alone: what is given at the top lies over what is there below `model`.

    Args:
        composed: files and overrides.
        prompts: rows that take the place of the data's own.

    Raises:
        InputError: there is no reward or no data.
    """
    mistakes = Mistakes()
    merger, root = Merger(mistakes, Aliases()), dict(composed.root.value)
    model = root.get("model") or Node({}, "the command line")
    for name in OF_MODEL:
        below, given = model.child(name), root.get(name)
        below = below if below is not None and below.value is not None else None
        if name == "sampler" and below is None:
            below = Node({"class_path": Node(SAMPLER, "the default")}, "the default")
        found = merger.over(below, given, name) if given is not None else below
        root |= {} if found is None else {name: found}
    if prompts is not None:
        root["data"] = _of_file(root.get("data"), prompts)
    _refuse_missing(composed, root)
    tree = resolved(Node(root, "the command line"), mistakes)
    mistakes.refuse()
    tree = {name: tree[name] for name in ("data", *OF_MODEL, "judge") if tree.get(name) is not None}
    return replace(composed, tree=tree, root=Node(root, "the command line"))


def made(composed: Composed) -> Parts:
    """Builds the parts of a narrowed configuration.

    Raises:
        InputError: a class or an argument is wrong.
    """
    from jsonargparse import ArgumentParser
    from lightning.pytorch import LightningDataModule

    from lit_rlhf.cli.failures import located, refused
    from lit_rlhf.rewards.base import Judge, Reward
    from lit_rlhf.sampling.base import Sampler

    kinds = {"data": LightningDataModule, "reward": Reward, "sampler": Sampler, "judge": Judge}
    check(composed, kinds)
    parser = ArgumentParser(exit_on_error=False)
    for name in composed.tree:
        parser.add_subclass_arguments(kinds[name], name, required=True, fail_untyped=False)
    with located(composed), refused():
        found = parser.instantiate_classes(parser.parse_object(_as_classes(composed.tree)))
    return Parts(found["data"], found["reward"], found["sampler"], found.get("judge"))


def _as_classes(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A class by its name alone is one without arguments."""
    return {name: {"class_path": value} if isinstance(value, str) else value for name, value in tree.items()}


def _of_file(data: Node | None, prompts: str) -> Node:
    """`Files` with these rows; lengths, template and tokenizer are those of the configured `Files`, if it is one."""
    place = f"--prompts={prompts}"
    arguments: dict[str, Node] = {}
    kind = None if data is None else data.child("class_path") or data
    if kind is not None and isinstance(kind.value, str) and kind.value.rpartition(".")[2] == "Files":
        arguments = {name: node for name in KEPT if (node := data.child(name)) is not None}
    rows = Node([Node(prompts, place)], place)  # jsonargparse would read an empty file in the place of its name
    arguments |= {"train": rows, "test": rows}
    return Node({"class_path": Node(FILES, place), "init_args": Node(arguments, place)}, place)


def _refuse_missing(composed: Composed, root: Mapping[str, Node]) -> None:
    files = " + ".join(map(str, composed.files)) or "the command line"
    if root.get("data") is None or root["data"].value is None:
        raise InputError(f"--prompts: none are given, and {files} has no data; name a file, or a --config with data")
    if root.get("reward") is None or root["reward"].value is None:
        raise InputError(
            f"--reward: none is given, and {files} has no model.reward; name one, as in --reward=ModelReward "
            "--reward.model=RUN, or --reward=ReviewReward for the built-in task"
        )


def default_name(asked: Asked) -> str:
    """What the folder of an evaluation is called after: the first policy."""
    folder, kind = split_run(asked.policies[0])
    return "-".join(part for part in (Path(folder).name, kind) if part)
