"""Models as folders: Hugging Face format, written whole or not at all, each with a card."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_rlhf.components.reading import BUILT_IN, quiet
from lit_rlhf.errors import InputError

if TYPE_CHECKING:
    from lit_rlhf.components.language_model import LanguageModel

CARD = "README.md"
ORIGIN = "origin.json"


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` at the end of the block; an error leaves nothing behind.

    Raises:
        InputError: `target` is a file, or a folder with files.
    """
    target = Path(target)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(f"{target}: exists already; name a new folder, or remove this one")
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def save_description(model: LanguageModel, folder: Path) -> None:
    """Configuration, tokenizer and generation settings, no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    model.base.config.save_pretrained(folder)
    _write_dropouts(model, folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    write_tokenizer(model, folder)
    if hasattr(model.net, "peft_config"):
        model.net.peft_config["default"].save_pretrained(folder)
    (folder / ORIGIN).write_text(json.dumps({"source": model.source}), encoding="utf-8")


def origin_of(description: Path) -> str | None:
    """The source that a described model started from; None for random weights."""
    file = description / ORIGIN
    return json.loads(file.read_text(encoding="utf-8"))["source"] if file.is_file() else None


def save_model(model: LanguageModel, folder: Path, card: str | None = None) -> None:
    """See `LanguageModel.save`."""
    with new_folder(folder) as new:
        write_network(merged(model.net), model, new)
        (new / CARD).write_text(card or model_card(model, folder.name), encoding="utf-8")


def write_network(net: Any, model: LanguageModel, folder: Path, tokenizer: Any | None = None) -> None:
    """Weights of `net` with the generation settings and the tokenizer of `model`."""
    with quiet():
        net.save_pretrained(folder)
    _write_dropouts(model, folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    write_tokenizer(model, folder, tokenizer)


def savable_generation(net: Any) -> Any | None:
    """The network's generation settings, made such that transformers agrees to write them; None where it has none.

    A repository may come with settings that it refuses to save, such as a temperature without sampling.
    """
    if not net.can_generate():
        return None
    for mend in ({}, {"do_sample": True}):
        with contextlib.suppress(ValueError):
            net.generation_config.update(**mend)
            net.generation_config.validate(strict=True)
            return net.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    ids = {name: getattr(net.generation_config, name) for name in names}
    net.generation_config = type(net.generation_config)(**ids)
    return net.generation_config


def _write_dropouts(model: LanguageModel, folder: Path) -> None:
    """They are 0 in the network, and the configuration is the model's own."""
    file = folder / "config.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(said | model.dropouts, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_tokenizer(model: LanguageModel, folder: Path, tokenizer: Any | None = None) -> None:
    """The given tokenizer, or the model's own where it has one."""
    if tokenizer is not None or model.origin.has_tokenizer:
        (tokenizer or model.tokenizer).save_pretrained(folder)


def merged(net: Any) -> Any:
    """The network without adapters: W + scale B A in fresh tensors, the original left as it is."""
    if not hasattr(net, "peft_config"):
        return net
    with quiet():
        return copy.deepcopy(net).merge_and_unload()


def model_card(model: LanguageModel, title: str) -> str:
    """The card of a model that is saved without a run."""
    adapters = model.lora is not None
    facts = {
        "class": type(model.base).__name__,
        "parameters": f"{sum(weight.numel() for weight in model.net.parameters()):,}",
        "started from": model.source or "random weights",
        "trained": f"adapters of rank {model.lora.rank}, merged" if adapters else "all weights",
    }
    return card(title, facts, base=model.source)


def card(
    title: str, facts: Mapping[str, str], sections: Mapping[str, str] | None = None, base: str | None = None
) -> str:
    """The README.md of a saved model.

    Args:
        title: its heading.
        facts: shown as a list, with the versions that wrote it.
        sections: heading -> markdown.
        base: what it started from; named in the front matter where it is a hub name.
    """
    local = base is None or base in BUILT_IN or base.startswith((".", "runs/")) or Path(base).exists()
    hub = not local and base.count("/") == 1
    front = ["---", "library_name: transformers", "tags: [lit_rlhf]", *([f"base_model: {base}"] if hub else []), "---"]
    packages = ("lit_rlhf", "torch", "transformers")
    versions = ", ".join(f"{name} {version}" for name in packages if (version := _version(name)))
    lines = [f"- {name}: {value}" for name, value in {**facts, "written by": versions}.items()]
    parts = [f"\n## {heading}\n\n{text.strip()}" for heading, text in (sections or {}).items()]
    return "\n".join([*front, "", f"# {title}", "", *lines, *parts]) + "\n"


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None
