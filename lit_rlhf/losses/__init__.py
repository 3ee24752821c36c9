"""Loss heads, one module per family."""
