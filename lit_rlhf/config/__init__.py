"""Files and overrides -> one checked tree, every mistake at once. The rules are on this folder's page."""

from lit_rlhf.config.check import check, load_parts
from lit_rlhf.config.compose import Composed, compose
from lit_rlhf.config.mistakes import ConfigErrors

__all__ = ["Composed", "ConfigErrors", "check", "compose", "load_parts"]
