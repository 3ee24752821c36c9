import pytest

from lit_rlhf.credit.composition import refuse_disorder, refuse_double_kl, refuse_unread
from lit_rlhf.credit.groups import GroupRelative, LeaveOneOut
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.credit.normalising import Baseline, Whiten
from lit_rlhf.credit.preferences import WinRate
from lit_rlhf.credit.temporal import GAE, RewardToGo
from lit_rlhf.credit.truncation import DropConstantGroups, MaskTruncated, PenaliseTruncated
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import AgainstBehaviour, Prior
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.policy import ClippedSurrogate, Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.losses.regularisers import NLL, EntropyBonus, KLPenalty, ValueLoss

PPO = ClippedSurrogate() + 0.5 * ValueLoss() + 0.01 * EntropyBonus()


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (ClippedSurrogate() + 0.05 * KLPenalty(), "KLPenalty"), (0.5 * (PPO + KLPenalty("k3")), "KLPenalty"),
        (RDA(), "RDA"), (GroupVariance(), "GroupVariance"), (Reinforce() + 0.1 * PRA(), "PRA"), (RA(), "RA"),
        (PolicyGradient(0.1), "PolicyGradient"),
    ],
    ids=str,
)
def test_a_kl_in_the_reward_and_in_the_loss_is_refused(head, named):
    with pytest.raises(InputError, match=rf"^model.credit.1: the KL to the reference is in the reward \(KLInReward\) and in the loss \({named}\).*keep one of them"):
        refuse_double_kl([MaskTruncated(), KLInReward(), LeaveOneOut()], head)
    refuse_double_kl([MaskTruncated(), LeaveOneOut()], head)


@pytest.mark.parametrize(
    "head",
    [PPO, Reinforce() + NLL(), Reinforce() + Prior(PRA()), Reinforce() + AgainstBehaviour(RDA()), PolicyGradient(0.0)],
    ids=str,
)
def test_a_loss_without_the_reference_leaves_the_kl_to_the_reward(head):
    refuse_double_kl([KLInReward(), GAE()], head)


@pytest.mark.parametrize(
    ("credit", "sentence"),
    [
        ([Whiten(), GAE()], "model.credit.0: Whiten changes advantages, and no step before it makes them"),
        ([Baseline()], "model.credit.0: Baseline changes advantages"),
        ([GAE(), KLInReward()], "model.credit.1: KLInReward changes the reward after GAE has made advantages of it"),
        ([LeaveOneOut(), Whiten(), PenaliseTruncated()], "model.credit.2: PenaliseTruncated changes the reward after LeaveOneOut"),
        ([RewardToGo(), WinRate()], "model.credit.1: WinRate changes the reward after RewardToGo"),
        ([RewardToGo(), GroupRelative()], "model.credit.1: GroupRelative makes the advantages that RewardToGo has made already"),
    ],
)
def test_steps_that_undo_or_miss_each_other_are_refused(credit, sentence):
    with pytest.raises(InputError, match=sentence):
        refuse_disorder(credit)


def test_steps_in_an_order_that_makes_sense_are_not():
    refuse_disorder([])
    refuse_disorder([MaskTruncated(), PenaliseTruncated(), WinRate(), DropConstantGroups(), KLInReward(), GAE(), Whiten()])
    refuse_disorder([RewardToGo(), Baseline(), Whiten(), MaskTruncated()])


def test_a_loss_that_reads_what_no_step_makes_or_nothing_of_what_they_make_is_refused():
    with pytest.raises(InputError, match="model.credit: ValueLoss reads returns, and no step makes them"):
        refuse_unread([LeaveOneOut()], PPO)
    with pytest.raises(InputError, match=r"model.credit.1: KLInReward works on advantages, and RDA reads none"):
        refuse_unread([MaskTruncated(), KLInReward()], RDA())
    refuse_unread([KLInReward(), GAE()], PPO)
    refuse_unread([MaskTruncated(), WinRate(), DropConstantGroups()], RDA())
