"""One device, no communication: the baseline that the other strategies are measured against."""

from joulelaw import InputError
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.optimizer import adamw
from joulelaw.bench.strategies.torch_stepper import TorchStepper


def prepare(setup: Setup) -> TorchStepper:
    """The model as it is; bf16 and fp16 by autocast over fp32 weights.

    Raises:
        InputError: more than one rank.
    """
    if setup.world_size != 1:
        raise InputError(f"strategy single on {setup.world_size} devices", where="gpu_count", remedy="1")
    model = setup.training.module
    return TorchStepper(setup, model, adamw(model.parameters(), setup.configuration))
