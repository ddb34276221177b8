"""What a node's fork server imports, and under which environment, before it forks the first rank.

Importing torch, Transformers and DeepSpeed takes 5 s; a rank forked after it is at its first step within 0.1 to
0.4 s. Nothing here runs a kernel, starts a thread or touches CUDA: a process with threads cannot fork safely.
"""

from collections.abc import Iterable

from joulelaw.bench.spec.configuration import Configuration

PRELOAD = (
    "joulelaw.bench.training.accelerator",  # before DeepSpeed, which looks for it while it is imported
    "joulelaw.bench.training.deepspeed_if_there",
    "joulelaw.bench.training.rank",
    "joulelaw.bench.study.probe",
    "joulelaw.bench.operations.rank",
    "joulelaw.bench.workloads.bert",
    "joulelaw.bench.workloads.gpt2",
    "joulelaw.bench.workloads.lstm",
    "joulelaw.bench.workloads.gru",
    "joulelaw.bench.strategies.single",
    "joulelaw.bench.strategies.ddp",
    "joulelaw.bench.strategies.fsdp",
    "joulelaw.bench.strategies.tp",
    "joulelaw.bench.strategies.fsdp_tp",
    "joulelaw.bench.strategies.zero",
    "joulelaw.bench.training.first_step_imports",
)
_OF_DEEPSPEED = (
    "joulelaw.bench.training.deepspeed_if_there",
    "joulelaw.bench.strategies.zero",
    "joulelaw.bench.training.first_step_imports",
)
_OF_TRANSFORMERS = ("joulelaw.bench.workloads.bert", "joulelaw.bench.workloads.gpt2")


def preload_of(asked: Iterable[Configuration]) -> tuple[str, ...]:
    """What the ranks of these configurations need: all but DeepSpeed and the inductor, 1.2 s of a core, where no
    strategy is its own and nothing is compiled, and Transformers, 2.3 s, where all models are torch's."""
    wanted = list(asked)
    needs_deepspeed = any(each.strategy.startswith("zero") or each.torch_compile for each in wanted)
    needs_transformers = any(f"joulelaw.bench.workloads.{each.model_family}" in _OF_TRANSFORMERS for each in wanted)
    unused = {*(() if needs_deepspeed else _OF_DEEPSPEED), *(() if needs_transformers else _OF_TRANSFORMERS)}
    return tuple(module for module in PRELOAD if module not in unused)


# The libraries' own settings, on top of the fork server's.
# Huge pages: a tensor's memory that comes fresh from the kernel costs a quarter of the page faults.
# Inductor's processes to compile with would outlive a rank.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "1"}
