"""What every composition of configs/ must do in training, whichever it is: a new one is found here by itself."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch
import yaml
from conformance.heads import concrete
from conformance.training import CONFIGS, equal, fit, fresh, invariance, of_reference, weights
from lightning import Callback

import lit_rlhf
from lit_rlhf import algorithms
from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.reward_model import RewardAlgorithm
from lit_rlhf.callbacks import RunCheckpoint

invariance.build = fresh

every = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def classes() -> list[type[Algorithm]]:
    """Every named algorithm."""
    for module in pkgutil.iter_modules(algorithms.__path__, f"{algorithms.__name__}."):
        importlib.import_module(module.name)
    return [cls for cls in concrete(Algorithm) if cls not in (Algorithm, OnlineAlgorithm, RewardAlgorithm)]


@every
def test_smaller_micro_batches_change_nothing(path):
    """In float64 and with clipping at every update."""
    whole, small = (invariance.train(path, 2, 8, tokens) for tokens in (invariance.WHOLE, invariance.SMALL))
    assert whole.micro_batches == whole.updates < small.micro_batches
    logged, moved, place = invariance.difference(whole, small)
    assert max(logged, moved) <= invariance.TOLERANCE, place


class StopAfter(Callback):
    """Asks the Trainer to stop after so many items of those it has planned."""

    def __init__(self, items: int) -> None:
        self.items = items

    def on_train_batch_end(self, trainer, module, *args) -> None:
        trainer.should_stop = module.items_done >= self.items


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda path: path.stem)
def run(request):
    """Three items without validation."""
    return request.param, fit(request.param, 3)


def test_a_run_is_a_function_of_its_seed_wherever_it_is_stopped_and_validated(run, tmp_path):
    path, whole = run
    checkpoint = RunCheckpoint(tmp_path, every_n_updates=1)
    validated = {"limit_val_batches": 1.0, "val_check_interval": 1}
    stopped = fit(path, 3, callbacks=[StopAfter(2), checkpoint], **validated)
    assert stopped.algorithm.items_done == 2
    assert not equal(weights(stopped.algorithm), weights(whole.algorithm))
    resumed = fit(path, 3, ckpt_path=tmp_path / "last.ckpt", **validated)
    assert equal(weights(resumed.algorithm), weights(whole.algorithm))


def test_training_changes_all_that_is_trained_and_nothing_that_is_frozen(run):
    _, whole = run
    algorithm = whole.algorithm
    assert set(algorithm.state_dict()) == set(whole.start)
    assert {name.partition(".")[0] for name in whole.start} == {name.partition(".")[0] for name, _ in algorithm.parts}
    assert [name for name, weight in weights(algorithm).items() if torch.equal(weight, whole.start[name])] == []
    moves = algorithm.reference is not None and bool(algorithm.reference.state_dict())
    assert moves or all(map(torch.equal, of_reference(algorithm), whole.base))


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_an_algorithm_is_a_short_file_and_has_a_config(cls):
    together = [other for other in classes() if other.__module__ == cls.__module__]
    assert len(Path(inspect.getfile(cls)).read_text().splitlines()) <= 60 * len(together)
    named = {yaml.safe_load(config.read_text())["model"]["class_path"] for config in CONFIGS}
    assert f"{cls.__module__}.{cls.__qualname__}" in named


def test_nothing_branches_on_the_name_of_an_algorithm():
    names = {cls.__name__ for cls in classes()}
    spelt = {name.lower() for name in names} | {cls.__module__.rpartition(".")[2] for cls in classes()}
    found = []
    for path in Path(lit_rlhf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = list(ast.walk(node)) if isinstance(node, ast.Compare) or _asks_for_a_type(node) else []
            texts = {str(part.value).lower() for part in parts if isinstance(part, ast.Constant)}
            if texts & spelt or {part.id for part in parts if isinstance(part, ast.Name)} & names:
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


def _asks_for_a_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass")
