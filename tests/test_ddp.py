"""Two processes give what one gives: a sample of configs (`tools/invariance.py` takes all), and one that does not."""

import math

import pytest
import torch
from conformance.training import ROOT, tool

invariance = tool("invariance")
CONFIGS = ROOT / "configs"
WRONG = '''
import dataclasses
from dataclasses import dataclass
from lit_rlhf.losses.pra import PRA

@dataclass(frozen=True)
class MeanOfMeans(PRA):
    def __call__(self, evidence, batch):
        output = super().__call__(evidence, batch)
        (term,) = output.terms
        return dataclasses.replace(output, terms=(dataclasses.replace(term, total=term.total / len(batch.chosen)),))
'''


@pytest.mark.parametrize("name", ["dpo", "kto", "ra", "bradley_terry", "ppo_ptx"])
def test_two_processes_and_uneven_micro_batches_equal_one(name):
    same, row = invariance.compare(CONFIGS / f"{name}.yaml")
    assert same, row


def test_one_other_token_is_a_difference():
    one, other = (invariance.Outcome({}, {"w": torch.ones(1)}, 1, 1, {(0, 0): [1, token]}) for token in (3, 4))
    assert invariance.difference(one, one) == (0.0, 0.0, "")
    assert invariance.difference(one, other)[::2] == (math.inf, "sampled tokens")


def test_a_mean_over_a_micro_batch_is_found_out(tmp_path, monkeypatch):
    (tmp_path / "mean_of_means.py").write_text(WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "wrong.yaml"
    right = (CONFIGS / "dpo.yaml").read_text()
    config.write_text(right.replace("lit_rlhf.losses.pra.PRA", "mean_of_means.MeanOfMeans"))
    same, row = invariance.compare(config)
    assert not same and "DIFFERENT" in row and "train/loss" in row
