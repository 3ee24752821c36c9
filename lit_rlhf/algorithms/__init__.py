"""The regime, and one short file per algorithm that a paper would cite: defaults for `loss` and `reference`."""

from lit_rlhf.algorithms.aot import AOT
from lit_rlhf.algorithms.apo import APO
from lit_rlhf.algorithms.awr import AWR
from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.bco import BCO
from lit_rlhf.algorithms.cpo import CPO
from lit_rlhf.algorithms.discopop import DiscoPOP
from lit_rlhf.algorithms.dpo import DPO
from lit_rlhf.algorithms.dpop import DPOP
from lit_rlhf.algorithms.dro import DRO
from lit_rlhf.algorithms.exo import EXO
from lit_rlhf.algorithms.f_dpo import FDPO
from lit_rlhf.algorithms.gvpo import GVPO
from lit_rlhf.algorithms.info_nca import InfoNCA
from lit_rlhf.algorithms.ipo import IPO
from lit_rlhf.algorithms.kto import KTO
from lit_rlhf.algorithms.ld_dpo import LDDPO
from lit_rlhf.algorithms.nca import NCA
from lit_rlhf.algorithms.orpo import ORPO
from lit_rlhf.algorithms.qrpo import QRPO
from lit_rlhf.algorithms.reward_model import BradleyTerry, RewardAlgorithm, RewardRegression
from lit_rlhf.algorithms.rpo import RPO
from lit_rlhf.algorithms.sft import SFT
from lit_rlhf.algorithms.simpo import SimPO
from lit_rlhf.algorithms.slic import SLiC
from lit_rlhf.algorithms.sppo import SPPO
from lit_rlhf.algorithms.una import UNA
from lit_rlhf.algorithms.wpo import WPO

__all__ = [
    "Algorithm",
    "AOT",
    "APO",
    "AWR",
    "BCO",
    "BradleyTerry",
    "CPO",
    "DiscoPOP",
    "DPO",
    "DPOP",
    "DRO",
    "EXO",
    "FDPO",
    "GVPO",
    "InfoNCA",
    "IPO",
    "KTO",
    "LDDPO",
    "NCA",
    "ORPO",
    "QRPO",
    "RewardAlgorithm",
    "RewardRegression",
    "RPO",
    "SFT",
    "SimPO",
    "SLiC",
    "SPPO",
    "UNA",
    "WPO",
]
