"""A Slurm cluster of one node on this machine, made of the distribution's own packages, for the tests.

Everything that it writes lies below one folder; every process that it starts is ended by its own process
id; it listens on loopback and touches no configuration of the system. `python -m tests.slurm.cluster FOLDER`
keeps one running until Ctrl-C, for a look by hand.
"""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil

# Program -> package of Debian and Ubuntu that brings it.
PACKAGES = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
}
SYSTEM = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # daemons are not on everybody's path
ACCOUNT = "lab"
NULL = os.makedev(1, 3)  # what the pretended GPUs do: nothing, as /dev/null
N_GPUS = 2
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}

SLURM = """
ClusterName=percept
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
{loopback}
MpiDefault=none
SwitchType=switch/none
TaskPlugin=task/none
# Without cgroups, which a container may not have: memory is watched, and a job that takes too much is ended.
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=10
MinJobAge={min_job_age}
SchedulerType=sched/backfill
# At once, where a cluster of many users collects jobs for seconds.
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# A job of `urgent` takes the place of jobs of the other partitions, which go back into the queue.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{accounting}
GresTypes=gpu
# More cores than there may be, so that jobs run side by side.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 \
CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES PriorityTier=1 State=UP
PartitionName=gpu Nodes={host} PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=short Nodes={host} PriorityTier=1 MaxTime=1 State=UP
{more}
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={accounting_port}
AccountingStoragePass=socket={folder}/munge/socket
AccountingStorageEnforce=associations
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
"""
DATABASE = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounting_port}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
GRANTS = """
create database if not exists slurm;
create user if not exists 'slurm'@'localhost' identified by 'slurm';
create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';
grant all on slurm.* to 'slurm'@'localhost';
grant all on slurm.* to 'slurm'@'127.0.0.1';
"""


def why_not() -> str | None:
    """Why no cluster can be started on this machine; None where one can."""
    missing = sorted(
        {package for program, package in PACKAGES.items() if not shutil.which(program, path=SYSTEM)}
    )
    if missing:
        return f"needs the packages {' '.join(missing)}: `make test-slurm` installs them"
    if os.geteuid() != 0:
        return "needs root: the GPUs that it pretends to have are device nodes"
    return None


def free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def rule_of(comment: str) -> str:
    """Rule of a job, from the comment that the executor gives it: `rule_extract_voxels_wildcards_subj01`."""
    return comment.split("_wildcards_")[0].removeprefix("rule_")


class Cluster:
    """Controller, node and, if wanted, accounting.

    Parameters
    ----------
    folder : below which everything lies; a short path, because names of sockets are limited to 107 bytes
    accounting : with slurmdbd, and with the account `lab`, without which no job is accepted
    cpus, memory_mb : what the node says it has
    min_job_age : seconds for which the controller remembers a job that has ended; 300 is Slurm's default
    more : lines of slurm.conf after all others, over which they go; `{folder}` in them is filled in
    """

    def __init__(self, folder, *, accounting=True, cpus=4, memory_mb=16000, min_job_age=300, more=""):
        self.folder, self.accounting = Path(folder), accounting
        self.host = socket.gethostname().partition(".")[0]
        ports = ("controller_port", "node_port", "accounting_port", "database_port")
        self.settings = {
            "folder": folder,
            "host": self.host,
            "cpus": cpus,
            "memory_mb": memory_mb,
            "gpus": N_GPUS,
            "min_job_age": min_job_age,
            **dict(zip(ports, free_ports(len(ports)), strict=True)),
        }
        self.settings["more"] = more.format(**self.settings)
        self.daemons: dict[str, subprocess.Popen] = {}
        self.earlier: set[str] = set()  # jobs of tests before this one

    @property
    def environment(self):
        """What a process needs to use this cluster and no other."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        path = f"{self.folder}/bin:{Path(sys.executable).parent}:{SYSTEM}"
        return {**others, "SLURM_CONF": f"{self.folder}/etc/slurm.conf", "PATH": path}

    def ask(self, *command, check=True):
        """What a command of Slurm prints, without blanks at its ends."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=90
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def jobs(self):
        """Every job since the last `clear`: what was asked for, what was given, how it is."""
        fields = {
            "id": "JobArrayID", "comment": "Comment", "state": "State", "partition": "Partition",
            "memory": "MinMemory", "time": "TimeLimit", "given": "tres-alloc", "restarts": "RestartCnt",
        }  # fmt: skip
        wide = ",".join(f"{field}:200|" for field in fields.values())
        lines = self.ask("squeue", "--noheader", "--states=all", "--sort=i", f"--Format={wide}").splitlines()
        jobs = [dict(zip(fields, map(str.strip, line.split("|")), strict=False)) for line in lines]
        return [job for job in jobs if job["id"] not in self.earlier]

    def of_rule(self, rule):
        """Jobs of one rule, first submitted first."""
        return [job for job in self.jobs() if rule_of(job["comment"]) == rule]

    def ended(self):
        """Every job in the database of a cluster with accounting, with its rule, first submitted first."""
        names = ["id", "rule", "state", "account", "partition", "memory", "elapsed"]
        fields = "--format=JobIDRaw,Comment,State,Account,Partition,ReqMem,Elapsed"
        lines = self.ask(
            "sacct", "-X", "--noheader", "--parsable2", "--starttime=now-1days", fields
        ).splitlines()
        jobs = [dict(zip(names, line.split("|"), strict=True)) for line in lines]
        return [{**job, "rule": rule_of(job["rule"])} for job in jobs]

    # Starting and stopping.

    def start(self):
        """Start everything, and return when the node takes jobs."""
        for name in ("etc", "run", "log", "state", "spool", "munge", "dev", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(
            0o755
        )  # a temporary folder is its owner's alone; the socket of munge is everybody's
        self._write_settings()
        self._start_munge()
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        self.start_node()
        return self

    def stop(self):
        """Cancel what runs, and end the daemons in the order in which they depend on each other."""
        if self.daemons.get("slurmctld"):
            self.clear()
        for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
            self.end(name)

    def clear(self):
        """Cancel every job, wait until none is left, and speak of none of them again."""
        self.ask("scancel", "--user=root", check=False)
        self.wait_for(lambda: not self.ask("squeue", "--noheader", check=False), "the end of all jobs", 60)
        self.earlier |= {job["id"] for job in self.jobs()}

    def start_controller(self):
        """Start the controller, also again after `end("slurmctld")`: it knows its jobs from its files."""
        self.launch("slurmctld", "slurmctld", "-D")
        self.wait_for(lambda: self.ask("scontrol", "ping", check=False).endswith("UP"), "slurmctld")

    def start_node(self):
        """Start the node, also again after `fail_node`, and return when it takes jobs."""
        self.launch("slurmd", "slurmd", "-D", "-N", self.host)
        self.wait_for(lambda: self.node_state() in {"idle", "mixed", "allocated"}, "the node")

    def fail_node(self, job):
        """End the node at once with a job that it runs, as a power cut does; return when Slurm knows."""
        listed = self.ask("scontrol", "listpids", job).splitlines()[1:]
        started = [psutil.Process(int(line.split()[0])) for line in listed]
        above = {parent for process in started for parent in process.parents()}
        daemon = self.daemons.pop("slurmd")
        daemon.kill()
        for process in (*(one for one in above if one.name() == "slurmstepd"), *started):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        daemon.wait()
        self.wait_for(lambda: self.node_state().startswith("down"), "the end of the node", 120)

    def launch(self, name, *command):
        """Start a daemon in the foreground of a session of its own."""
        with (self.folder / f"log/{name}.out").open("a") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        (self.folder / f"run/{name}.started").write_text(f"{self.daemons[name].pid}\n")

    def end(self, name):
        """End one daemon, by its process id."""
        daemon = self.daemons.pop(name, None)
        if daemon is None or daemon.poll() is not None:
            return
        daemon.terminate()
        try:
            daemon.wait(timeout=20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def wait_for(self, happened, what, seconds=30):
        """Return as soon as something has happened; an error with the daemons' own words otherwise."""
        deadline = time.monotonic() + seconds
        while not happened():
            ended = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                said = "".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("log/*")))
                raise AssertionError(f"waited for {what}; ended: {ended or 'nothing'}\n{said}")
            time.sleep(0.1)

    def node_state(self):
        """State of the node, `idle` or `draining`, say."""
        return self.ask("sinfo", "--noheader", "--Node", "--format=%T", "--partition=main", check=False)

    def _write_settings(self):
        # A daemon can keep to loopback only where the machine's own name leads there.
        try:
            alone = socket.gethostbyname(self.host).startswith("127.")
        except OSError:
            alone = False
        loopback = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if alone else ""
        accounting = ACCOUNTING if self.accounting else "AccountingStorageType=accounting_storage/none"
        known = {**self.settings, "loopback": loopback}
        etc = self.folder / "etc"
        (etc / "slurm.conf").write_text(
            SLURM.format(**known, accounting=accounting.format(**known)), encoding="utf-8"
        )
        (etc / "cgroup.conf").touch()
        (etc / "gres.conf").write_text(
            f"NodeName={self.host} Name=gpu File={self.folder}/dev/gpu[0-{N_GPUS - 1}]\n"
        )
        for number in range(N_GPUS):
            device = self.folder / f"dev/gpu{number}"
            if not device.exists():
                os.mknod(device, stat.S_IFCHR | 0o666, NULL)
        # The executor takes SLURM_CONF from its steps: where a cluster is not configured in /etc, srun has to
        # find the configuration by itself.
        srun = self.folder / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={etc}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)

    def _start_munge(self):
        folder = self.folder / "munge"
        folder.chmod(0o711)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        names = ("socket", "key-file", "log-file", "pid-file", "seed-file")
        options = [f"--{name}={folder}/{name.removesuffix('-file')}" for name in names]
        self.launch("munged", "munged", "--foreground", *options)
        self.wait_for(lambda: self.ask("munge", "-n", "-S", str(folder / "socket"), check=False), "munged")

    def _start_accounting(self):
        folder = self.folder / "sql"
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, "mysql")
        where = ["--no-defaults", f"--datadir={folder}/data", f"--socket={folder}/socket"]
        client = ["--no-defaults", f"--socket={folder}/socket", "--user=root"]
        self.ask(
            "mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--user=mysql",
            "--skip-test-db", "--auth-root-authentication-method=normal",
        )  # fmt: skip
        self.launch(
            "mariadbd", "mariadbd", *where, "--user=mysql", "--bind-address=127.0.0.1", "--skip-log-bin",
            f"--port={self.settings['database_port']}", f"--pid-file={folder}/pid",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        ping = ("mariadb-admin", *client, "ping")
        self.wait_for(lambda: "alive" in self.ask(*ping, check=False), "mariadbd", 60)
        self.ask("mariadb", *client, f"--execute={GRANTS}")
        path = self.folder / "etc/slurmdbd.conf"
        path.write_text(DATABASE.format(**self.settings))
        path.chmod(0o600)  # slurmdbd refuses others: the password is in it
        self.start_database()
        sacctmgr = ["sacctmgr", "--immediate", "add"]
        self.ask(*sacctmgr, "cluster", "percept")
        self.ask(*sacctmgr, "account", ACCOUNT, "Description=tests", "Organization=tests")
        self.ask(*sacctmgr, "user", "root", f"Account={ACCOUNT}", check=False)  # root may be there already

    def start_database(self):
        """Start slurmdbd, also again after `end("slurmdbd")`."""
        self.launch("slurmdbd", "slurmdbd", "-D")
        self.wait_for(
            lambda: "Cluster" in self.ask("sacctmgr", "show", "cluster", check=False), "slurmdbd", 60
        )


if __name__ == "__main__":
    running = Cluster(sys.argv[1]).start()
    for name in ("SLURM_CONF", "PATH"):
        print(f"export {name}={running.environment[name]}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        running.stop()
