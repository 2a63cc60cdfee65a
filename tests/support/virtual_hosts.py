"""Hosts on one machine: namespaces of network, processes, files and name, with sshd, on a network of their own.

Nothing of the machine is changed. The network is a bridge in the first host's namespace. All of a host goes with its
first process: when it is killed, or when the process that started it ends, in whatever way.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.places import REPOSITORY

SCRIPT = REPOSITORY / "tests" / "support" / "virtual_host.sh"
PROGRAMS = ("unshare", "nsenter", "ip", "ssh", "ssh-keygen", "sshd", "rsync")
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
TRIAL = """
mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir /run/upper /run/work &&
mount -t overlay overlay -o lowerdir=/tmp,upperdir=/run/upper,workdir=/run/work /tmp &&
ip link add bridge type bridge && ip link add one type veth peer name other
"""


def why_not() -> str | None:
    """Why there can be no virtual hosts here; None where there can."""
    if missing := [name for name in PROGRAMS if not shutil.which(name, path=PATH)]:
        return f"virtual hosts need {', '.join(missing)} (packages util-linux, iproute2, openssh-server, rsync)"
    if os.geteuid() != 0:
        return "virtual hosts need root, who may make namespaces"
    words = ["unshare", *NAMESPACES, "--fork", "sh", "-c", TRIAL]
    done = subprocess.run(words, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, check=False)
    return (
        f"virtual hosts need namespaces, which are not allowed here: {done.stderr.strip()}" if done.returncode else None
    )


class VirtualHost:
    """A host, which lives until `end`; `virtual_host.sh` is its first process.

    Args:
        name: of the host, and of its cable at the bridge.
        files: a folder that is copied into its home.
        log: file for what its first process says.
    """

    def __init__(self, name: str, files: Path, log: Path) -> None:
        self.name, self.log = name, log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                ["unshare", *NAMESPACES, "--fork", "--kill-child", "bash", SCRIPT, name, files],
                env={"HOME": str(Path.home()), "PATH": PATH},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.pid = int(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, f"{self.name} does not start: {self.log.read_text()}"
        return line

    def start(self, sshd_config: Path | str = "") -> None:
        """Let it begin its work, once it is connected."""
        assert self.process.stdin is not None
        print(sshd_config, file=self.process.stdin, flush=True)
        assert self._answer() == "up", self.log.read_text()

    def command(self, words: Sequence[str | Path], namespaces: Sequence[str] = NAMESPACES) -> list[str | Path]:
        """A command line that runs another one on this host; with `--net` alone in its network, but outside of it."""
        return ["nsenter", f"--target={self.pid}", *namespaces, *words]

    def ip(self, *words: str) -> None:
        """Set up its network."""
        subprocess.run(self.command(["ip", *words], ["--net"]), env={"PATH": PATH}, check=True)

    def end(self) -> None:
        """End all its processes at once; its files and its network go with them."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.process.communicate()

    def answers(self, port: int) -> bool:
        """Whether something listens on its loopback."""
        words = self.command(["bash", "-c", f": </dev/tcp/127.0.0.1/{port}"], ["--net"])
        return subprocess.run(words, env={"PATH": PATH}, stderr=subprocess.DEVNULL).returncode == 0

    def processes(self) -> str:
        """Command lines of all that runs there."""
        words = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]
        return subprocess.run(self.command(words), env={"PATH": PATH}, capture_output=True, text=True).stdout


class Network:
    """A bridge on a host, and the hosts that are connected to it.

    Args:
        center: the host that has the bridge.
        address: of that host; those of the others differ in the last number.
    """

    def __init__(self, center: VirtualHost, address: str) -> None:
        self.center = center
        center.ip("link", "add", "bridge", "type", "bridge")
        self._set_up(center, "bridge", address)

    def plug(self, host: VirtualHost, address: str) -> None:
        """Connect a host."""
        cable = ["type", "veth", "peer", "name", "eth0", "netns", str(host.pid)]
        self.center.ip("link", "add", host.name, *cable)
        self.center.ip("link", "set", host.name, "master", "bridge", "up")
        self._set_up(host, "eth0", address)

    @staticmethod
    def _set_up(host: VirtualHost, device: str, address: str) -> None:
        host.ip("link", "set", "lo", "up")
        host.ip("address", "add", f"{address}/24", "dev", device)
        host.ip("link", "set", device, "up")
        host.ip("route", "add", "default", "dev", device)
