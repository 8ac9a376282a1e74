"""A Grid Engine of one machine: a qmaster and an execd of Debian's gridengine on the loopback device, in a folder of their own.

What is started here is stopped here, by its number; the system's own cell is neither read nor changed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from slurm import NotHere, free_ports, run

_PROGRAMS = Path("/usr/lib/gridengine")
_SHARED = Path("/usr/share/gridengine")
_INSTALLED = Path("/var/lib/gridengine")
_BOOTSTRAP = """admin_user              root
default_domain          none
ignore_fqdn             false
spooling_method         classic
spooling_lib            libspoolc
spooling_params         {root}/default/common;{folder}/qmaster
binary_path             /usr/sbin
qmaster_spool_dir       {folder}/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
_CHANGED = {  # of Debian's own configuration
    "execd_spool_dir": "{folder}/execd",
    "login_shells": "csh",  # a login's PATH would not have the command of these trials
    "min_uid": "0",
    "min_gid": "0",
    "reporting_params": "accounting=true reporting=false accounting_flush_time=00:00:00 joblog=false",
}
_CORES = {  # `-pe smp N`: cores of one machine
    "pe_name": "smp",
    "slots": "4",
    "user_lists": "NONE",
    "xuser_lists": "NONE",
    "start_proc_args": "NONE",
    "stop_proc_args": "NONE",
    "allocation_rule": "$pe_slots",
    "control_slaves": "FALSE",
    "job_is_first_task": "TRUE",
    "urgency_slots": "min",
    "accounting_summary": "FALSE",
    "qsort_args": "NONE",
}
_QUEUE = {
    "hostlist": "localhost",
    "slots": "4",
    "pe_list": "smp",
    "shell": "/bin/bash",
    "notify": "00:00:30",
    "rerun": "TRUE",
    "load_thresholds": "NONE",
}
_SECONDS = 40  # that the daemons get to come up


class GridEngine:
    """Daemons in `folder`; a context manager, which stops them and their jobs."""

    def __init__(self, folder: Path):
        self.folder, self.root = folder, folder / "root"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> GridEngine:
        if os.geteuid() != 0 or not all((_PROGRAMS / name).exists() for name in ("sge_qmaster", "sge_execd", "qsub")):
            raise NotHere("Grid Engine is not here (Debian's gridengine-master, gridengine-exec and gridengine-client)")
        try:
            self._lay_out()
            self._spawn("sge_qmaster")
            self._wait(lambda: "localhost" in self.say("qconf", "-sh"), "the qmaster does not answer")
            self.say("qconf", "-as", "localhost")
            self._spawn("sge_execd")
            self._wait(lambda: "lx-" in self.say("qhost", "-h", "localhost"), "the execd does not answer")
            self._file("-Ap", _CORES)
            queue = dict(line.split(None, 1) for line in self.say("qconf", "-sq").splitlines() if " " in line)
            self._file("-Aq", queue | _QUEUE | {"qname": "all.q"})
            self._wait(lambda: "all.q@" in self.say("qstat", "-f"), "there is no queue")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.say("qdel", "-f", "-u", "root")
        self._end()

    def say(self, *words: str) -> str:
        """What one of its commands says; empty where it fails."""
        return run(str(_PROGRAMS / words[0]), *words[1:])

    def submit(self, folder: Path, script: str, *options: str) -> str:
        """A job's number."""
        words = [str(_PROGRAMS / "qsub"), "-terse", "-V", *options, script]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout.split(".")[0].strip()

    def ended(self, job: str) -> list[str]:
        """The exit codes of a job's tasks as `qacct` has them, empty while one of them waits or runs."""
        waiting = any(line.split()[0] == job for line in self.say("qstat").splitlines() if line.split())
        return [] if waiting else re.findall(r"^exit_status +(\d+)", self.say("qacct", "-j", job), re.MULTILINE)

    def _lay_out(self) -> None:
        common = self.root / "default/common"
        for place in (common, self.folder / "qmaster/job_scripts", self.folder / "execd"):
            place.mkdir(parents=True)
        for name in ("bin", "utilbin", "util"):
            (self.root / name).symlink_to(_INSTALLED / name)
        (common / "bootstrap").write_text(_BOOTSTRAP.format(root=self.root, folder=self.folder))
        (common / "act_qmaster").write_text("localhost\n")
        (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
        kept = (_SHARED / "default-configuration").read_text()
        for name, value in _CHANGED.items():
            line = f"{name} {value.format(folder=self.folder)}\n"
            kept = re.sub(rf"^{name}\s(?:.*\\\n)*.*\n", lambda _, line=line: line, kept, flags=re.MULTILINE)
        (self.folder / "configuration").write_text(kept)
        ports = free_ports(2)
        os.environ |= {"SGE_ROOT": str(self.root), "SGE_CELL": "default"}
        os.environ |= {"SGE_QMASTER_PORT": str(ports[0]), "SGE_EXECD_PORT": str(ports[1])}
        run(str(_PROGRAMS / "spoolinit"), "classic", "libspoolc", f"{common};{self.folder}/qmaster", "init")
        resources = _SHARED / "util/resources"
        for words in (
            ["configuration", str(self.folder / "configuration")],
            ["complexes", str(resources / "centry")],
            ["usersets", str(resources / "usersets")],
            ["managers", "root"],
        ):
            run(str(_PROGRAMS / "spooldefaults"), *words)

    def _file(self, option: str, values: dict[str, str]) -> None:
        path = self.folder / f"of{option}"
        path.write_text("".join(f"{name} {value}\n" for name, value in values.items()))
        self.say("qconf", option, str(path))

    def _spawn(self, name: str) -> None:
        words = ["setpriv", "--pdeathsig", "TERM", str(_PROGRAMS / name)]
        with (self.folder / f"{name}.said").open("ab") as said:
            daemon = subprocess.Popen(
                words,
                env=os.environ | {"SGE_ND": "1"},  # stays in the foreground
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._daemons.append(daemon)

    def _wait(self, there: Callable[[], object], otherwise: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not there():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self._daemons):
                raise NotHere(f"Grid Engine did not come up: {otherwise}")
            time.sleep(0.3)

    def _end(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        for name in ("SGE_ROOT", "SGE_CELL", "SGE_QMASTER_PORT", "SGE_EXECD_PORT"):
            os.environ.pop(name, None)
        shutil.rmtree(self.folder, ignore_errors=True)
