"""`joulelaw meter -- COMMAND`: streams, signals and exit code are the command's own, and its CPU time is all there."""

import contextlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from joulelaw.bench.energy.stored_power import energy_of
from tests.bench.metering import command_line, environment
from tests.fake_nvml.build import ROOT
from tests.fake_nvml.devices import FakeGpu

GPU = FakeGpu("GPU-a", 200, 200)
W = 10.0
ESTIMATE = ["--meter", "estimate", "--cpu-w-per-core", f"{W:g}"]
# Burns so many CPU seconds here and as many in each of three children of a child, one after the other.
BURN = """
import os, subprocess, sys, time
seconds, depth = float(sys.argv[1]), int(sys.argv[2])
until = time.process_time() + seconds
while time.process_time() < until:
    pass
for _ in range(3 if depth else 0):
    subprocess.run([sys.executable, __file__, str(seconds), str(depth - 1)], check=True)
"""
pytestmark = pytest.mark.xdist_group("fake_nvml")


@pytest.fixture
def burn(tmp_path: Path) -> str:
    path = tmp_path / "burn.py"
    path.write_text(BURN)
    return str(path)


def test_streams_are_the_commands_own_and_the_last_line_is_json() -> None:
    copy = "import sys; sys.stdout.write(sys.stdin.read()); sys.stderr.write('from below'); import time; time.sleep(1)"
    done, shown = command_line("--", sys.executable, "-c", copy, gpus=[GPU], stdin="no end of line")
    assert done.stdout.splitlines()[0] == "no end of line"
    assert "from below" in done.stderr
    assert shown["ran"] == [sys.executable, "-c", copy]
    assert (shown["exit_code"], shown["command_exit_code"]) == (0, 0)
    assert "GPU-a" in done.stderr, "the table is for people"
    assert "GPU-a" not in "".join(done.stdout.splitlines()[:-1])


@pytest.mark.parametrize(("how", "told"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 128 + 9)])
def test_a_command_that_failed_is_told_with_its_joules(how: str, told: int) -> None:
    script = f"import os, sys, time; time.sleep(1.1); {how}"
    done, shown = command_line("--", sys.executable, "-c", script, gpus=[GPU])
    assert (done.returncode, shown["command_exit_code"]) == (1, told)
    assert shown["devices"][0]["energy_j"] == pytest.approx(200 * shown["duration_s"], rel=0.05)


def test_the_commands_own_options_need_no_dashes_before_them() -> None:
    done, shown = command_line(
        "--devices", "0", sys.executable, "-c", "print('x', end='')", "--seconds", "9", gpus=[GPU]
    )
    assert shown["ran"][-2:] == ["--seconds", "9"]
    assert (done.returncode, shown["command_exit_code"]) == (3, 0), "too short a window, and said so"
    assert "window_too_short" in shown["devices"][0]["reasons"]


def test_the_window_is_the_commands_time_and_no_more_than_a_tick_beside_it() -> None:
    script = "import time; print(time.monotonic_ns()); time.sleep(1.2); print(time.monotonic_ns())"
    done, shown = command_line("--", sys.executable, "-c", script, gpus=[GPU])
    began_ns, ended_ns = map(int, done.stdout.splitlines()[:2])
    assert shown["begin_ns"] < began_ns
    assert ended_ns < shown["end_ns"] < ended_ns + 1_000_000_000
    assert shown["duration_s"] == pytest.approx((shown["end_ns"] - shown["begin_ns"]) / 1e9)


def test_the_first_seconds_of_a_command_that_goes_on(tmp_path: Path) -> None:
    script = "import time, pathlib; time.sleep(3); pathlib.Path('done').touch()"
    _, shown = command_line("--seconds", "1.1", "--", sys.executable, "-c", script, gpus=[GPU], cwd=tmp_path)
    assert 1.1 <= shown["duration_s"] < 2.5
    assert (tmp_path / "done").exists()
    assert shown["command_exit_code"] == 0


def test_the_estimate_counts_the_cpu_time_of_all_that_a_command_starts(burn: str) -> None:
    """Four processes that burn 0.3 s each, all but one of them gone before they could be seen twice."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, shown = command_line(*ESTIMATE, "--", sys.executable, burn, "0.3", "1")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # joulelaw's own time too
    (device,) = shown["devices"]
    assert W * 1.2 < device["energy_j"] < W * ours_s
    assert (shown["meter_kind"], device["verdict"]) == ("estimated", "valid")


def test_the_estimate_is_the_kernels_own_account(burn: str, tmp_path: Path) -> None:
    """The command writes what it and its children used, as the kernel has it; a new interpreter's end is not in it."""
    account = tmp_path / "account.py"
    account.write_text(
        "import resource, subprocess, sys\n"
        f"subprocess.run([sys.executable, {burn!r}, '0.4', '1'])\n"
        "uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
        "print(sum(use.ru_utime + use.ru_stime for use in uses))\n"
    )
    done, shown = command_line(*ESTIMATE, "--", sys.executable, str(account))
    used_s = float(done.stdout.splitlines()[0])
    assert shown["devices"][0]["energy_j"] == pytest.approx(W * used_s, rel=0.03)
    assert shown["devices"][0]["energy_j"] > W * 1.6


def ended_by(
    signals: list[int], *arguments: str, group: bool = False, gpus: list[FakeGpu] | None = None
) -> tuple[int, dict[str, Any], str]:
    """Starts the meter, sends these signals once its command or stretch has begun, and waits."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / "__main__.py"), "meter", *arguments],
        env=environment([GPU] if gpus is None else gpus),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if "--" in arguments:
        assert process.stdout.readline() == "begun\n"
    else:
        assert "Ctrl-C" in process.stderr.readline()
    time.sleep(2.2)
    for number in signals:
        os.killpg(process.pid, number) if group else process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert "joulelaw/bench" not in err
    assert str(ROOT / "bench") not in err, err
    return process.returncode, json.loads(out.splitlines()[-1]), out


LONG = "import time; print('begun', flush=True); time.sleep(60)"


@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_signal_ends_both_and_the_joules_until_then_are_told(number: int, group: bool) -> None:
    code, shown, _ = ended_by([number], "--", sys.executable, "-c", LONG, group=group)
    assert code == 130
    assert shown["interrupted"]
    assert shown["command_exit_code"] == 128 + number
    assert 2 < shown["duration_s"] < 20
    (device,) = shown["devices"]
    assert device["energy_j"] == pytest.approx(200 * shown["duration_s"], rel=0.05)


def test_a_ctrl_c_at_a_terminal_reaches_the_command_once() -> None:
    """The terminal sends it to both of us: handed on as well, it would look like an impatient second one."""
    counting = (
        "import signal, time\ncaught = []\nsignal.signal(2, lambda *_: caught.append(1))\nprint('begun', flush=True)\n"
        "while not caught: time.sleep(0.01)\ntime.sleep(1)\nprint('caught', len(caught), flush=True)"
    )
    made = environment([GPU])
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, str(ROOT / "bench" / "__main__.py"), "meter", "--", sys.executable, "-c", counting]
        os.execvpe(command[0], command, made)
    said, pressed = b"", False
    with contextlib.suppress(OSError):  # its end
        while part := os.read(terminal, 4096):
            said += part
            if b"begun" in said and not pressed:
                pressed = bool(os.write(terminal, b"\x03"))
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert b"caught 1\r\n" in said
    shown = json.loads(said.splitlines()[-1])
    assert (shown["interrupted"], shown["command_exit_code"], os.waitstatus_to_exitcode(status)) == (True, 0, 0)


def test_ctrl_c_reaches_what_a_shell_has_started() -> None:
    code, shown, _ = ended_by([signal.SIGINT], "--", "sh", "-c", "echo begun; sleep 60; echo not reached")
    assert code == 130
    assert shown["command_exit_code"] != 0
    assert shown["duration_s"] < 20


def test_a_command_may_take_a_signal_for_its_good_end() -> None:
    script = "import signal, time\nsignal.signal(15, lambda *_: print('saved') or exit(0))\n" + LONG
    code, shown, out = ended_by([signal.SIGTERM], "--", sys.executable, "-c", script)
    assert (code, shown["command_exit_code"], shown["interrupted"]) == (0, 0, True)
    assert "saved" in out


def test_a_stretch_without_an_end_ends_with_ctrl_c() -> None:
    code, shown, _ = ended_by([signal.SIGINT])
    assert (code, shown["ran"], shown["command_exit_code"]) == (0, None, None)
    assert shown["devices"][0]["energy_j"] == pytest.approx(200 * shown["duration_s"], rel=0.05)


def test_readings_are_kept_and_give_the_same_joules_again(tmp_path: Path) -> None:
    _, shown = command_line("--seconds", "1.5", "--out", "kept", gpus=[GPU], cwd=tmp_path)
    again = energy_of(tmp_path / "kept", shown["out_id"], shown["begin_ns"], shown["end_ns"])
    assert again["GPU-a"].energy_j == pytest.approx(shown["devices"][0]["energy_j"], rel=1e-4)
    _, other = command_line("--seconds", "1.5", "--out", "kept.parquet", gpus=[GPU], cwd=tmp_path)
    rows = pq.read_table(tmp_path / "kept.parquet").to_pylist()
    times = [each["time_ns"] for each in rows]
    assert times == sorted(times)
    assert times[0] < other["begin_ns"] < other["end_ns"] < times[-1]
    assert {each["device_uuid"] for each in rows} == {"GPU-a"}


def test_readings_in_a_folder_can_be_read_meanwhile(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "bench" / "__main__.py"),
            "meter",
            "--seconds",
            "60",
            "--out",
            str(tmp_path / "kept"),
        ],
        env=environment([GPU]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "kept").glob("power/*.parquet")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (path,) = (tmp_path / "kept").glob("power/*.parquet")
        assert pq.read_table(path).num_rows > 10
    finally:
        process.kill()
        process.wait()


WRONG = {
    "no meter": (["--seconds", "1"], "--cpu-w-per-core", []),
    "no meter for it": (["--seconds", "1", "--out", "kept"], "--cpu-w-per-core", []),
    "no nvml": (["--meter", "nvml", "--seconds", "1"], "choose 'rapl' or 'estimate'", []),
    "no watts": (["--meter", "estimate", "--", "sleep", "1"], "state --cpu-w-per-core", []),
    "no such meter": (["--meter", "nvlm", "--seconds", "1"], "choose one of auto, nvml, rapl, estimate", [GPU]),
    "nothing to estimate": ([*ESTIMATE, "--seconds", "1"], "name the command after --", []),
    "no idle estimate": ([*ESTIMATE, "--idle-seconds", "1", "--", "sleep", "1"], "--idle-seconds", []),
    "no device": (["--devices", "3", "--seconds", "1"], "no device '3' on this node; choose of 0 = GPU-a", [GPU]),
    "two of them": (
        ["--devices", "GPU-", "--seconds", "1"],
        "the beginning of several UUIDs; choose of 0 = GPU-a, 1 = GPU-b",
        [GPU, FakeGpu("GPU-b")],
    ),
    "no command": (["--", "no-such-command-here"], "'no-such-command-here': no such command", [GPU]),
    "one word": (["--", "sleep 1"], "sh -c", [GPU]),
    "no seconds": (["--seconds", "0"], "--seconds: 0 s", [GPU]),
    "less than none": (["--seconds", "-3"], "--seconds: -3 s", [GPU]),
    "for ever": (["--seconds", "1e300"], "--seconds: 1e+300 s; choose seconds above 0, at most 1e+09", [GPU]),
    "idle for ever": (["--idle-seconds", "inf", "--seconds", "1"], "--idle-seconds: inf s", [GPU]),
    "too slow": (["--rate-hz", "1e-12", "--seconds", "1"], "--rate-hz: rate 1e-12 Hz; choose 0.001 to 1000", [GPU]),
    "no number": (["--seconds", "ten"], "see joulelaw meter --help", [GPU]),
    "too fast": (["--rate-hz", "1e6", "--seconds", "1"], "--rate-hz: rate 1000000.0 Hz", [GPU]),
    "no folder": (["--out", "/no/such/folder/x.parquet", "--seconds", "1"], "make the folder first", [GPU]),
    "no room": (["--out", "/proc/x", "--seconds", "1"], "cannot write", [GPU]),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_mistakes_are_one_message_and_exit_code_2(name: str, tmp_path: Path) -> None:
    arguments, told, gpus = WRONG[name]
    done, shown = command_line(*arguments, gpus=gpus, cwd=tmp_path)
    assert done.returncode == 2
    assert told in shown["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_not_be_run_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text("echo hi\n")
    done, shown = command_line("--", "./train.sh", gpus=[GPU], cwd=tmp_path)
    assert (done.returncode, "may be run" in shown["error"]) == (2, True)
    (tmp_path / "train.sh").chmod(0o755)  # no first line says by what
    done, shown = command_line("--", "./train.sh", gpus=[GPU], cwd=tmp_path)
    assert (done.returncode, "Exec format error" in shown["error"]) == (2, True)
