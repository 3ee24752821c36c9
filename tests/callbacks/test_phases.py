from lit_rlhf.callbacks import phases
from lit_rlhf.callbacks.phases import PHASES, Phases


def test_every_second_belongs_to_one_phase(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 6.0, 10.0, 11.0])
    monkeypatch.setattr(phases.time, "perf_counter", lambda: next(clock))
    watch = Phases()
    assert watch.enter("forward_backward") == "data"
    assert watch.enter("optimizer") == "forward_backward"
    assert watch.enter("data") == "optimizer"
    assert watch.take() == dict.fromkeys(PHASES, 0.0) | {"data": 2.0 + 4.0, "forward_backward": 3.0, "optimizer": 1.0}
    assert watch.take() == dict.fromkeys(PHASES, 0.0) | {"data": 1.0}
