"""A real Slurm on loopback in a throw-away directory: munged, slurmctld, several slurmd with fake GPUs, licences, a cloud pool.

Everything runs in the foreground as an unprivileged user and is ended by its own pid. Works from Debian's packages;
`missing()` says what is not installed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NODES = ("gpu1", "gpu2", "gpu3")
CLOUD = ("vm1", "vm2")
TOOLS = ("munged", "slurmctld", "slurmd", "squeue", "sinfo", "scontrol", "sbatch", "scancel")
SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")
QUIET = subprocess.DEVNULL

CONF = """\
ClusterName=aiopstest
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port1}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={s}/run/munge.sock
CredType=cred/munge
PrivateData=cloud
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={s}/state
SlurmdSpoolDir={s}/spool/%n
SlurmctldPidFile={s}/run/slurmctld.pid
SlurmdPidFile={s}/run/slurmd-%n.pid
SlurmctldLogFile={s}/log/slurmctld.log
SlurmdLogFile={s}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldParameters=idle_on_node_suspend,cloud_reg_addrs
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0,preempt_reorder_count=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
PriorityType=priority/multifactor
PriorityWeightPartition=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=1
MinJobAge={min_job_age}
FirstJobId=1
MaxJobId={max_job_id}
Licenses=store_gbps:40,net_gbps:100,matlab:3
SuspendProgram={s}/bin/suspend
ResumeProgram={s}/bin/resume
SuspendTime=600
SuspendTimeout=5
ResumeTimeout=60
SuspendRate=0
ResumeRate=0
SuspendExcNodes=gpu[1-3]
MaxNodeCount=32
{extra}
NodeName=DEFAULT CPUs=8 Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=16000
NodeName=gpu[1-3] {at} Port=[{node1}-{node3}] Gres=gpu:h200:8 Feature=h200,rackA State=UNKNOWN
NodeName=vm[1-2] {at} Port=[{node4}-{node5}] Gres=gpu:a100:4 Feature=a100,burst State=CLOUD
PartitionName=DEFAULT MaxTime=INFINITE State=UP
PartitionName=train Nodes=gpu[1-3],vm[1-2] Default=YES PriorityTier=10
PartitionName=urgent Nodes=gpu[1-3],vm[1-2] PriorityTier=100 PreemptMode=OFF
"""
GRES = """\
AutoDetect=off
NodeName=gpu[1-3] Name=gpu Type=h200 File={s}/dev/nvidia[0-7]
NodeName=vm[1-2] Name=gpu Type=a100 File={s}/dev/nvidia[0-3]
"""
# slurmctld starts its programs with signals blocked; a slurmd that inherits that mask cannot launch jobs
RESUME = """\
#!/usr/bin/env python3
import os, signal, subprocess, sys
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.environ["SLURM_CONF"] = "{s}/etc/slurm.conf"
hosts = subprocess.run(["{scontrol}", "show", "hostnames", sys.argv[1]], capture_output=True, text=True).stdout.split()
for host in hosts:
    os.makedirs("{s}/spool/" + host, exist_ok=True)
    null = subprocess.DEVNULL
    child = subprocess.Popen(["{slurmd}", "-D", "-b", "-N", host], stdin=null, stdout=null, stderr=null, start_new_session=True)
    open("{s}/run/cloud-" + host, "w").write(str(child.pid))
"""
SUSPEND = """\
#!/usr/bin/env python3
import os, signal, subprocess, sys
os.environ["SLURM_CONF"] = "{s}/etc/slurm.conf"
hosts = subprocess.run(["{scontrol}", "show", "hostnames", sys.argv[1]], capture_output=True, text=True).stdout.split()
for host in hosts:
    try:
        os.kill(int(open("{s}/run/cloud-" + host).read()), signal.SIGTERM)
    except (OSError, ValueError):
        pass
"""


def missing() -> str:
    """Which of Slurm's programs are not installed; empty where all are."""
    return ", ".join(tool for tool in TOOLS if found(tool) is None)


def found(tool: str) -> str | None:
    return shutil.which(tool, path=os.pathsep.join((os.environ.get("PATH", ""), *SBIN)))


def free_ports(count: int) -> int:
    """First of `count` neighbouring free ports."""
    for first in range(21000 + os.getpid() * 37 % 9000, 62000, count + 3):
        sockets = []
        try:
            for port in range(first, first + count):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")


class SlurmServer:
    """One cluster; `start` to `stop`."""

    def __init__(self, max_job_id: int = 65000, min_job_age: int = 300, extra: str = "") -> None:
        account = pwd.getpwuid(os.geteuid())
        if os.geteuid() == 0:
            names = {row.pw_name for row in pwd.getpwall()}
            account = pwd.getpwnam("slurm" if "slurm" in names else "nobody")
        self.user = account.pw_name
        self.drop = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        self.s = Path(tempfile.mkdtemp(prefix="aiops-slurm-"))
        for name in ("run", "state", "log", "etc", "dev", "bin", "control", *(f"spool/{n}" for n in (*NODES, *CLOUD))):
            (self.s / name).mkdir(parents=True)
        first = free_ports(7)
        ports = {"port": first, "port1": first + 1} | {f"node{i}": first + 1 + i for i in range(1, 6)}
        ages = {
            "at": "NodeHostname=localhost NodeAddr=127.0.0.1",
            "max_job_id": max_job_id,
            "min_job_age": min_job_age,
            "extra": extra,
        }
        (self.s / "etc/slurm.conf").write_text(CONF.format(s=self.s, user=self.user, **ports, **ages))
        (self.s / "etc/gres.conf").write_text(GRES.format(s=self.s))
        (self.s / "etc/cgroup.conf").write_text("CgroupAutomount=no\n")
        (self.s / "etc/munge.key").write_bytes(os.urandom(128))
        (self.s / "etc/munge.key").chmod(0o400)
        for index in range(8):
            (self.s / f"dev/nvidia{index}").symlink_to("/dev/null")
        for name, text in (("resume", RESUME), ("suspend", SUSPEND)):
            (self.s / "bin" / name).write_text(text.format(s=self.s, scontrol=found("scontrol"), slurmd=found("slurmd")))
            (self.s / "bin" / name).chmod(0o755)
        self.s.chmod(0o755)
        if self.drop:
            for path in (self.s, *self.s.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
        self.env = {
            "PATH": os.pathsep.join(("/usr/local/bin:/usr/bin:/bin", *SBIN)),
            "SLURM_CONF": str(self.s / "etc/slurm.conf"),
        }
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    # -- life ----------------------------------------------------------------------------------------------------------

    def spawn(self, name: str, argv: list[str]) -> None:
        out = (self.s / "log" / f"{name}.out").open("ab")
        self.daemons[name] = subprocess.Popen(
            argv, env=self.env, cwd=self.s, stdin=QUIET, stdout=out, stderr=out, start_new_session=True, **self.drop
        )
        out.close()

    def start(self) -> None:
        run, munged = self.s / "run", found("munged") or "munged"
        files = [f"--socket={run}/munge.sock", f"--pid-file={run}/munged.pid", f"--seed-file={run}/munged.seed"]
        self.spawn(
            "munged", [munged, "-F", "--force", f"--key-file={self.s}/etc/munge.key", *files, f"--log-file={self.s}/log/m"]
        )
        wait_for(lambda: (run / "munge.sock").exists(), "munge socket")
        self.start_controller(clean=True)
        for node in NODES:
            self.spawn(node, [found("slurmd") or "slurmd", "-D", "-N", node])
        wait_for(self.idle, "idle nodes", 30.0)

    def start_controller(self, clean: bool = False) -> None:
        self.spawn("slurmctld", [found("slurmctld") or "slurmctld", "-D", *(["-c"] if clean else [])])
        wait_for(lambda: "UP" in self.run("scontrol", "ping", check=False).stdout, "slurmctld", 20.0)

    def idle(self) -> bool:
        out = self.run("sinfo", "-h", "-N", "-p", "train", "-n", ",".join(NODES), "-o", "%t", check=False).stdout.split()
        return out == ["idle"] * len(NODES)

    def kill_controller(self) -> None:
        """kill -9, as a crash would."""
        daemon = self.daemons.pop("slurmctld")
        daemon.kill()
        daemon.wait()

    def stop_controller(self) -> None:
        daemon = self.daemons.pop("slurmctld")
        daemon.terminate()
        daemon.wait()

    def stop(self) -> None:
        if "slurmctld" in self.daemons:
            self.run("scancel", "--user", self.user, "--signal=KILL", "--full", check=False)
            self.run("scancel", "--user", self.user, check=False)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(self.s, ignore_errors=True)

    def processes(self) -> list[int]:
        """Pids of what belongs to this cluster by its directory: cloud slurmds, step daemons, their jobs. Zombies are not."""
        mine = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                text = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(self.s).encode() in text and state not in "ZX" and int(place.name) != os.getpid():
                mine.append(int(place.name))
        return mine

    # -- use -----------------------------------------------------------------------------------------------------------

    def run(self, *argv: str, check: bool = True, timeout: float = 15.0) -> subprocess.CompletedProcess[str]:
        tool = found(argv[0]) or argv[0]
        done = subprocess.run(
            [tool, *argv[1:]], env=self.env, cwd="/", stdin=QUIET, capture_output=True, text=True, timeout=timeout, **self.drop
        )
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.stderr or done.stdout}")
        return done

    def submit(self, *options: str, script: str = "exec sleep 600") -> str:
        """Job id of a batch job."""
        path = self.s / "etc" / "job.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        quiet = ["--parsable", "--mem=100", "-o", "/dev/null", "-D", str(self.s)]
        return self.run("sbatch", *quiet, *options, str(path)).stdout.strip()

    def job(self, id: str) -> dict[str, str]:
        """One job's record as scontrol shows it."""
        out = self.run("scontrol", "-o", "show", "job", id, check=False).stdout
        return dict(re.findall(r"(\w[\w:/-]*)=(\S*)", out))

    def logged(self, id: str) -> str:
        """What the daemons wrote about a job, and the last that every slurmd wrote."""
        paths = sorted((self.s / "log").glob("slurm*.log"))
        logs = {path.name: path.read_text(errors="replace").splitlines() for path in paths}
        about = {name: [x for x in lines if re.search(rf"JobId={id}\b|StepId={id}\b", x)] for name, lines in logs.items()}
        return "\n".join(f"{name}: {line}" for name, lines in logs.items() for line in (*about[name][-12:], "...", *lines[-6:]))

    def wait_state(self, id: str, *states: str, timeout: float = 20.0) -> dict[str, str]:
        try:
            wait_for(lambda: self.job(id).get("JobState") in states, f"job {id} to be {states}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.job(id)}\n{self.logged(id)}") from None
        return self.job(id)

    def clean(self) -> None:
        """As after the start: no jobs, no reservations, all nodes in service."""
        self.run("scancel", "--user", self.user, check=False)
        for name in re.findall(r"ReservationName=(\S+)", self.run("scontrol", "-o", "show", "res").stdout):
            wait_for(
                lambda name=name: self.run("scontrol", "delete", f"ReservationName={name}", check=False).returncode == 0, name
            )
        self.run("scontrol", "update", "NodeName=gpu[1-3]", "State=RESUME", check=False)
        wait_for(self.idle, "idle nodes", 30.0)


def wait_for(holds, what: str, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"no {what} within {timeout} s"
        time.sleep(0.05)
