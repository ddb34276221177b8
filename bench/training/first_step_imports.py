"""Imports what DeepSpeed and torch would otherwise import during a trial's first step.

The names are theirs and may move between versions; then a trial starts slower, and that is all.
"""

from contextlib import suppress
from importlib import import_module

LAZY = (
    "deepspeed.comm.mori",
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.ops.triton_ops.autoep_fused_token_ops",
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # torch's inductor comes with it: 1.3 s
    "torch._subclasses.schema_check_mode",
    "torch.profiler._cupti_monitor",
)

for _name in LAZY:
    with suppress(ImportError):
        import_module(_name)
