import pytest
import torch

from lit_rlhf.callbacks.precision import choose_precision


@pytest.mark.parametrize(("native", "name"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_that_emulates_bf16_gets_fp32(monkeypatch, native, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    chosen = choose_precision("auto")
    assert chosen.name == name and "Card" in chosen.reason
    assert choose_precision("cpu").name == "32-true"


def test_the_cpu_computes_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision().name == "32-true"
