"""The losses that TRL 1.16.0 and this project have in common: our heads, TRL's options, and where they part."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from our_losses import EXACT, ROUNDED, TAU, Case, Mismatched

from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.divergences import AlphaDivergence, ForwardKL, JensenShannon
from lit_rlhf.losses.links import EXO, SPPO, APODown, APOZero, DiscoPOP, Hinge, Logistic, NCAPair, Squared
from lit_rlhf.losses.pra import PRA, LengthDesensitised, PolicyWeighted
from lit_rlhf.losses.regularisers import NLL, OddsRatio
from lit_rlhf.losses.transport import AOT
from lit_rlhf.losses.unpaired import Anchor, ClassMeans, CrossEntropy, Origin, UnpairedPRA

EPS = 0.1
SMOOTHING = (
    "TRL reads label_smoothing for exo_pair, robust and the two AOT; with sigmoid it ignores it without a word. CPO, "
    "smoothed, checks ours."
)
BCO = "Ours subtracts the mean of the class means, the paper's anchor; TRL has none."
KTO = (
    "Ours takes the mean of the step's own rewards as the anchor, at no further forward pass; TRL runs policy and "
    "reference once more on every prompt with another's response. The next row has TRL's anchor on both sides."
)
ORPO = "TRL's likelihood term counts the prompt's tokens too; ours those of the chosen response."


def dpo(name: str, loss_type: str, head: LossHead, note: str = "", tolerance: float = EXACT, **options: Any) -> Case:
    return Case(name, head, "DPO", {"beta": TAU, "loss_type": [loss_type], **options}, note=note, tolerance=tolerance)


def cpo(name: str, loss_type: str, head: LossHead, **options: Any) -> Case:
    return Case(name, head, "CPO", {"beta": TAU, "loss_type": loss_type, "cpo_alpha": 0.0, **options})


def kto(name: str, loss_type: str, head: LossHead, note: str = "") -> Case:
    options = {"beta": TAU, "loss_type": loss_type, "desirable_weight": 1.2, "undesirable_weight": 0.7}
    return Case(name, head, "KTO", options, note=note, signal="label")


def unpaired(anchor: Anchor | None) -> UnpairedPRA:
    return UnpairedPRA(TAU, anchor=anchor, desirable=1.2, undesirable=0.7)


def with_link(link: Any, **options: Any) -> PRA:
    return PRA(TAU, link=link, **options)


ODDS = Case("ORPO", NLL() + 0.2 * OddsRatio(), "ORPO", {"beta": 0.2}, note=ORPO, tolerance=ROUNDED)
CASES = (
    dpo("DPO", "sigmoid", PRA(TAU)),
    dpo("cDPO", "sigmoid", PRA(TAU, label_smoothing=EPS), SMOOTHING, label_smoothing=EPS),
    dpo("robust DPO", "robust", PRA(TAU, flip_rate=EPS), label_smoothing=EPS),
    dpo("length-normalised DPO", "sigmoid_norm", PRA(TAU, reduce="mean")),
    dpo("SLiC", "hinge", with_link(Hinge())),
    dpo("IPO", "ipo", with_link(Squared(), reduce="mean")),
    dpo("EXO", "exo_pair", with_link(EXO(), label_smoothing=EPS), tolerance=ROUNDED, label_smoothing=EPS),
    dpo("NCA", "nca_pair", with_link(NCAPair())),
    dpo("BCO", "bco_pair", UnpairedPRA(TAU, CrossEntropy(), ClassMeans()), BCO),
    dpo("BCO, anchor 0", "bco_pair", UnpairedPRA(TAU, CrossEntropy(), Origin())),
    dpo("SPPO", "sppo_hard", with_link(SPPO())),
    dpo("AOT", "aot", AOT(TAU, label_smoothing=EPS), label_smoothing=EPS),
    dpo("AOT, unpaired", "aot_unpaired", AOT(TAU, paired=False, label_smoothing=EPS), label_smoothing=EPS),
    dpo("APO-zero", "apo_zero", with_link(APOZero())),
    dpo("APO-down", "apo_down", with_link(APODown())),
    dpo("DiscoPOP", "discopop", with_link(DiscoPOP(0.05)), discopop_tau=0.05),
    dpo("NLL of the chosen", "sft", NLL()),
    dpo("f-DPO, forward KL", "sigmoid", PRA(TAU, divergence=ForwardKL()), f_divergence_type="forward_kl"),
    dpo("f-DPO, Jensen-Shannon", "sigmoid", PRA(TAU, divergence=JensenShannon()), f_divergence_type="js_divergence"),
    dataclasses.replace(
        dpo(
            "f-DPO, alpha", "sigmoid", PRA(TAU, divergence=AlphaDivergence(0.7)),
            f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.3,
        ),
        dtype=torch.float32, tolerance=1e-5,  # TRL knows no float64 here
    ),
    dpo("LD-DPO", "sigmoid", LengthDesensitised(TAU, alpha=0.4), tolerance=ROUNDED, ld_alpha=0.4),
    dpo("WPO", "sigmoid", PolicyWeighted(PRA(TAU)), use_weighting=True),
    Case(
        "MPO", 0.8 * PRA(TAU) + 0.2 * UnpairedPRA(TAU, CrossEntropy(), Origin()) + NLL(), "DPO",
        {"beta": TAU, "loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
    ),
    kto("KTO", "kto", unpaired(None), KTO),
    kto("KTO, anchor of TRL", "kto", unpaired(Mismatched(0.0))),
    kto("APO-zero, unpaired", "apo_zero_unpaired", unpaired(Origin())),
    cpo("CPO", "sigmoid", PRA(TAU) + 0.5 * NLL(), cpo_alpha=0.5),
    cpo("CPO, smoothed", "sigmoid", PRA(TAU, label_smoothing=EPS), label_smoothing=EPS),
    cpo("CPO, hinge", "hinge", with_link(Hinge())),
    cpo("CPO, IPO", "ipo", with_link(Squared(), reduce="mean")),
    cpo("SimPO", "simpo", with_link(Logistic(0.6), reduce="mean"), simpo_gamma=0.6),
    cpo(
        "AlphaPO", "simpo", with_link(Logistic(0.6), reduce="mean", divergence=AlphaDivergence(0.4)),
        simpo_gamma=0.6, alpha=0.4,
    ),
    ODDS,
    dataclasses.replace(ODDS, name="ORPO, odds alone", head=0.2 * OddsRatio(), less={"beta": 0.0}, note=""),
)  # fmt: skip
