"""The regimes, and one short file per algorithm that a paper would cite: defaults for its parts."""

from lit_rlhf.algorithms.a2c import A2C
from lit_rlhf.algorithms.aot import AOT
from lit_rlhf.algorithms.apo import APO
from lit_rlhf.algorithms.awr import AWR
from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.bco import BCO
from lit_rlhf.algorithms.bnpo import BNPO
from lit_rlhf.algorithms.cpo import CPO
from lit_rlhf.algorithms.dapo import DAPO
from lit_rlhf.algorithms.discopop import DiscoPOP
from lit_rlhf.algorithms.dpo import DPO
from lit_rlhf.algorithms.dpop import DPOP
from lit_rlhf.algorithms.dro import DRO
from lit_rlhf.algorithms.exo import EXO
from lit_rlhf.algorithms.f_dpo import FDPO
from lit_rlhf.algorithms.grpo import GRPO
from lit_rlhf.algorithms.gvpo import GVPO
from lit_rlhf.algorithms.info_nca import InfoNCA
from lit_rlhf.algorithms.ipo import IPO
from lit_rlhf.algorithms.kto import KTO
from lit_rlhf.algorithms.ld_dpo import LDDPO
from lit_rlhf.algorithms.nash_md import NashMD
from lit_rlhf.algorithms.nca import NCA
from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.online_dpo import OnlineDPO
from lit_rlhf.algorithms.orpo import ORPO
from lit_rlhf.algorithms.ppo import PPO
from lit_rlhf.algorithms.qrpo import QRPO
from lit_rlhf.algorithms.raft import RAFT
from lit_rlhf.algorithms.rebel import REBEL
from lit_rlhf.algorithms.reinforce import REINFORCE
from lit_rlhf.algorithms.reinforce_plus_plus import ReinforcePlusPlus
from lit_rlhf.algorithms.reward_model import BradleyTerry, RewardAlgorithm, RewardRegression
from lit_rlhf.algorithms.rloo import RLOO
from lit_rlhf.algorithms.rpo import RPO
from lit_rlhf.algorithms.sac import SAC
from lit_rlhf.algorithms.sft import SFT
from lit_rlhf.algorithms.simpo import SimPO
from lit_rlhf.algorithms.slic import SLiC
from lit_rlhf.algorithms.sppo import SPPO
from lit_rlhf.algorithms.una import UNA
from lit_rlhf.algorithms.wpo import WPO
from lit_rlhf.algorithms.xpo import XPO

__all__ = [
    "Algorithm",
    "A2C",
    "AOT",
    "APO",
    "AWR",
    "BCO",
    "BNPO",
    "BradleyTerry",
    "CPO",
    "DAPO",
    "DiscoPOP",
    "DPO",
    "DPOP",
    "DRO",
    "EXO",
    "FDPO",
    "GRPO",
    "GVPO",
    "InfoNCA",
    "IPO",
    "KTO",
    "LDDPO",
    "NashMD",
    "NCA",
    "OnlineAlgorithm",
    "OnlineDPO",
    "ORPO",
    "PPO",
    "QRPO",
    "RAFT",
    "REBEL",
    "REINFORCE",
    "ReinforcePlusPlus",
    "RewardAlgorithm",
    "RewardRegression",
    "RLOO",
    "RPO",
    "SAC",
    "SFT",
    "SimPO",
    "SLiC",
    "SPPO",
    "UNA",
    "WPO",
    "XPO",
]
