"""From rollouts to advantages and returns: steps that compose."""
