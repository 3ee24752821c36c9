import torch

from lit_rlhf.algorithms.recording import Recorder, named
from lit_rlhf.losses.base import Metric, Term


def test_means_are_weighted_by_true_counts_whatever_the_micro_batches():
    recorder = Recorder()
    for total, weight in ((6.0, 3.0), (1.0, 1.0)):
        recorder.add_metrics([Metric("margin", torch.tensor(total), torch.tensor(weight))])
    assert recorder.flush() == {"margin": (6 + 1) / (3 + 1)}
    assert recorder.flush() == {}


def test_a_metric_without_weight_is_left_out():
    recorder = Recorder()
    recorder.add("nothing", 0.0, 0.0)
    recorder.add("something", 2.0, 4.0)
    assert recorder.flush() == {"something": 0.5}


def test_gradients_are_not_kept():
    value = torch.tensor(1.0, requires_grad=True)
    recorder = Recorder()
    recorder.add("x", value * 2)
    assert recorder.flush() == {"x": 2.0}


def test_terms_of_one_name_are_told_apart():
    terms = [Term("pra", torch.tensor(float(k)), "pair") for k in range(3)] + [Term("nll", torch.tensor(9.0), "token")]
    assert [name for name, _ in named(terms)] == ["pra", "pra_2", "pra_3", "nll"]


def test_a_mean_square_is_logged_as_a_standard_deviation():
    recorder = Recorder()
    for value in (1.0, 4.0):
        recorder.add("gain", value)
        recorder.add("gain_square", value**2)
    assert recorder.flush() == {"gain": 2.5, "gain_std": 1.5}
