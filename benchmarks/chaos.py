"""Kills parts of a study on several nodes, again and again, and counts what is lost: no trial, none twice, some time.

    python benchmarks/chaos.py [--kills 20] [--seed 0] [--quick] [--out docs/kills.md]

Three Ray nodes with six logical devices of two models run a study of 60 trials. 10 s after it has completed a step
(after each kill: completed one again), SIGKILL goes to a rank, a sampler, a raylet, a whole node or the driver, in an
order drawn by the seed. After each kill the dataset is opened and held to what it had before. Then the same study runs
undisturbed. Prints Markdown and, last, one JSON object; exit code 1 where a trial is lost or doubled.
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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measuring import machine, table  # noqa: E402
from ray_nodes import RayNode, RayNodes, Shape  # noqa: E402
from study_watch import StudyWatch, attempts_of, costs_of  # noqa: E402

from tests.bench.studies import Running, parent  # noqa: E402

TARGETS = ("rank", "sampler", "raylet", "node", "driver")
SHAPES = (Shape(2), Shape(2), Shape(2, cores_per_device=2))
QUIET_S = 10.0
# From the kill until another node is started in the place of the one that is gone.
RETURN_S = 5.0
PATIENCE_S = 120.0
REPEATS = 5
# With it the study outlasts the kills: each takes 10 s, and some more until its processes are back.
WINDOW_S = 20.0
SWEEP = """\
schema: 1
name: chaos
seed: {seed}
defaults: {{vocab_size: 1000, hidden_size: 128, sequence_length: 64, num_layers: 1, micro_batch_size: 1}}
grids:
  - {{num_layers: [1, 2], micro_batch_size: [1, 2]}}
  - {{strategy: fsdp, gpu_count: 2}}
  - {{strategy: ddp, gpu_count: 2, node_count: 2, micro_batch_size: [1, 2]}}
repeats: {repeats}
window: {{warmup_steps: 1, min_steps: 5, min_s: {window_s:g}, max_s: 120, tolerance: 0}}
hold_out: {{by: case, fraction: 0.2}}
metering: {{meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}}
devices: {{misfits: set_aside}}
"""
EXPLAINED = """\
SIGKILL goes to a part of a running study on three Ray nodes (each with two logical devices, one node's of another
model; a head without devices beside them), drawn by the seed, 10 s after the study last completed a step. Raylet: that
process alone, upon which its node dies. Node: everything on it at once. A new node is started in its place 5 s later. A
killed driver is started again at once. After each kill, and at the end, the dataset is opened: no committed trial may
be gone or there twice, no row there twice, and no row of a done trial may change.

Cut short: the attempts that the kill ended; thrown away is their devices' time until then. Full work: as many devices
at work as before the kill. Without a step: until any trial completed a step that began after the kill."""


@dataclass
class Kill:
    """One kill and what it cost. `full_s`, until as many devices were at work as before, is None
    where it never came to that: the study was near its end."""

    target: str
    time_ns: int
    no_step_s: float
    cut: int = 0
    thrown_away_s: float = 0.0
    full_s: float | None = None


@dataclass
class Outcome:
    """What a study looks like after all kills."""

    planned: int
    done: int = 0
    failed: int = 0
    invalid: list[str] = field(default_factory=list)
    doubled: int = 0
    changed: int = 0
    runs: int = 0
    wall_s: float = 0.0
    kills: list[Kill] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.planned - self.done


class Study:
    """The command on the cluster, run again whenever a kill has ended it."""

    def __init__(self, home: Path, sweep: str, cluster: RayNodes) -> None:
        self.home, self.folder, self.cluster = home, home / "out", cluster
        (home / "chaos.yaml").write_text(sweep)
        self.watch = StudyWatch(self.folder)
        self._runs: list[Running] = []

    def running(self) -> Running:
        """The command, started where it does not run: at once, whatever is still dying of the last one."""
        if not self._runs or (code := self._runs[-1].process.poll()) is not None:
            if self._runs and code not in (0, 3, -signal.SIGKILL):
                print(f"run {len(self._runs)} ended with {code}: {self._runs[-1].end().errors}", file=sys.stderr)
            where = {"RAY_ADDRESS": self.cluster.address}
            self._runs.append(Running("run", "chaos.yaml", "--into", "out", cwd=self.home, env=where))
        return self._runs[-1]

    def over(self) -> bool:
        return bool(self._runs) and self._runs[-1].process.poll() in (0, 3)

    def finish(self, most_runs: int = 6) -> int:
        """To the study's own end: failed trials are tried again by another run. How many runs there were in all."""
        for _ in range(most_runs):
            self.running().process.wait()
            if self.over():
                return len(self._runs)
        raise SystemExit(f"not finished after {most_runs} more runs: {self._runs[-1].end().errors}")

    def targets(self, target: str) -> list[tuple[int, ...]]:
        """The pids of each of the study's parts of one kind; those of one part are killed together."""
        if target == "driver":  # the command itself, or the process that it watches
            command = self.running().process.pid
            return [(pid,) for pid in (command, *(p for p in self.running().marked() if parent(p) == command))]
        found: list[tuple[int, ...]] = []
        for node in self.cluster.nodes:
            commands = node.processes()
            servers = [pid for pid, command in commands.items() if "joulelaw.cluster.ranks.forkserver" in command]
            match target:
                case "rank":
                    found += [(pid,) for pid in servers if parent(pid) in servers]
                case "sampler":
                    found += [(pid,) for pid, name in commands.items() if name.startswith("ray::SamplerHost")]
                case "raylet":
                    found += [(pid,) for pid in node.raylet()]
                case "node":
                    found += [tuple(commands)] if node.raylet() else []
        return found


class Killer:
    """Kills one part after the other, and brings nodes back."""

    def __init__(self, study: Study, quiet_s: float, dice: random.Random) -> None:
        self._study, self._quiet_s, self._dice = study, quiet_s, dice
        self._starter = ThreadPoolExecutor(1)  # one node after the other
        self._returning: list[Future[RayNode]] = []

    def kill_one(self, target: str) -> Kill:
        """Waits until the study has completed a step, and then its time; kills; waits for the next step."""
        study = self._study
        first_ns = study.watch.next_step_ns(study.running, after_ns=time.monotonic_ns())
        time.sleep(max(0.0, first_ns / 1e9 + self._quiet_s - time.monotonic()))
        study.watch.check()
        kill_ns = self._kill_any(target)
        study.watch.check()
        next_ns = study.watch.next_step_ns(study.running, after_ns=kill_ns)
        study.watch.check()
        return Kill(target, kill_ns, (next_ns - kill_ns) / 1e9)

    def wait_for_nodes(self) -> None:
        for each in self._returning:
            each.result()

    def _kill_any(self, target: str) -> int:
        """When one of the target's parts was killed. Ranks, and runs, come and go meanwhile."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            if not (found := self._study.targets(target)):
                time.sleep(0.05)
                continue
            chosen = self._dice.choice(found)
            hit = next((node for node in self._study.cluster.nodes if set(chosen) & node.processes().keys()), None)
            with contextlib.suppress(ProcessLookupError):
                kill_ns = time.monotonic_ns()
                for pid in chosen:
                    os.kill(pid, signal.SIGKILL)
                if hit is not None and target in ("raylet", "node"):
                    self._returning.append(self._starter.submit(self._replace, hit, kill_ns))
                return kill_ns
        raise SystemExit(f"no {target} to kill within {PATIENCE_S:g} s")

    def _replace(self, node: RayNode, kill_ns: int) -> RayNode:
        time.sleep(max(0.0, kill_ns / 1e9 + RETURN_S - time.monotonic()))
        return self._study.cluster.replace(node)


def run_kills(home: Path, cluster: RayNodes, sweep: str, kills: int, seed: int, quiet_s: float) -> Outcome:
    """The study with its kills, to its end."""
    dice = random.Random(seed)
    study = Study(home, sweep, cluster)
    killer = Killer(study, quiet_s, dice)
    began_s = time.monotonic()
    done: list[Kill] = []
    for number, target in enumerate(draw(kills, dice), start=1):
        if study.over():
            raise SystemExit(f"the study ended after {len(done)} kills: give it a longer --window-s")
        done.append(killer.kill_one(target))
        print(f"{number}/{kills} {target}: next step after {done[-1].no_step_s:.1f} s", file=sys.stderr, flush=True)
    runs = study.finish()
    wall_s = time.monotonic() - began_s
    killer.wait_for_nodes()
    study.watch.check()
    costs = costs_of([(kill.target, kill.time_ns) for kill in done], attempts_of(study.folder))
    for kill, (cut, thrown_away_s, full_s) in zip(done, costs, strict=True):
        kill.cut, kill.thrown_away_s, kill.full_s = cut, thrown_away_s, full_s
    planned = {trial["trial_id"] for trial in json.loads((study.folder / "plan.json").read_text())["trials"]}
    return Outcome(len(planned), **study.watch.counts(planned), runs=runs, wall_s=wall_s, kills=done)


def draw(kills: int, dice: random.Random) -> list[str]:
    """Every target equally often, as far as it goes, in an order drawn."""
    targets = [*TARGETS * (kills // len(TARGETS)), *dice.sample(TARGETS, kills % len(TARGETS))]
    dice.shuffle(targets)
    return targets


def undisturbed(home: Path, cluster: RayNodes, sweep: str) -> float:
    """Seconds that the same study takes without kills."""
    study = Study(home, sweep, cluster)
    began_s = time.monotonic()
    study.finish()
    return time.monotonic() - began_s


def markdown(outcome: Outcome, command: str, where: str, expected_s: float | None) -> str:
    """The page."""
    rows = []
    for target in (*TARGETS, "all"):
        if kills := [kill for kill in outcome.kills if target in (kill.target, "all")]:
            full = [kill.full_s for kill in kills if kill.full_s is not None]
            rows.append(
                (
                    target,
                    len(kills),
                    sum(kill.cut for kill in kills),
                    f"{sum(kill.thrown_away_s for kill in kills) / len(kills):.1f}",
                    f"{sum(full) / len(full):.1f}" if full else "-",
                    f"{max(full):.1f}" if full else "-",
                    f"{sum(kill.no_step_s for kill in kills) / len(kills):.1f}",
                    f"{max(kill.no_step_s for kill in kills):.1f}",
                )
            )
    header = ("killed", "kills", "attempts cut short", "device-s thrown away, mean", "s to full work, mean", "worst",
              "s without a step, mean", "worst")  # fmt: skip
    total = f"{outcome.wall_s:.0f} s in all"
    if expected_s is not None:
        total += f"; undisturbed it took {expected_s:.0f} s: **{outcome.wall_s - expected_s:.0f} s went to the kills**"
    end = f"{outcome.failed} failed and {len(outcome.invalid)} invalid at the end"
    return "\n\n".join(
        (
            "# A study under kills",
            EXPLAINED,
            f"`{command}` on {where}.",
            f"{outcome.planned} trials planned, **{outcome.lost} lost, {outcome.doubled} doubled**; {end}; "
            f"{outcome.changed} rows of done trials changed. The command was started {outcome.runs} times. {total}.",
            table(header, rows),
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window-s", type=float, help="of each trial: long enough for the kills if not given")
    parser.add_argument("--quick", action="store_true", help="5 kills, 3 s after a step, in a fifth of the trials")
    parser.add_argument("--no-reference", action="store_true", help="without the undisturbed run")
    parser.add_argument("--out", type=Path, help="also write the Markdown there")
    options = parser.parse_args()
    kills = options.kills or (5 if options.quick else 20)
    quiet_s, repeats = (3.0, 1) if options.quick else (QUIET_S, REPEATS)
    window_s = options.window_s or WINDOW_S
    sweep = SWEEP.format(seed=options.seed, repeats=repeats, window_s=window_s)
    where, expected_s = machine(), None
    with RayNodes(SHAPES) as cluster:
        with tempfile.TemporaryDirectory() as home:
            outcome = run_kills(Path(home), cluster, sweep, kills, options.seed, quiet_s)
        if not options.no_reference:
            with tempfile.TemporaryDirectory() as home:
                expected_s = undisturbed(Path(home), cluster, sweep)
    text = markdown(outcome, f"python benchmarks/chaos.py --kills {kills} --seed {options.seed}", where, expected_s)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(json.dumps({"seed": options.seed, "lost": outcome.lost, "undisturbed_s": expected_s, **asdict(outcome)}))
    return int(bool(outcome.lost or outcome.doubled or outcome.changed))


if __name__ == "__main__":
    sys.exit(main())
