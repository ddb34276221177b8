"""Several hosts on one machine, as network namespaces: nothing is shared between them but what is read-only.

Each host is one process (and its children) in namespaces of its own: network (a veth to a common bridge), processes,
host name, IPC, clock (CLOCK_MONOTONIC counts from another boot on each, as on real machines) and mounts: all that was
there is read-only, and /tmp, /dev/shm, /run and the home are empty and private. When the process that made a host
ends, in whatever way, so do the host and all that ran on it: nothing is left to clean up.

    with Hosts(3) as hosts:
        hosts.run("host1", ["ping", "-c1", hosts["host2"].address])
        hosts.cut("host2")   # its cable is pulled: what it sends and what is sent to it is lost
        hosts.mend("host2")
        hosts.kill("host2")  # its power is cut
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "10.77.0"
HOME = str(Path.home().resolve())
_START_S = 20.0
_BOOTS_APART_S = 100_000
# What this process has set is not the hosts': only what programs need to run.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SSL_CERT_FILE")

# In the host's namespaces, as its first process. Of the paths that must stay visible, those under a folder that becomes
# private are bound into the new one before it covers the old. The shell stays: it is what collects the dead in a
# namespace of processes.
_BOOT = r"""
set -eu
name=$1 address=$2 home=$3; shift 3
mount() { command mount -n "$@"; }
mount --make-rprivate /
for path in "$@"; do
    mount --bind "$path" "$path"
    mount -o remount,bind,ro "$path"
done
mount -o remount,bind,ro /
mount -t sysfs sysfs /sys
for private in /tmp "$home" /dev/shm /run; do
    mount -t tmpfs -o mode=1777 private /mnt
    for path in "$@"; do
        case $path in "$private"/*)
            mkdir -p "/mnt${path#"$private"}"
            mount --bind "$path" "/mnt${path#"$private"}"
            mount -o remount,bind,ro "/mnt${path#"$private"}";;
        esac
    done
    mount --move /mnt "$private"
done
chmod 700 "$home"
cat > /run/hosts
mount --bind /run/hosts /etc/hosts
hostname "$name"
ip link set lo up
echo booted
read -r _ <&3
ip address add "$address/24" dev eth0
ip link set eth0 up
echo ready
while :; do sleep 3600 & wait; done
"""


@dataclass
class Host:
    """A running host: its name, its address, and the process that is its life."""

    name: str
    address: str
    process: "subprocess.Popen[str]"
    pid: int
    """Of the host's first process, as it is known outside."""

    def path(self, inside: str) -> Path:
        """Where a file of the host can be seen from outside. Only while the host lives."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")


def reason_to_skip() -> str:
    """Why there can be no hosts here, if so."""
    if os.geteuid() != 0:
        return "hosts are network namespaces, which need root"
    if HOME == "/" or HOME.startswith("/tmp"):
        return f"hosts have a private home and a private /tmp, and the home is {HOME}"
    for tool in ("ip", "unshare", "nsenter", "setpriv", "mount"):
        if shutil.which(tool) is None:
            package = "iproute2" if tool == "ip" else "util-linux"
            return f"hosts need {tool}, of the package {package}"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "--time", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode(errors='replace').strip()}"


class Hosts:
    """`count` hosts, host1 to host<count>, on one bridge; see the file's text."""

    def __init__(self, count: int) -> None:
        names = [f"host{i}" for i in range(1, count + 1)]
        self._addresses = {name: f"{NETWORK}.{i}" for i, name in enumerate(names, start=1)}
        self._hosts: dict[str, Host] = {}
        self._switch: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._switch = _hold(["--net"], "set -eu; ip link add br0 type bridge; ip link set br0 up; echo ready; cat")
            _expect(self._switch, "ready")
            for number, name in enumerate(self._addresses, start=1):
                self._hosts[name] = self._boot(name, number)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def run(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command on a host to its end, from the home. TimeoutExpired if it takes longer."""
        command, environment = self._command(name, argv, env)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s)

    def start(
        self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Starts a command on a host; all that it prints goes to `log`, outside. It ends with the host."""
        command, environment = self._command(name, argv, env)
        with log.open("ab") as file:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def cut(self, name: str) -> None:
        """Takes the host off the bridge: its own link stays up, as behind a switch that died, and nothing passes."""
        self._ip("link", "set", f"to-{name}", "nomaster")

    def mend(self, name: str) -> None:
        """Puts it back."""
        self._ip("link", "set", f"to-{name}", "master", "br0")

    def kill(self, name: str) -> None:
        """Ends all processes of a host at once, and takes away its files and its link."""
        host = self._hosts.pop(name)
        host.process.kill()
        host.process.wait()

    def close(self) -> None:
        """Ends all hosts and the bridge. Safe to call twice."""
        for name in list(self._hosts):
            self.kill(name)
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait()
            self._switch = None

    def _boot(self, name: str, number: int) -> Host:
        address = self._addresses[name]
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--mount-proc", "--time"]
        booted_s = str(number * _BOOTS_APART_S)
        spaces += ["--monotonic", booted_s, "--boottime", booted_s]
        # The programs and the checkout, each once; what is not under /tmp is there anyway.
        seen = dict.fromkeys(str(Path(path).resolve()) for path in (ROOT, sys.prefix, sys.base_prefix))
        kept = [path for path in seen if path not in ("/", "/usr")]
        read_end, write_end = os.pipe()
        process = _hold(spaces, _BOOT, name, address, HOME, *kept, go=read_end)
        os.close(read_end)
        try:
            assert process.stdin is not None
            process.stdin.write("".join(f"{there}\t{each}\n" for each, there in self._addresses.items()))
            process.stdin.write("127.0.0.1\tlocalhost\n")
            process.stdin.close()
            _expect(process, "booted")
            host = Host(name, address, process, _first_child(process.pid))
            self._ip(
                *("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(host.pid)),
            )
            self._ip("link", "set", f"to-{name}", "master", "br0", "up")
            os.write(write_end, b"go\n")
            _expect(process, "ready")
        except BaseException:
            process.kill()
            raise
        finally:
            os.close(write_end)
        return host

    def _ip(self, *arguments: str) -> None:
        assert self._switch is not None
        command = ["nsenter", "--net", "--target", str(_first_child(self._switch.pid)), "ip", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def _command(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None
    ) -> tuple[list[str], dict[str, str]]:
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--time"]
        enter = ["nsenter", *spaces, f"--wdns={HOME}", "--target", str(self._hosts[name].pid)]
        kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
        path = os.pathsep.join([str(Path(sys.prefix) / "bin"), kept.pop("PATH", os.defpath)])
        return [*enter, *argv], {**kept, "PATH": path, "HOME": HOME, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}


def _hold(spaces: Sequence[str], script: str, *arguments: str, go: int | None = None) -> "subprocess.Popen[str]":
    """A process in new namespaces that dies with us, and all others there with it."""
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "--fork", "--kill-child=KILL"]
    redirect = f"exec 3<&{go}\n" if go is not None else ""
    return subprocess.Popen(
        [*command, "bash", "-c", redirect + script, "host", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=() if go is None else (go,),
        text=True,
    )


def _expect(process: "subprocess.Popen[str]", word: str) -> None:
    """Waits for the one line that says how far a host is. RuntimeError if it says another, or ends."""
    assert process.stdout is not None
    if (line := process.stdout.readline().strip()) != word:
        raise RuntimeError(f"a host did not come up: {line!r} instead of {word!r}")


def _first_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
