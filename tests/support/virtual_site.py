"""The machine of a user, two hosts with sshd, and a bucket in their network, as docs/cluster.md presumes them."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from typing import NamedTuple

from support.places import REPOSITORY
from support.s3 import ACCESS_KEY, SECRET_KEY
from support.virtual_bucket import PORT, virtual_bucket
from support.virtual_hosts import PATH, Network, VirtualHost

LAPTOP, HEAD, WORKER = "198.18.0.1", "198.18.0.10", "198.18.0.11"  # from the range for tests of networks (RFC 2544)
SSHD = "PidFile none\nUsePAM no\nPasswordAuthentication no\nSetEnv PYTHONPATH={packages} PIP_NO_INDEX=1\n"
RAY = "#!/usr/bin/env python3\nfrom ray.scripts.scripts import main\nmain()\n"
BASHRC = "case $- in *i*) ;; *) return ;; esac\n"  # as Debian's begins


class Site(NamedTuple):
    """Hosts, and the URL by which this machine reaches their bucket."""

    laptop: VirtualHost
    head: VirtualHost
    worker: VirtualHost
    bucket: str
    folder: Path
    scripts: list[subprocess.Popen]

    def start(self, script: str, name: str) -> subprocess.Popen:
        """Give a script to the user's shell, in their checkout.

        What it says goes to a file: ssh leaves processes behind that would keep a pipe open.
        """
        environment = {
            "HOME": str(Path.home()),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), PATH]),
            "LC_ALL": "C.UTF-8",
            "PIP_NO_BUILD_ISOLATION": "0",  # as pip reads it: none; hatchling is here, an index is not
        }
        words = ["env", "--chdir", self.folder / "checkout", "bash", "-euc", script]
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                self.laptop.command(words), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.scripts.append(process)
        return process

    def said(self, name: str) -> str:
        """What a script has said so far."""
        return (self.folder / f"{name}.log").read_text()

    def run(self, script: str, name: str, seconds: float) -> str:
        """Run a script to its end; gives what it has said."""
        assert self.start(script, name).wait(seconds) == 0, self.said(name)
        return self.said(name)

    def lose_worker(self) -> None:
        """The worker is shut down: all its processes end, and its system closes their connections."""
        self.worker.end()


@contextmanager
def two_hosts(folder: Path) -> Iterator[Site]:
    """All of it, with an empty bucket; it ends with the context.

    The hosts have the packages of this environment, all but pfit-ray, which they install as the page says; what runs
    is the same source, see `_packages`.

    Args:
        folder: for files and logs.
    """
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    packages = _packages(folder / "packages")
    sshd = folder / "sshd_config"
    sshd.write_text(SSHD.format(packages=packages))
    _check_out(folder / "checkout")
    aws = {
        ".aws/credentials": f"[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n",
        ".aws/config": f"[default]\nregion=us-east-1\nendpoint_url=http://{LAPTOP}:{PORT}\n",
    }
    mine = _home(folder / "mine", {".ssh/id_ed25519": key.read_text(), **aws})
    profile = f"PATH={packages / 'bin'}:{Path(sys.base_prefix) / 'bin'}:$PATH\n. ~/.bashrc\n"
    authorized = key.with_suffix(".pub").read_text()
    theirs = _home(
        folder / "theirs", {".ssh/authorized_keys": authorized, ".profile": profile, ".bashrc": BASHRC, **aws}
    )
    with ExitStack() as stack:
        scripts: list[subprocess.Popen] = []
        stack.callback(lambda: [process.wait(20) for process in scripts])  # they have ended with the user's machine

        def host(name: str, files: Path) -> VirtualHost:
            found = VirtualHost(name, files, folder / f"{name}.host.log")
            stack.callback(found.end)
            return found

        laptop, head, worker = host("laptop", mine), host("head", theirs), host("worker", theirs)
        network = Network(laptop, LAPTOP)
        laptop.start()
        for one, address in ((head, HEAD), (worker, WORKER)):
            network.plug(one, address)
            one.start(sshd)
        bucket = stack.enter_context(virtual_bucket(laptop, LAPTOP))
        yield Site(laptop, head, worker, bucket, folder, scripts)


def _packages(folder: Path) -> Path:
    """A folder for PYTHONPATH with all packages of this environment but an installed pfit-ray, and Ray's command.

    Of pfit-ray it has the source alone, beside which lie the functions that numba has compiled in other tests: for the
    copy that a host has just installed each worker process would compile them for half a minute.
    """
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("pfit_ray", "_pfit_ray")) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    (folder / "pfit_ray").symlink_to(REPOSITORY / "pfit_ray")
    command = folder / "bin" / "ray"
    command.parent.mkdir()
    command.write_text(RAY)
    command.chmod(0o755)
    return folder


def _check_out(folder: Path) -> None:
    """What a user has checked out, as far as the commands need it."""
    for name in ("pfit_ray", "cluster", "configs"):
        copytree(REPOSITORY / name, folder / name, ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(REPOSITORY / name, folder)


def _home(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
    return folder
