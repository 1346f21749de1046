"""Which tier: what can run, what it costs, what a budget allows, and when to change."""
