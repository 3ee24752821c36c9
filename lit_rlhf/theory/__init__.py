"""Where losses lead: exact targets, what the data identify of them, how fast; see README.md here. float64 throughout."""
