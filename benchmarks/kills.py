"""Kills whatever a study consists of, again and again, and counts what is lost: no trial, none twice, some time.

    python benchmarks/kills.py [--kills 20] [--seed 0] [--out docs/kills.md]

A study of short trials runs. 10 s after it has completed a step (after each kill: completed one again), SIGKILL goes to
a rank, the sampler, the fork server, the raylet or the driver, in an order drawn by the seed. Where that ends the
command, the same command is started again. After each kill the dataset is opened and held to what it had before.
Prints Markdown and, last, one JSON object; exit code 1 where a trial is lost or doubled.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measuring import machine, table  # noqa: E402
from study_watch import StudyWatch, targets_of  # noqa: E402

from tests.bench.studies import Running  # noqa: E402

TARGETS = ("rank", "sampler", "fork server", "raylet", "driver")
QUIET_S = 10.0
# Steps that end so soon after a kill were under way: ranks go on until they miss their raylet or driver.
LAST_GASP_NS = {target: 3 * 10**9 if target in ("raylet", "driver") else 10**9 for target in TARGETS}
# What the trials below take without kills, per repeat and on two devices: only to draw up a study that is long enough.
REPEAT_S = 12.0
# Between two kills the study runs for 10 s, and some more until its processes are back.
BETWEEN_KILLS_S = 18.0
SWEEP = """\
schema: 1
name: kills
seed: {seed}
defaults: {{vocab_size: 1000, hidden_size: 128, sequence_length: 64}}
grids:
  - {{num_layers: [1, 2], micro_batch_size: [1, 2]}}
  - {{strategy: fsdp, gpu_count: 2, num_layers: 1, micro_batch_size: 1}}
repeats: {repeats}
window: {{warmup_steps: 1, min_steps: 5, min_s: 2.0, max_s: 30, tolerance: 0}}
hold_out: {{by: case, fraction: 0.2}}
metering: {{meter: auto, cpu_w_per_core: 10.0}}
"""
EXPLAINED = """\
SIGKILL goes to a part of a running study, drawn by the seed, 10 s after the study last completed a step (after a kill:
completed one again). A killed rank, sampler or fork server costs its trials another attempt within the run; a killed
raylet (of the study's local Ray) or driver ends the command, which is started again at once. After each kill, and at
the end, the dataset is opened: no committed trial may be gone or there twice, and no row of a done trial may change.

The next step is the first of any trial that ends more than 1 s after the kill (3 s after a raylet's or driver's): what
ends sooner was under way. No time to the next step can be shorter; for ranks and samplers that is all it says."""


@dataclass
class Kill:
    """One kill, and what it cost: the time until the next step, and the steps that had to be run again."""

    target: str
    time_ns: int
    no_step_s: float
    again_s: float = 0.0
    restarted: bool = False


@dataclass
class Outcome:
    """What a study looks like after all kills."""

    planned: int
    done: int = 0
    failed: int = 0
    invalid: list[str] = field(default_factory=list)
    doubled: int = 0
    changed: int = 0
    wall_s: float = 0.0
    kills: list[Kill] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.planned - self.done


class Study:
    """The command, run again whenever a kill has ended it."""

    def __init__(self, home: Path, sweep: str) -> None:
        self.home, self.folder = home, home / "out"
        (home / "kills.yaml").write_text(sweep)
        self.watch = StudyWatch(self.folder)
        self._runs: list[Running] = []

    def running(self) -> Running:
        """The command, started where it does not run: at once, whatever is still dying of the last one."""
        if not self._runs or self._runs[-1].process.poll() is not None:
            self._runs.append(Running("run", "kills.yaml", "--into", "out", cwd=self.home))
        return self._runs[-1]

    def over(self) -> bool:
        return bool(self._runs) and self._runs[-1].process.poll() in (0, 3)

    def check_nothing_is_left(self) -> None:
        """All that came of all commands is gone, or goes within the minute that Ray's agents take."""
        deadline_s = time.monotonic() + 90
        while left := {pid: name for each in self._runs for pid, name in each.marked().items()}:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"left running 90 s after the end of the study: {left}")
            time.sleep(0.1)

    def finish(self, most_runs: int = 6) -> None:
        """To the study's own end: failed trials are tried again by another run."""
        for _ in range(most_runs):
            self.running().process.wait()
            if self.over():
                return
        raise SystemExit(f"not finished after {most_runs} more runs: {self._runs[-1].end().errors}")


def kill_any(study: Study, target: str, dice: random.Random) -> tuple[Running, int]:
    """Kills one of the target's processes: of which run, and when. Ranks, and runs, come and go meanwhile."""
    while True:
        running = study.running()
        found = running.wait_for(partial(targets_of, running, target), timeout_s=60)
        with contextlib.suppress(ProcessLookupError):
            kill_ns = time.monotonic_ns()
            os.kill(dice.choice(found), signal.SIGKILL)
            return running, kill_ns


def kill_one(study: Study, target: str, quiet_s: float, dice: random.Random) -> Kill:
    """Waits until the study has completed a step, and then `quiet_s`; kills; waits for the next step."""
    first_ns = study.watch.next_step_ns(study.running, after_ns=time.monotonic_ns())
    time.sleep(max(0.0, first_ns / 1e9 + quiet_s - time.monotonic()))
    study.watch.check()
    running, kill_ns = kill_any(study, target, dice)
    study.watch.check()
    next_ns = study.watch.next_step_ns(study.running, after_ns=kill_ns + LAST_GASP_NS[target])
    study.watch.check()
    return Kill(target, kill_ns, (next_ns - kill_ns) / 1e9, restarted=study.running() is not running)


def run_kills(home: Path, kills: int, seed: int, quiet_s: float, repeats: int) -> Outcome:
    """The study with its kills, to its end."""
    dice = random.Random(seed)
    study = Study(home, SWEEP.format(seed=seed, repeats=repeats))
    targets = draw(kills, dice)
    began_s = time.monotonic()
    done = []
    for number, target in enumerate(targets, start=1):
        if study.over():
            raise SystemExit(f"the study ended after {len(done)} kills: give it more --repeats")
        done.append(kill_one(study, target, quiet_s, dice))
        print(f"{number}/{kills} {target}: next step after {done[-1].no_step_s:.1f} s", file=sys.stderr, flush=True)
    study.finish()
    wall_s = time.monotonic() - began_s
    study.check_nothing_is_left()
    study.watch.check()
    for kill, again_s in zip(done, study.watch.again_s([each.time_ns for each in done]), strict=True):
        kill.again_s = again_s
    planned = {trial["trial_id"] for trial in json.loads((study.folder / "plan.json").read_text())["trials"]}
    return Outcome(len(planned), **study.watch.counts(planned), wall_s=wall_s, kills=done)


def draw(kills: int, dice: random.Random) -> list[str]:
    """Every target equally often, as far as it goes, in an order drawn."""
    targets = [*TARGETS * (kills // len(TARGETS)), *dice.sample(TARGETS, kills % len(TARGETS))]
    dice.shuffle(targets)
    return targets


def undisturbed(home: Path, seed: int) -> tuple[float, float]:
    """Of one repeat without kills: seconds from the command to the first trial's begin, and per trial after that."""
    study = Study(home, SWEEP.format(seed=seed, repeats=1))
    began_ns = time.monotonic_ns()
    first_ns = study.watch.next_step_ns(study.running, after_ns=began_ns)
    study.finish()
    planned = len(json.loads((study.folder / "plan.json").read_text())["trials"])
    return (first_ns - began_ns) / 1e9, (time.monotonic_ns() - first_ns) / 1e9 / planned


def markdown(outcome: Outcome, seed: int, where: str, expected_s: float | None) -> str:
    rows = []
    for target in (*TARGETS, "all"):
        kills = [kill for kill in outcome.kills if target in (kill.target, "all")]
        if kills:
            mean = [sum(getattr(kill, name) for kill in kills) / len(kills) for name in ("no_step_s", "again_s")]
            worst = max(kill.no_step_s for kill in kills)
            restarts = sum(kill.restarted for kill in kills)
            rows.append((target, len(kills), restarts, f"{mean[0]:.1f}", f"{worst:.1f}", f"{mean[1]:.1f}"))
    header = ("killed", "kills", "runs begun anew", "s to the next step, mean", "worst", "s of steps run again, mean")
    lost_s = sum(kill.no_step_s + kill.again_s for kill in outcome.kills)
    total = f"{outcome.wall_s:.0f} s in all, of which {lost_s:.0f} s went to the kills."
    if expected_s is not None:
        total += f" Undisturbed it would take {expected_s:.0f} s, from one repeat of the same trials without kills."
    end = f"{outcome.failed} failed and {len(outcome.invalid)} invalid at the end"
    return "\n\n".join(
        (
            "# A study under kills",
            EXPLAINED,
            f"`python benchmarks/kills.py --kills {len(outcome.kills)} --seed {seed}` on {where}.",
            f"{outcome.planned} trials planned, **{outcome.lost} lost, {outcome.doubled} doubled**; {end}; "
            f"{outcome.changed} rows of done trials changed. {total}",
            table(header, rows),
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet-s", type=float, default=QUIET_S, help="from a completed step to the next kill")
    parser.add_argument("--repeats", type=int, help="of the study's trials; enough for the kills if not given")
    parser.add_argument("--no-reference", action="store_true", help="without the undisturbed run")
    parser.add_argument("--out", type=Path, help="also write the Markdown there")
    options = parser.parse_args()
    repeats = options.repeats or round(options.kills * (BETWEEN_KILLS_S - QUIET_S + options.quiet_s) / REPEAT_S + 1)
    where, expected_s = machine(), None
    with tempfile.TemporaryDirectory() as home:
        outcome = run_kills(Path(home), options.kills, options.seed, options.quiet_s, repeats)
    if not options.no_reference:
        with tempfile.TemporaryDirectory() as home:
            start_s, trial_s = undisturbed(Path(home), options.seed)
        expected_s = start_s + trial_s * outcome.planned
    text = markdown(outcome, options.seed, where, expected_s)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(json.dumps({"seed": options.seed, "lost": outcome.lost, "expected_s": expected_s, **asdict(outcome)}))
    return int(bool(outcome.lost or outcome.doubled or outcome.changed))


if __name__ == "__main__":
    sys.exit(main())
