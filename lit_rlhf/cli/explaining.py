"""`fit --model.loss.help PRA`: jsonargparse's own explanation of a class and its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lit_rlhf.cli import quiet
from lit_rlhf.cli.failures import refused
from lit_rlhf.config import compose, load_parts


class _Explained(LightningCLI):
    """Parses words that make jsonargparse print help and exit."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        with refused():
            parser.parse_args(args)


def explain(command: str, arguments: Sequence[str], asked: str, quickstart: Path) -> None:
    """Prints what is known of a key's class.

    Args:
        command: that was given.
        arguments: without flags.
        asked: the word that ends in `.help`, with or without `=CLASS`.
        quickstart: the configuration where none is named.

    Raises:
        InputError: no such class or key.
    """
    quiet.install()
    place = arguments.index(asked)
    key, equals, name = asked.removeprefix("--").partition("=")
    rest = list(arguments[place + 1 :])
    if not equals and rest and not rest[0].startswith("--"):
        name = rest.pop(0)
    key = key.removesuffix(".help")
    if key == "trainer":
        return _trainer()
    load_parts()
    tree = compose([*arguments[:place], *rest], default=quickstart).tree
    classes = dict(_classes(tree, key))
    name = name or classes.get(key, "")
    above = [f"--{place}={path}" for place, path in classes.items() if place != key]
    _Explained(
        LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
        auto_configure_optimizers=False, load_from_checkpoint_support=False, parser_kwargs={"exit_on_error": False},
        args=[command, *above, f"--{key}.help" + (f"={name}" if name else "")],
    )


def _classes(tree: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    """The class of every key on the way to this one, and its own, where the configuration names one."""
    node: Any = tree
    names = key.split(".")
    for depth, name in enumerate(names, 1):
        node = node.get("init_args", node).get(name) if isinstance(node, Mapping) else None
        named = node.get("class_path") if isinstance(node, Mapping) else node
        if isinstance(named, str):
            yield ".".join(names[:depth]), named


def _trainer() -> None:
    parser = LightningArgumentParser(prog="trainer", description="--trainer.NAME=VALUE", add_help=False)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.print_help()
