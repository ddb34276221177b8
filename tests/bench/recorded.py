"""The collectives of a trial's step as three independent observers saw them, for tests of what is counted."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from joulelaw.bench.spec.configuration import TrialSpec
from joulelaw.bench.strategies import zero
from joulelaw.bench.training.rank import form_group, make_epoch, prepare
from joulelaw.bench.training.rank_state import claim_device
from joulelaw.cluster.ranks.rank import RankContext

STEP = 2  # DDP cuts its buckets anew after the first step, and ZeRO-3 knows the order of modules after it


class Collectives(TorchDispatchMode):
    """Adds up the calls of collectives inside, and the bytes that rings of their groups send of their tensors."""

    FACTORS: ClassVar = {
        "allreduce_": 2,
        "all_reduce": 2,
        "_allgather_base_": 1,
        "all_gather_into_tensor": 1,
        "_reduce_scatter_base_": 1,
        "reduce_scatter_tensor": 1,
    }
    NO_COLLECTIVES: ClassVar = {"wait_tensor", "_wrap_tensor_autograd"}

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.sent_bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(each, DTensor) for each in types):
            return NotImplemented  # its collectives come once it is taken apart
        if func.namespace in ("c10d", "_c10d_functional"):
            name = func._schema.name.split("::")[1]
            if name not in self.NO_COLLECTIVES:
                leaves = tree_leaves((args, kwargs or {}))
                # Of input and output the larger is the whole; an unknown collective raises.
                whole = max(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))
                ranks = group_size(leaves)
                self.calls += 1
                self.sent_bytes += self.FACTORS[name] * (ranks - 1) / ranks * whole
        return func(*args, **(kwargs or {}))


def group_size(arguments: list[Any]) -> int:
    """The ranks of the group that a collective was called on: an object, or the name of one."""
    for each in arguments:
        if isinstance(each, torch.ScriptObject) and "ProcessGroup" in str(each._type()):
            return dist.ProcessGroup.unbox(each).size()
    names = [each for each in arguments if isinstance(each, str)]
    return dist.distributed_c10d._resolve_process_group(names[-1]).size()


class Observers:
    """All three. CommDebugMode loses its place among the modules over a whole step, so each part has its own."""

    def __init__(self) -> None:
        self.collectives = Collectives()
        self.debug_calls = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        with CommDebugMode() as debug, self.collectives:
            yield
        self.debug_calls += debug.get_total_counts()


def record_step(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: emits what a rank's third step sent. ``payload["zero"]`` changes DeepSpeed's ``zero_optimization``."""
    spec = TrialSpec.from_dict(payload["trial"])
    configure = zero.deepspeed_config
    zero.deepspeed_config = lambda setup: with_zero(configure(setup), payload["zero"])
    device = claim_device(context)
    group = form_group(spec, context, device)
    stepper, _ = prepare(spec, group, device, Path())
    epoch = make_epoch(spec, group, device, Path())
    log = deepspeed_log() if spec.configuration.strategy.startswith("zero") else None
    observers = Observers()
    for step in range(STEP + 1):
        if log is not None:
            log.reset_data()
        batches = epoch.step(step)
        for index, batch in enumerate(batches):
            with observers.watching() if step == STEP else ExitStack():
                stepper.micro_step(batch, last=index == len(batches) - 1)
        with observers.watching() if step == STEP else ExitStack():
            stepper.optimizer_step()
    seen = observers.collectives
    logged = [] if log is None else logged_calls(log)
    found = {"calls": seen.calls, "sent_bytes": seen.sent_bytes, "debug_calls": observers.debug_calls}
    context.emit({"kind": "recorded", **found, "logged": logged})
    group.close()


def with_zero(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {**config, "zero_optimization": {**config["zero_optimization"], **changes}}


def deepspeed_log() -> Any:
    """DeepSpeed's own log of its communication, switched on."""
    import deepspeed.comm

    deepspeed.comm.configure(enabled=True, prof_all=True, verbose=False)
    return deepspeed.comm.comm.comms_logger


def logged_calls(log: Any) -> list[list[Any]]:
    """Operation, its logged bytes, and how often."""
    found: Counter[tuple[str, int]] = Counter()
    for operation, sizes in log.get_raw_data().items():
        for size, (count, *_) in sizes.items():
            found[operation, size] += count
    return [[operation, size, count] for (operation, size), count in found.items()]
