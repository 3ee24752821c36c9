"""Imports point one way."""

import ast
from pathlib import Path

import pytest

import lit_rlhf

ROOT = Path(lit_rlhf.__file__).parent
PARTS = {"errors", "types", "ranks", "functional", "losses", "components", "data", "credit", "sampling", "rewards"}
BELOW = {
    "errors": set(),
    "types": {"errors"},
    "ranks": set(),
    "functional": {"errors", "types"},
    "losses": {"errors", "types", "functional"},
    "components": {"errors", "types", "functional"},
    "data": {"errors", "types", "functional"},
    "credit": {"errors", "types", "ranks", "functional", "losses"},
    "sampling": {"errors", "types", "functional", "components", "data"},
    "rewards": {"errors", "types", "ranks", "functional", "components", "data"},
    "algorithms": PARTS,
    "theory": PARTS | {"algorithms"},
    "callbacks": PARTS | {"algorithms", "theory"},
    "commands": PARTS | {"algorithms", "theory", "callbacks", "cli", "config"},
    "config": {"errors"},
    "cli": PARTS | {"algorithms", "theory", "callbacks", "commands", "config"},
}
FILES = sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_lies_below_it(path):
    own = layer(path)
    if own in ("__init__", "__main__"):
        return
    used = {name.split(".")[1] for name in imported(path) if name.startswith("lit_rlhf.")} - {own, "__version__"}
    allowed = next((below for name, below in BELOW.items() if own == name), None)
    assert allowed is not None, f"{own} has no place in the order of layers"
    assert used <= allowed, f"{path} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("path", [path for path in FILES if layer(path) == "functional"], ids=lambda path: path.name)
def test_pure_functions_import_nothing_but_torch_and_the_standard_library(path):
    import sys

    roots = {name.split(".")[0] for name in imported(path)}
    assert roots <= {"torch", "lit_rlhf", "__future__", *sys.stdlib_module_names}
