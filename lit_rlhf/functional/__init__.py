"""Pure functions of tensors: torch only."""
