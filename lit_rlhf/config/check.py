"""The second stage, after the heavy imports: the tree against the signatures of what it names."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from lit_rlhf.config.compose import Composed

PARTS = ("losses", "algorithms", "components", "data", "callbacks")


def load_parts() -> None:
    """Imports every module of the package that holds parts, so that classes can be named without their modules."""
    for folder in PARTS:
        package = importlib.import_module(f"lit_rlhf.{folder}")
        for module in pkgutil.iter_modules(package.__path__, f"lit_rlhf.{folder}."):
            importlib.import_module(module.name)


def check(composed: Composed, root: Any = None) -> None:
    """Refuses what cannot be built."""
    load_parts()
