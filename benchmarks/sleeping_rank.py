"""A rank of a trial whose steps wait instead of computing: everything else is a real rank's, from fork to last event.

Eight devices of a benchmark share the cores of one small machine. Steps that compute would be as long as the others
leave them cores; these take 50 ms for each sequence of a micro-batch, however many ranks there are.
"""

import time
from typing import Any

SEQUENCE_S = 0.05


class Sleeper:
    """A stepper without a model, whose losses are all the same tensor."""

    def __init__(self, step_s: float, loss: Any) -> None:
        self._step_s, self._loss = step_s, loss

    def micro_step(self, batch: object, last: bool) -> Any:
        time.sleep(self._step_s)
        return self._loss

    def optimizer_step(self) -> None:
        pass

    def skipped_steps(self) -> int:
        return 0


def run_rank(payload: dict[str, Any], context: Any) -> None:
    """As `trial.run_rank`."""
    import torch

    from joulelaw.bench.training import rank as trial

    step_s = SEQUENCE_S * payload["trial"]["configuration"]["micro_batch_size"]
    trial.prepare = lambda *_: (Sleeper(step_s, torch.ones(())), 0)
    trial.run_rank(payload, context)
