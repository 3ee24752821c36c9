"""Our measuring process in small: it trains by DPO, as a plain computation does, whatever the reference is kept in."""

import copy
import math

import pytest
import step_ours
import torch
import workload as workload_module
from measured import Run
from transformers import LlamaForCausalLM
from workload import LEARNING_RATE, TAU, make_workload

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def logps(net, rows):
    """[B] of the responses of (prompt, response), all of one length."""
    ids, start = torch.tensor([prompt + response for prompt, response in rows]), len(rows[0][0])
    values = net(input_ids=ids, use_cache=False).logits[:, start - 1 : -1].log_softmax(-1)
    return values.gather(-1, ids[:, start:, None]).sum((1, 2))


def plain_dpo(folder, items):
    """Loss and gradient norm of every step, with dense logits and torch's optimizer."""
    net = LlamaForCausalLM.from_pretrained(folder)
    base = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    losses, norms = [], []
    for step, item in enumerate(items):
        chosen, rejected = [(p, c) for p, c, _ in item], [(p, r) for p, _, r in item]
        margin = logps(net, chosen) - logps(base, chosen) - logps(net, rejected) + logps(base, rejected)
        loss = -torch.nn.functional.logsigmoid(TAU * margin).mean()
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / len(items))
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    workload = make_workload("4,3", warmup=1, steps=1)
    workload.save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload_module, "MODEL", workload_module.MODEL | SMALL)
        workload_module.write_start(folder)
    return folder, workload, plain_dpo(folder, workload.items)


@pytest.mark.parametrize("variant", step_ours.VARIANTS)
def test_steps_are_those_of_a_plain_computation(start, tmp_path, variant):
    folder, workload, (losses, norms) = start
    step_ours.main(folder, tmp_path / "run.json", variant)
    run = Run.load(tmp_path / "run.json")
    assert run.losses[0] == pytest.approx(math.log(2), rel=1e-5)
    assert run.losses == pytest.approx(losses, rel=1e-4)
    assert run.grad_norms == pytest.approx(norms, rel=1e-4)
    assert len(run.seconds) == workload.steps
    assert run.peak_mib >= run.base_mib > 0
