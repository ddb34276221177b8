"""Installs a wheel in clean environments and does there what a new user would: `make clean-install`.

    python tests/clean_install.py WHEEL [--whole] [--python NAME ...]

Of each Python named (3.11 to 3.13 unless told; looked for on the PATH, left out where it is not there, which is said)
a fresh environment gets the wheel alone, with the pinned versions and neither torch nor Ray, and the law's commands run
on the committed trials, as a table of past runs. With --whole the extra [bench] is installed on the first Python
instead, and a study of two trials runs. Needs the standard library only. Exit code 1 where something fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "results" / "2x-amd-epyc-1-core" / "quickstart"
PYTHONS = ("python3.11", "python3.12", "python3.13")
ABSENT = (
    "import importlib.util as u; print([m for m in ('torch', 'ray', 'transformers', 'deepspeed') if u.find_spec(m)])"
)
TABLE = """
import glob, pandas as pd
rows = pd.concat(map(pd.read_parquet, sorted(glob.glob({trials!r})))).query("verdict == 'valid'")
lists = ["reasons", "nodes", "device_uuids", "shared_with"]
rows.drop(columns=["verdict", *lists]).to_csv("past_runs.csv", index=False)
"""
SMALL = (
    "--version",
    "import past_runs.csv --into past --devices devices.toml",
    "fit past --out law.json",
    "validate past --out validation.json --law roofline",
    "predict law.json past_runs.csv --out forecast.csv",
    "predict default --model bert-base-uncased --gpu-model Tesla_T4 --micro-batch-size 16 --sequence-length 128 "
    "--precision fp16 --steps 1000",
    "recommend default --model bert-base-uncased --gpu-model Tesla_T4 --sequence-length 128 --dataset-size 10000",
    "export law.json --format csv",
    "export law.json --format parquet",
    "export --schema",
    "report past --law law.json --validation validation.json",
    f"status {STUDY}",
    "plan quickstart",
)
SWEEP = """\
schema: 1
name: two
grids:
  - {num_layers: 1, hidden_size: 64, sequence_length: 32, micro_batch_size: 2, vocab_size: 500, precision: [fp32, bf16]}
window: {warmup_steps: 2, min_steps: 5, min_s: 1.0, max_s: 60, tolerance: 0}
metering: {cpu_w_per_core: 10.0}
"""
WHOLE = ("doctor", "run two.yaml --into two", "run two.yaml --into alone --alone", "report two")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("wheel", type=Path)
    arguments.add_argument("--whole", action="store_true")
    arguments.add_argument("--python", action="append", metavar="NAME")
    given = arguments.parse_args()
    names = given.python or (PYTHONS[:1] if given.whole else PYTHONS)
    there = [name for name in names if works(name)]
    for name in sorted(set(names) - set(there)):
        print(f"{name}: not on the PATH, not tried")
    failed = [name for name in there if not all(ends_well(name, given.wheel.resolve(), given.whole))]
    tried = ", ".join(there) or "no Python"
    print(f"tried on {tried}" + (f"; failed on {', '.join(failed)}" if failed else ""))
    return 1 if failed or not there else 0


def works(name: str) -> bool:
    """Whether there is such a program, and it is no shim of a version that is not chosen."""
    return shutil.which(name) is not None and subprocess.run([name, "--version"], capture_output=True).returncode == 0


def ends_well(python: str, wheel: Path, whole: bool) -> Iterator[bool]:
    """Of each step whether it ended as it should, told as it ends."""
    with tempfile.TemporaryDirectory(prefix="joulelaw-") as folder:
        home, own = Path(folder), Path(folder) / "venv" / "bin"
        (home / "two.yaml").write_text(SWEEP)
        shutil.copyfile(STUDY / "devices.toml", home / "devices.toml")
        pip = [str(own / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
        yield told(python, [python, "-m", "venv", "venv"], home)
        yield told(python, [*pip, f"{wheel}[bench]" if whole else str(wheel)], home)
        if not whole:
            said = subprocess.run(
                [own / "python", "-c", ABSENT], cwd=home, capture_output=True, text=True
            ).stdout.strip()
            print(f"{python}: of torch, ray, transformers and deepspeed there are {said}")
            yield said == "[]"
            trials = str(STUDY / "trials" / "*.parquet")
            yield told(python, [str(own / "python"), "-c", TABLE.format(trials=trials)], home)
        for line in WHOLE if whole else SMALL:
            words = [word.replace("_", " ") if word.startswith("Tesla") else word for word in line.split()]
            yield told(python, [str(own / "joulelaw"), *words], home)


def told(python: str, command: list[str], home: Path) -> bool:
    """Runs a command there, and says how long it took, or how it failed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    environment["PATH"] = f"{home / 'venv' / 'bin'}{os.pathsep}{environment['PATH']}"
    begun = time.monotonic()
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    shown = " ".join([Path(command[0]).name, *command[1:]])[:100].splitlines()[0]
    print(f"{python}: {time.monotonic() - begun:6.1f} s  exit {done.returncode}  {shown}", flush=True)
    if done.returncode == 0 and Path(command[0]).name == "joulelaw" and "--version" not in command:
        return bool(json.loads(done.stdout.splitlines()[-1])["exit_code"] == 0)
    if done.returncode != 0:
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
