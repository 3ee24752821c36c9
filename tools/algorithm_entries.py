"""What the docstrings and the opening comments say of the algorithms: one entry per file of configs/."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

CONFIGS = Path(__file__).parents[1] / "configs"
FAMILIES = {"PRA": 0, "RDA": 1, "RA": 2, "BDA": 3, "regulariser": 4}
SIGNALS = {
    "demonstration": "demonstrations",
    "preference": "pairs",
    "gap": "reward differences",
    "reward": "rewards",
    "label": "labels",
    "prompt": "prompts",
}


@dataclass(frozen=True)
class Description:
    """What a docstring or an opening comment says of an algorithm."""

    sentence: str
    """Family, form and what is particular."""
    equation: str
    target: str
    paper: str

    @property
    def form(self) -> str:
        """prior, posterior, or a dash."""
        found = re.search(r"(prior|posterior) form", self.sentence)
        return found[1] if found else "-"

    @property
    def link(self) -> str:
        """The paper as a link."""
        found = re.search(r'"(.+?)" by .*?\((https?://[^)]+)\)', self.paper)
        return f"[{found[1]}]({found[2]})" if found else ""


@dataclass(frozen=True)
class Entry:
    """A configuration, and what it composes."""

    path: Path
    algorithm: Any

    @property
    def header(self) -> list[str]:
        """The opening comment without the command: a sentence, and its equation, target and paper if it has them."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line[2:] for line in lines[1:] if line.startswith("# "))
        return [" ".join(part.split()) for part in re.split(r"\n(?=L = |Target: |See )", text)]

    @property
    def name(self) -> str:
        return self.header[0].partition(": ")[0]

    @property
    def own(self) -> bool:
        """Whether the class is described by its docstring; a variant by the comment of its file."""
        return not any(line.startswith("Target: ") for line in self.header)

    @property
    def description(self) -> Description:
        if self.own:
            return described(inspect.getdoc(type(self.algorithm)))
        sentence, *told = self.header
        if not told[0].startswith("L = "):
            first = next(iter(heads(self.algorithm.loss)))
            told = [inspect.getdoc(type(first)).split("\n\n")[0], *told]
        return described("\n".join([sentence.partition(": ")[2], *told]))

    @property
    def tree(self) -> Mapping[str, Any]:
        return OmegaConf.to_container(OmegaConf.load(self.path))["model"]["init_args"]

    @property
    def family(self) -> str:
        return self.algorithm.loss.family

    @property
    def signal(self) -> str:
        from lit_rlhf.data.collation import signal_of

        return SIGNALS[signal_of(self.algorithm.needs)]


def described(text: str) -> Description:
    """The parts of a text: a sentence, an equation with its remarks, `Target:`, `See`."""
    found = {"sentence": "", "equation": "", "target": "", "paper": ""}
    part = "sentence"
    starts = {"L = ": "equation", "Target: ": "target", "See ": "paper", "The default ": "default"}
    for line in text.splitlines():
        part = next((name for start, name in starts.items() if line.startswith(start)), part)
        if line and part in found:
            found[part] += line + ("\n" if part == "equation" else " ")
    sentence = found["sentence"].partition(";")[0].strip().rstrip(".")
    target = found["target"].removeprefix("Target: ").strip()
    return Description(sentence, found["equation"].strip(), target, found["paper"].strip())


def heads(loss: Any) -> Iterator[Any]:
    """The heads of a sum, those that approximate a reward first."""
    from lit_rlhf.algorithms.validation import innermost

    yield from sorted((head for head, _ in innermost(loss)), key=lambda head: head.family == "regulariser")


def entries() -> list[Entry]:
    """Every configuration that names an algorithm, by family and form."""
    from lit_rlhf.cli import build

    found = [Entry(path, build(["--config", str(path)])[0]) for path in sorted(CONFIGS.glob("*.yaml"))]
    return sorted(found, key=lambda entry: (FAMILIES[entry.family], entry.description.form, entry.path.stem))
