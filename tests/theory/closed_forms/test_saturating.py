import pytest
import torch
from theory.given import MU, P, RHO, WORLD

from lit_rlhf.errors import InputError
from lit_rlhf.theory.closed_forms import saturating

WORTH = torch.tensor([0.3, -0.1, 0.05, 0.0, 0.2, -0.4], dtype=torch.float64)


@pytest.mark.parametrize("tau", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("anchor", [0.0, 0.7])
def test_no_move_of_mass_gains(tau, anchor):
    law = saturating.saturated(WORTH, tau, WORLD.log_base, anchor)
    assert float(law.sum()) == pytest.approx(1, abs=1e-12) and bool((law[WORTH <= 0] == 0).all())

    def gain(pi: torch.Tensor) -> float:
        values = WORTH * torch.sigmoid(tau * (pi.clamp_min(1e-300).log() - WORLD.log_base) - anchor)
        return float(values[pi > 0].sum())

    for giver in (WORTH > 0).nonzero()[:, 0]:
        for taker in range(len(WORTH)):
            moved = law.clone()
            moved[giver] -= 1e-4
            moved[taker] += 1e-4
            assert gain(moved) <= gain(law) + 1e-15


def test_worth_is_weighed_by_data_and_by_both_lambdas():
    label = torch.tensor([0.0, 0.5, 1.0, 0.2, 0.8, 0.6], dtype=torch.float64)
    found = saturating.kto_worth(MU, label, 2.0, 1.0)
    assert torch.equal(found > 0, label > 1 / 3)
    assert float(found[2] / MU[2]) == 2 and float(found[0] / MU[0]) == -1
    assert float(saturating.apo_zero_worth(RHO, P).sum()) == pytest.approx(0, abs=1e-15)


def test_what_has_no_limit_or_several_is_refused():
    with pytest.raises(InputError, match="tau"):
        saturating.saturated(WORTH, 1.5)
    with pytest.raises(InputError, match="positive worth"):
        saturating.saturated(-WORTH.abs(), 0.5)
