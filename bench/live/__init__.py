"""Somebody's own training, forecast, metered and kept: a callback for the Hugging Face Trainer, a `with` for loops."""
