"""Samplers: completions of prompts, with exact log-probs of the law that drew them."""
