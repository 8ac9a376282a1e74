"""A cluster of one machine: munge, one slurmctld and two slurmd on the loopback device, in a folder of their own.

What is started here is stopped here, by its number; nothing of the system's own configuration is read or changed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 60  # that the daemons get to come up
_CONF = """ClusterName=scdae
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
{listen}
ProctrackType=proctrack/{track}
TaskPlugin={task}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SlurmdSpoolDir={folder}/slurmd.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MpiDefault=none
ReturnToService=2
KillWait=15
MinJobAge=3000
SlurmctldTimeout=300
SlurmdTimeout=300
SchedulerParameters=bf_interval=5,sched_interval=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=12000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=12000
PartitionName=normal Nodes=n1,n2 Default=YES State=UP
"""
# Daemons then listen on the address of the machine's name alone. Where that is another than they are called by, they listen on all,
# and munge's key keeps others out.
_LOOPBACK = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
_NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scancel", "scontrol", "setpriv")


class NotHere(Exception):
    """Why there is no cluster on this machine, as a sentence."""


def install(seconds: float = 240) -> None:
    """Debian's packages, where they are missing and may be installed, in so many seconds; :class:`NotHere` elsewhere."""
    deadline = time.monotonic() + seconds
    if all(shutil.which(name) for name in _NEEDED):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise NotHere("SLURM is not installed, and it can be installed here only as root of a Debian.")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    words = ["apt-get", "-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"]
    for rest in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
        with tempfile.TemporaryFile("w+") as said:  # no pipe: a service that comes with a package would keep it open
            try:
                code = subprocess.run(
                    [*words, *rest],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    timeout=max(deadline - time.monotonic(), 1),
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise NotHere(f"apt-get took longer than {seconds:.0f} s.") from error
            said.seek(0)
            if code:
                lines = said.read().strip().splitlines() or ["no word"]
                raise NotHere(f"apt-get {rest[0]} failed: {lines[-1][:200]}")
    if not all(shutil.which(name) for name in _NEEDED):
        raise NotHere("Debian's slurm-wlm and munge are installed, but not all of their programs are there.")


class Cluster:
    """Daemons in `folder`; a context manager, which stops them and their jobs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.confined = True  # whether control groups hold jobs to their memory
        self._daemons: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._groups = [path for path in _groups() if path.exists()]

    def __enter__(self) -> Cluster:
        if os.geteuid() != 0:
            raise NotHere("The daemons of SLURM have to be started by root.")
        try:
            self._munge()
            for track in ("cgroup", "linuxproc"):
                self.confined = track == "cgroup"
                self._configure(track)
                if self._start():
                    return self
                self._end(keep=1)
            raise NotHere(f"SLURM's daemons did not come up within {SECONDS} s: {self._complaint()}")
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        run("scancel", "--user", "root")
        run("scancel", "--user", "root", "--full", "--signal", "KILL")
        deadline = time.monotonic() + 30
        while run("squeue", "--noheader", "--states", "R,CG").strip() and time.monotonic() < deadline:
            time.sleep(0.5)
        self._end()

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        words = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.sock"]
        words += [f"--{name}={self.folder}/munge.{name}" for name in ("pid-file", "log-file", "seed-file")]
        self._spawn("munged", words)
        self._wait((self.folder / "munge.sock").exists, "munged made no socket")

    def _configure(self, track: str) -> None:
        (self.folder / "state").mkdir(exist_ok=True)
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        task = "task/cgroup" if track == "cgroup" else "task/none"
        named = {"host": socket.gethostname(), "listen": _LOOPBACK if own_address().startswith("127.") else ""}
        text = _CONF.format(**named, folder=self.folder, ports=free_ports(3), track=track, task=task)
        (self.folder / "slurm.conf").write_text(text)
        new = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        lines = [
            f"CgroupPlugin=cgroup/v{2 if new else 1}",
            "ConstrainCores=no",  # nodes have four cores each here, of which a machine may have two
            "ConstrainRAMSpace=yes",
            "ConstrainSwapSpace=no",
        ]
        lines += ["IgnoreSystemd=yes"] if new else []
        (self.folder / "cgroup.conf").write_text(
            "\n".join([*lines, ""]) if track == "cgroup" else "CgroupPlugin=cgroup/v1\n"
        )

    def _start(self) -> bool:
        self._spawn("slurmctld", ["slurmctld", "-D", "-i"])
        for node in ("n1", "n2"):
            self._spawn(f"slurmd.{node}", ["slurmd", "-D", "-N", node])
        try:
            self._wait(lambda: run("sinfo", "--noheader", "-o", "%T %D").split() == ["idle", "2"], "no nodes")
            first = run("sbatch", "--parsable", "--mem=50", "-o", "/dev/null", "--wrap", "true").strip()
            self._wait(lambda: state(first)[0] == "COMPLETED", "no job")
        except NotHere:
            return False
        return True

    def _wait(self, there, otherwise: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not there():
            dead = [name for name, daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise NotHere(f"{otherwise}{': ' + dead[0] + ' ended' if dead else ''}")
            time.sleep(0.2)

    def _spawn(self, name: str, words: list[str]) -> None:
        words = ["setpriv", "--pdeathsig", "TERM", *words]  # nobody stays when this process is killed outright
        with (self.folder / f"{name}.said").open("ab") as said:
            daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        self._daemons.append((name, daemon))

    def _end(self, keep: int = 0) -> None:
        for _, daemon in reversed(self._daemons[keep:]):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        del self._daemons[keep:]
        if not keep:
            for path in _groups():
                if path not in self._groups:
                    _remove_groups(path)

    def _complaint(self) -> str:
        for name in ("slurmd.n1.log", "slurmctld.log", "slurmd.n1.said", "slurmctld.said"):
            path = self.folder / name
            text = path.read_text() if path.exists() else ""
            lines = [line for line in text.splitlines() if re.search("error|fatal", line) and "mpi" not in line.lower()]
            if lines:
                return lines[-1][-200:]
        return "they do not say why."


def run(*words: str, timeout: float = 60) -> str:
    """What a command says; empty where it fails."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def state(job: str) -> tuple[str, str]:
    """State of a job and its exit code, as scontrol has them."""
    found = dict(word.partition("=")[::2] for word in run("scontrol", "show", "job", "-o", job).split())
    return found.get("JobState", ""), found.get("ExitCode", "")


def own_address() -> str:
    """The address that this machine's name stands for; empty where there is none."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def free_ports(number: int) -> list[int]:
    """Ports of the loopback device that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def _groups() -> list[Path]:
    """Control groups that slurmd makes."""
    places = [
        "/sys/fs/cgroup/system.slice",
        *(f"/sys/fs/cgroup/{name}" for name in ("memory", "cpuset", "freezer", "devices")),
    ]
    places += ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct"]
    names = ("slurm_n1", "slurm_n2", "n1_slurmstepd.scope", "n2_slurmstepd.scope", "slurm")
    return [Path(place) / name for place in places for name in names]


def _remove_groups(path: Path) -> None:
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            print(f"{folder} could not be removed", file=sys.stderr)
