"""Where algorithms end, in closed form or as a fixed point: `rewards` of what reads rewards, `preferences` of what
reads labels, `margins` of what has a form for one pair alone, and `saturating` of what puts all mass on some responses.

Laws [n] are probabilities. What is Boltzmann says so; the others equal no pi^tau in general. README.md of
`lit_rlhf/theory` has the table of algorithms.
"""
