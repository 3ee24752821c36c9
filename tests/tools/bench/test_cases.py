"""The table of losses, without TRL: every loss works on our side, and says what it is compared with."""

from pathlib import Path

import pytest
import torch
from bigram import VOCABULARY, Bigram, make_rows
from cases import CASES
from differences import Difference, table, wrong
from our_losses import TAU, Mismatched, mismatched_reward

ROWS = make_rows([(3, 5, 2), (2, 3, 4), (1, 8, 3)])
# loss_type of TRL 1.16.0's DPOTrainer.
DPO_LOSSES = {
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
}  # fmt: skip


def plain_logp(model, prompt, completion):
    before = torch.tensor([prompt[-1], *completion[:-1]])
    return model.weight[before].log_softmax(-1)[range(len(completion)), completion].sum()


def margins(policy, reference):
    return torch.stack([
        plain_logp(policy, p, c) - plain_logp(reference, p, c) - plain_logp(policy, p, r) + plain_logp(reference, p, r)
        for p, c, r in ROWS
    ])  # fmt: skip


def test_every_loss_of_the_dpo_trainer_is_there_once_as_it_is():
    asked = [name for case in CASES if case.trainer == "DPO" for name in case.options["loss_type"]]
    assert set(asked) == DPO_LOSSES
    assert {case.trainer for case in CASES} == {"DPO", "KTO", "CPO", "ORPO"}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_side_has_a_value_and_a_gradient(case):
    policy, reference = Bigram(0, case.dtype), Bigram(1, case.dtype)
    loss = case.our_loss(ROWS, policy, reference)
    assert loss.dtype == case.dtype and loss.ndim == 0
    gradient = torch.autograd.grad(loss, policy.weight)[0]
    assert torch.isfinite(loss) and torch.isfinite(gradient).all() and gradient.abs().max() > 0
    assert reference.weight.grad is None


def test_dpo_is_what_it_is():
    policy, reference = Bigram(0), Bigram(1)
    expected = -torch.nn.functional.logsigmoid(TAU * margins(policy, reference)).mean()
    torch.testing.assert_close(CASES[0].our_loss(ROWS, policy, reference), expected, rtol=1e-14, atol=0)


def test_the_anchor_of_mismatched_pairs():
    policy, reference = Bigram(0), Bigram(1)
    labelled = [(p, completion) for p, c, r in ROWS for completion in (c, r)]
    crossed = [
        plain_logp(policy, prompt, labelled[index - 1][1]) - plain_logp(reference, prompt, labelled[index - 1][1])
        for index, (prompt, _) in enumerate(labelled)
    ]
    expected = max(0.0, float(TAU * torch.stack(crossed).mean().detach()))
    assert mismatched_reward(ROWS, policy, reference) == pytest.approx(expected, rel=1e-12)
    (case,) = (case for case in CASES if isinstance(getattr(case.head, "anchor", None), Mismatched))
    assert case.anchored(ROWS, policy, reference).anchor.z == mismatched_reward(ROWS, policy, reference)


def test_a_bigram_answers_as_a_model_with_the_head_of_trl_does():
    model = Bigram(0)
    ids = torch.tensor([[1, 2, 3, VOCABULARY - 1]])
    labels = torch.tensor([[-100, -100, 3, VOCABULARY - 1]])
    scores = model(input_ids=ids, labels=labels)
    logps = model.weight.log_softmax(-1)
    torch.testing.assert_close(scores.log_probs[0, 1:], torch.stack([logps[2, 3], logps[3, VOCABULARY - 1]]))
    assert scores.log_probs[0, 0] == 0
    torch.testing.assert_close(scores.log_sum_sq_probs[0, 1], logps[2].exp().square().sum().log())
    torch.testing.assert_close(scores.entropy[0, 2], -(logps[3].exp() * logps[3]).sum())
    assert scores.logits.shape == (1, 4, VOCABULARY)


def test_the_table_numbers_its_notes_and_what_is_said_is_checked():
    plain, noted = CASES[0], next(case for case in CASES if case.note)
    same, other = Difference(1e-16, 1e-16, 1e-16), Difference(1e-2, 2e-1, 3e-1)
    lines = table([(plain, same), (noted, other)]).splitlines()
    assert lines[2] == "| DPO | DPOTrainer sigmoid | 1e-16 | 1e-16 | 1e-16 |"
    assert lines[3].startswith(f"| {noted.name} (1) |") and lines[-1] == f"1. {noted.note}"
    assert wrong([(plain, same), (noted, other)]) == []
    assert [sentence.split(":")[0] for sentence in wrong([(plain, other), (noted, same)])] == [plain.name, noted.name]


def test_the_page_has_every_loss_and_every_difference():
    page = (Path(__file__).parents[3] / "tools" / "bench" / "README.md").read_text()
    shown = table([(case, Difference(0.0, 0.0, 0.0)) for case in CASES]).splitlines()
    rows = [line.rsplit(" | ", 3)[0] for line in shown if line.startswith("| ")]
    assert all(f"\n{row} | " in page for row in rows)
    assert all(f"\n{line}\n" in page for line in shown if line[:1].isdigit())
