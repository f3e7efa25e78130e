"""A real Slurm of one node on the loopback: two processors, one stand-in GPU, the partitions cpu and gpu."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

ETC = Path("/etc/slurm")  # Debian's place; with $SLURM_CONF alone, srun inside the jobs fails
FILES = ("slurm.conf", "gres.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")

CONFIGURATION = """
ClusterName=prvr
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
MpiDefault=none
ReturnToService=2
MinJobAge=3600
KillWait=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=12000 Gres=gpu:1
PartitionName=cpu Nodes={host} Default=YES
PartitionName=gpu Nodes={host}
"""


class Slurm:
    """One running cluster; `stop` leaves the machine as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.started: list[subprocess.Popen] = []
        self.linked: list[Path] = []
        self.made_etc = False

    def start(self) -> None:
        """Write the configuration, start munge, the controller and the node, and wait until the node is idle."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        controller, daemon = _free_ports(2)
        text = CONFIGURATION.format(host=self.host, folder=self.folder, controller=controller, daemon=daemon)
        (self.folder / "slurm.conf").write_text(text.lstrip())
        # Slurm wants a device node, not a file. Nothing opens it.
        os.mknod(self.folder / "nvidia0", 0o600 | stat.S_IFCHR, os.makedev(195, 0))
        (self.folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={self.folder}/nvidia0\n")
        self.made_etc = not ETC.exists()
        ETC.mkdir(exist_ok=True)
        for name in FILES:
            (ETC / name).symlink_to(self.folder / name)
            self.linked.append(ETC / name)
        self._munge()
        for program in (["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", self.host]):
            self._spawn(program)
        self._until("the node is idle", lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t", check=False))

    def _munge(self) -> None:
        at = self.folder
        (at / "munge.key").write_bytes(secrets.token_bytes(128))
        (at / "munge.key").chmod(0o400)
        files = {
            "key-file": "munge.key",
            "socket": "munge.socket",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        # --force: the folder lies below the world-writable /tmp
        self._spawn(["munged", "--foreground", "--force", *(f"--{option}={at / name}" for option, name in files.items())])
        self._until("munge listens", lambda: (at / "munge.socket").exists())

    def _spawn(self, command: list[str]) -> None:
        log = (self.folder / f"{command[0]}.out").open("ab")
        self.started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True))

    def _until(self, what: str, holds, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            dead = [p.args for p in self.started if p.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"Slurm did not come up ({what}; ended: {dead})\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        """The last lines of every daemon."""
        found = sorted(p for p in self.folder.iterdir() if p.suffix in (".log", ".out"))
        return "\n".join(f"--- {p.name}\n" + "\n".join(p.read_text(errors="replace").splitlines()[-15:]) for p in found)

    def ask(self, *command: str, check: bool = True) -> str:
        """Output of a Slurm command."""
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check).stdout

    def records(self) -> list[dict[str, str]]:
        """Every job the controller remembers, finished ones too, as `scontrol show job` describes them; oldest first."""
        text = self.ask("scontrol", "show", "job", "--oneliner", check=False)
        found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines() if "JobId=" in line]
        return sorted(found, key=lambda record: int(record["JobId"]))

    def report(self) -> str:
        """Versions, `sacct` and `squeue` of everything that ran. There is no accounting, so sacct reads the completed jobs' own file."""
        sacct = ("sacct", "--completion", "--format=jobid,partition,state,start,end,elapsed")
        squeue = ("squeue", "--states=all", "--sort=i", "--format=%.5i %.9P %.10T %.6M %.10l %.8m %.12b %k")
        shown = [("squeue", "--version"), ("munged", "--version"), sacct, squeue]
        return "\n".join(f"$ {' '.join(command)}\n{self.ask(*command, check=False)}" for command in shown)

    def queue(self) -> list[tuple[str, str, str]]:
        """(id, state, comment) of the jobs that wait or run; Snakemake's plugin puts the rule's name into the comment."""
        text = self.ask("squeue", "-h", "-t", "PENDING,RUNNING,COMPLETING", "-o", "%i|%T|%k")
        return [tuple(line.split("|", 2)) for line in text.splitlines()]  # type: ignore[misc]

    def stop(self) -> None:
        """Cancel everything, end the daemons and take the links out of /etc/slurm."""
        try:
            if len(self.started) == 3:
                self.ask("scancel", "--user=root", check=False)
                deadline = time.monotonic() + 15
                while self.ask("squeue", "-h", check=False).strip() and time.monotonic() < deadline:
                    time.sleep(0.3)
        finally:
            for process in reversed(self.started):
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for link in self.linked:
                link.unlink(missing_ok=True)
            if self.made_etc:
                ETC.rmdir()
            shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def missing() -> str | None:
    """Why no cluster can be started here; None when one can. Installs Debian's packages where that is allowed."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    if any((ETC / name).exists() for name in FILES):
        return f"this machine has a Slurm of its own ({ETC})"
    if _absent():
        if shutil.which("apt-get") is None:
            return f"no {', '.join(_absent())} and no apt-get to install slurm-wlm and munge"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
            subprocess.run(["apt-get", "-q", *command], env=environment, capture_output=True, timeout=280, check=False)
    return f"slurm-wlm and munge could not be installed: no {', '.join(_absent())}" if _absent() else None


def _absent() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]
