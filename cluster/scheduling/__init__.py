"""Which trial goes where next: pure decisions, and the simulator that plays them through."""
