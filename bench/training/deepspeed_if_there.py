"""Imports DeepSpeed where it is installed, for fork servers: without it all strategies but its own run."""

from joulelaw.bench.installed import has

if has("deepspeed"):
    import deepspeed  # noqa: F401
