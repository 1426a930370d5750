"""A real SLURM on this machine: munge, slurmctld and slurmd from Debian's packages, one node, two pretended GPUs.

It needs root (or passwordless sudo is not tried), no systemd and no cgroups. The GPUs are character devices like
/dev/null: SLURM counts and hands them out, and nothing can be computed on them.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmdPort={port1}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
MinJobAge=30
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=01:00:00 State=UP
PartitionName=gpu Nodes={host} MaxTime=01:00:00 State=UP
"""


def why_not() -> str:
    """Why a SLURM cannot be started here, if it cannot."""
    missing = [name for name in (*DAEMONS, "sbatch", "srun") if shutil.which(name, path=_path()) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "SLURM's daemons are started as root"


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start SLURM, and stop it at the end.

    Parameters
    ----------
    folder : Path
        For its configuration, state and logs.

    Yields
    ------
    dict
        The environment in which sbatch and its kind find it.
    """
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "log"):
        (folder / name).mkdir(parents=True)
    hosts = Path("/etc/hosts")
    if host not in hosts.read_text().split():
        with hosts.open("a") as file:
            file.write(f"127.0.0.1 {host}\n")
    for index in range(2):
        os.mknod(folder / f"fakegpu{index}", 0o666 | 0o020000, os.makedev(1, 3))
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    memory = int(psutil.virtual_memory().total / 2**20 * 0.9)
    port = _free_port()
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, memory=memory, port=port, port1=port + 1))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/fakegpu[0-1]\n")
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    options = [f"--{key}={folder / value}" for key, value in names.items()]
    conf = str(folder / "slurm.conf")
    try:
        for command in (
            ["munged", "--force", *options, f"--log-file={folder}/log/munged.log"],
            ["slurmctld", "-c", "-f", conf],
            ["slurmd", "-c", "-f", conf],
        ):
            subprocess.run(command, env=environment, check=True, timeout=30)
        _wait_until_idle(environment)
        yield environment
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            stop(folder / f"{name}.pid")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_idle(environment: dict[str, str]) -> None:
    for _ in range(60):
        found = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True, check=False
        )
        if "idle" in found.stdout:
            return
        time.sleep(0.5)
    raise RuntimeError(f"SLURM's node does not become idle: {found.stdout} {found.stderr}")


def stop(pid_file: Path) -> None:
    """End a daemon."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return
