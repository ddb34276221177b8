"""The operations of a micro-step, each timed alone."""
