"""The page of the theory: its example runs, and what it names is there."""

import importlib
import re
from pathlib import Path

import lit_rlhf.theory

README = Path(lit_rlhf.theory.__file__).with_name("README.md").read_text(encoding="utf-8")


def test_the_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_every_form_of_the_table_is_a_function():
    parts = dict.fromkeys(("rewards", "preferences", "margins", "saturating"), "closed_forms.")
    places = {"boltzmann": ""} | parts
    named = re.findall(r"`(\w+)\.(\w+)`", README)
    forms = [(module, name) for module, name in named if module in places and name != "py"]
    assert len(forms) > 20
    for module, name in forms:
        assert hasattr(importlib.import_module(f"lit_rlhf.theory.{places[module]}{module}"), name), (module, name)


def test_equations_are_numbered_in_order():
    numbers = [int(number) for number in re.findall(r"\((\d+)\)$", README, re.MULTILINE)]
    assert numbers == list(range(1, 17))


def test_every_algorithm_has_a_row():
    import lit_rlhf.algorithms as algorithms
    from lit_rlhf.algorithms import Algorithm, OnlineAlgorithm
    from lit_rlhf.algorithms.reward_model import RewardAlgorithm

    kinds = [each for each in vars(algorithms).values() if isinstance(each, type) and issubclass(each, Algorithm)]
    named = [kind for kind in kinds if kind not in (Algorithm, OnlineAlgorithm, RewardAlgorithm)]
    assert [kind.__name__ for kind in named if f"`{kind.__name__}`" not in README] == []
