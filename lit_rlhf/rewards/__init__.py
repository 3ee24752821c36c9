"""Rewards and judges: numbers for responses, and preferences between them."""
