"""`python -m joulelaw.bench.gpu_check`: everything, as far as the time goes; run again, it goes on."""

import argparse
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from joulelaw import InputError
from joulelaw.bench.console import ExitCode, last_line, say
from joulelaw.bench.gpu_check.card import Card, find_card
from joulelaw.bench.gpu_check.machine import Machine, PartError
from joulelaw.bench.gpu_check.parts import Part, parts
from joulelaw.bench.gpu_check.store import Store
from joulelaw.bench.gpu_check.studies import FITTING, make_law, run_studies
from joulelaw.bench.gpu_check.summary import write_summary
from joulelaw.cluster.failures import ClusterError

STEPS = ("equal", "meter", "peaks", "steps", "sweep")
# To load the libraries, and to write the summary.
START_S = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 all done, 1 something failed, 2 bad input, 130 the time was over or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m joulelaw.bench.gpu_check", description=__doc__)
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run, which measures nothing"
    )
    parser.add_argument("--into", type=Path, metavar="DIR", help="where results go; results/<device>/gpu_check else")
    parser.add_argument(
        "--minutes", type=float, metavar="M", default=math.inf, help="begin nothing that may last longer"
    )
    parser.add_argument("--only", choices=STEPS, nargs="+", default=STEPS, help="these steps")
    parser.add_argument("--again", action="store_true", help="parts that failed twice, too")
    given = parser.parse_args(arguments)
    until_s = time.monotonic() + 60 * given.minutes
    try:
        card = find_card(given.device)
        store = Store(card.folder(given.into), card)
        store.open()
        if given.again:
            store.forget_failures()
        return _check(store, card, given.only, lambda: until_s - time.monotonic())
    except InputError as error:
        return _ended(ExitCode.BAD_INPUT, str(error))
    except ClusterError as error:
        return _ended(ExitCode.FAILED, str(error))
    except KeyboardInterrupt:
        return _ended(ExitCode.INTERRUPTED, "stopped; what was measured is kept")


def _ended(code: ExitCode, error: str) -> int:
    say(error)
    last_line("gpu_check", code, error=error)
    return code


def _check(store: Store, card: Card, steps: Sequence[str], left_s: Callable[[], float]) -> int:
    say(f"{'A dry run, no figure means anything: ' if card.dry else ''}{card.device.model}, results in {store.folder}")
    wanted = [part for part in parts(card.precisions, dry=card.dry) if part.step in steps]
    left = _measure(store, card, wanted, left_s)
    complete = not left
    if "sweep" in steps:
        complete = run_studies(store, card, left_s) and make_law(store, left_s) and complete
    report = write_summary(store, card)
    found = [(step, name, part) for step in (*STEPS, FITTING) for name, part in store.parts(step).items()]
    failed = [f"{step}: {name}" for step, name, part in found if "error" in part]
    code = ExitCode.INTERRUPTED if not complete else ExitCode.FAILED if failed else ExitCode.DONE
    if not complete:
        say("Not over: the same command goes on.")
    values = {"device": card.device.model, "dry_run": card.dry, "folder": store.folder, "report": report}
    last_line("gpu_check", code, **values, complete=complete, failed=failed)
    return code


def _measure(store: Store, card: Card, wanted: Sequence[Part], left_s: Callable[[], float]) -> list[Part]:
    """Runs the parts that are not over, each where the time is enough; returns those for which it was not."""
    waiting = deque(part for part in wanted if not store.is_over(part.step, part.name))
    left: list[Part] = []
    if not waiting or left_s() < START_S:
        return list(waiting)
    with Machine(card) as machine:
        while waiting:
            part = waiting.popleft()
            if left_s() < part.seconds + START_S:
                left.append(part)
                continue
            say(f"{part.step}: {part.name}")
            try:
                store.put(part.step, part.name, machine.run(part, left_s()))
            except PartError as problem:
                say(f"  failed: {problem}")
                store.fail(part.step, part.name, str(problem))
                if not store.is_over(part.step, part.name):
                    waiting.append(part)  # once more, after the others
    return left


if __name__ == "__main__":
    sys.exit(main())
