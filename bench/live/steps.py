"""The steps of a live training as they pass: when each began and ended, and what went through the model.

Hooks on the model see every micro-batch's shape; nothing they do waits for the device. Steps that follow each other
without an evaluation, a checkpoint or a pause between them are one piece; of all pieces the longest so far is kept,
and the one under way.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from joulelaw.bench.live.piece import Micro, Piece, StepRecord
from joulelaw.bench.training.rank_state import synchronize
from joulelaw.bench.training.step_clock import StepRow, step_clock

# Steps are taken in by so many: one by one each would find the processor's caches cold.
_TAKE_AT = 16
# The loss is read at every such step: a network that has come to infinity does not come back.
LOSS_EVERY = 8


class Spent:
    """Adds up the processor time that this thread spends in its `with` blocks, from one in `every` of them.

    To ask for the time costs as much as a block does. A step has 3 blocks or 4: 7 comes round to each of them.
    """

    def __init__(self, every: int = 7) -> None:
        self.cpu_s = 0.0
        self._every, self._count, self._begin_s = every, 0, 0.0

    def __enter__(self) -> None:
        self._count += 1
        self._begin_s = time.thread_time() if self._count % self._every == 0 else 0.0

    def __exit__(self, *_: object) -> None:
        if self._begin_s:
            end_s = time.thread_time()
            asking_s = time.thread_time() - end_s
            self.cpu_s += self._every * max(0.0, end_s - self._begin_s - asking_s)


@dataclass
class _Now:
    """What is known so far of the step under way."""

    steps: int = 0
    batch: int = 0
    length: int = 0
    padded: int = 0
    alike: bool = True
    loss: Any = None
    wait_ns: int = 0

    @property
    def micro(self) -> Micro:
        return Micro(self.steps, self.batch, self.length, self.padded, self.alike)


class StepWatch:
    """Watches `model`, the innermost module, which all strategies call once a micro-step, from `attach` to `detach`."""

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        self.spent = Spent()
        self._model, self._device = model, device
        self._clock: Any = step_clock(device)
        self._hooks: list[Any] = []
        self._now = _Now()
        self._ended_ns = 0
        self._issued: deque[tuple[bool, Micro, bool, int, bool]] = deque()
        self._interrupted, self._trains = True, False
        self._nothing = torch.zeros(())
        self.steps = 0
        self.first: Micro | None = None
        """Of the first step."""
        self.compute_dtype: torch.dtype | None = None
        """What the model's products are computed in, once the first has been."""
        self.best, self.piece = Piece(), Piece()
        self.began_ns = 0
        self.detached = False

    def attach(self, *, compiled: bool = False) -> None:
        """Hooks the model, and its first product for one call: autocast and FSDP decide the type only there.

        What is `compiled` is not to be traced into the hooks.
        """
        model: Any = self._model
        before, after = self._hook_before, self._hook_after
        if compiled:
            outside: Any = torch.compiler.disable
            before, after = outside(before), outside(after)
        self._hooks = [
            model.register_forward_pre_hook(before, with_kwargs=True),
            model.register_forward_hook(after),
        ]
        product = next((each for each in model.modules() if _is_product(each)), None)
        if product is not None:
            self._hooks.append(product.register_forward_hook(self._see_type))

    def detach(self) -> None:
        """Steps are no longer watched; what was seen stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self.detached = [], True

    def interrupt(self) -> None:
        """Something else than a step is about to take time, or has."""
        self._interrupted = True

    def step_begins(self) -> bool:
        """After an interruption, waits for the device to be idle, once, so that the next piece begins on its clock;
        whether it has."""
        if not self._interrupted or self.detached:
            return False
        synchronize(self._device)
        self._take()
        self._next_piece()
        start_ns = self._clock.start()
        self.began_ns = self.began_ns or start_ns
        self._ended_ns = time.monotonic_ns()
        self._interrupted = False
        return True

    def step_ends(self, skipped: bool = False) -> None:
        """All work of an optimizer step has been asked of the device."""
        self.steps += 1
        if self.detached:
            return
        now, self._now = self._now, _Now()
        self.first = self.first or now.micro
        loss = self._nothing if now.loss is None else now.loss / now.steps if now.steps > 1 else now.loss
        self._clock.end(self.steps - 1, not self._interrupted, loss)
        self._issued.append((self._interrupted, now.micro, skipped, now.wait_ns, now.loss is not None))
        self._interrupted = False
        if len(self._issued) >= _TAKE_AT:
            self._take()
        self._ended_ns = time.monotonic_ns()

    def finish(self) -> None:
        """Waits for the device, so that every step that was asked for is over."""
        if not self.detached:
            synchronize(self._device)
            self._take()
            self.detach()

    @property
    def kept(self) -> Piece:
        """The longest piece."""
        return self.piece if len(self.piece) >= len(self.best) else self.best

    @property
    def spans(self) -> list[tuple[int, int | None]]:
        """Times of the pieces that are kept; the last may be still under way."""
        if self.detached:
            return [(self.kept.begin_ns, self.kept.end_ns)] if len(self.kept) else []
        ended: list[tuple[int, int | None]] = [(self.best.begin_ns, self.best.end_ns)] if len(self.best) else []
        return [*ended, (self.piece.begin_ns, None)] if len(self.piece) else ended

    def _next_piece(self) -> None:
        if len(self.piece) > len(self.best):
            self.best = self.piece
        self.piece = Piece()

    def _take(self) -> None:
        rows: list[StepRow] = self._clock.finished()
        for row in rows:
            interrupted, micro, skipped, wait_ns, told = self._issued.popleft()
            if interrupted:  # what it was interrupted by lies within its time
                self._next_piece()
                continue
            loss = row.loss if told else None
            self.piece.add(StepRecord(row.step, row.begin_ns, row.end_ns, loss, micro, skipped, wait_ns))

    def _hook_before(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        with self.spent:
            self._before(module, args, kwargs)

    def _hook_after(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        with self.spent:
            self._after(module, args, output)

    def _before(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._trains = module.training and torch.is_grad_enabled()
        if not self._trains:
            self._interrupted = True
            return
        now = self._now
        if now.steps == 0:
            now.wait_ns = time.monotonic_ns() - self._ended_ns
        ids = kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        ids = args[0] if ids is None and args else ids
        batch, length = (ids.shape[0], ids.shape[1]) if ids is not None and ids.dim() > 1 else (0, 0)
        now.alike = now.alike and (now.steps == 0 or (now.batch, now.length) == (batch, length))
        now.steps, now.batch, now.length = now.steps + 1, max(now.batch, batch), max(now.length, length)
        now.padded += batch * length

    def _after(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if not self._trains or self.steps % LOSS_EVERY:
            return
        loss = getattr(output, "loss", None)
        if loss is not None:
            now, loss = self._now, loss.detach()
            now.loss = loss if now.loss is None else now.loss + loss

    def _see_type(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            self.compute_dtype = output.dtype
        self._hooks.pop().remove()


def _is_product(module: torch.nn.Module) -> bool:
    """A linear layer; GPT-2's are called Conv1D."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and type(module).__name__ in ("Linear", "Conv1D")
