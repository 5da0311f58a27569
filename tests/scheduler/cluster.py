"""A cluster inside one test: hosts with network addresses of their own, and Slurm on them.

All of it is in namespaces of the kernel that end with the test, however that ends: processes, mounts, networks and
shared memory. Nothing else of the machine is touched, and what is left are files in the test's scratch folder.
"""
import functools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

from common import ROOT, Skip

INSIDE = "AUTOLORA_TEST_NAMESPACES"
NAMESPACES = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--propagation", "private",
              "--uts", "--net", "--ipc"]
GATEWAY = "10.77.0.254"


def run(*command, **how):
    """Output of a command that has to work."""
    ran = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, **how)
    assert ran.returncode == 0, f"{ran.args}: exit code {ran.returncode}\n{ran.stdout}"
    return ran.stdout.strip()


def wait_until(is_so, seconds, what, pause=0.05):
    end = time.monotonic() + seconds
    while not (value := is_so()):
        assert time.monotonic() < end, f"not in {seconds} s: {what() if callable(what) else what}"
        time.sleep(pause)
    return value


def isolated(*programs):
    """A test that runs in namespaces of its own, and needs these programs; skipped where it cannot."""
    def decorate(test):
        @functools.wraps(test)
        def start():
            if INSIDE in os.environ:
                prepare()
                return test()
            missing = [name for name in (*programs, "ip", "unshare", "nsenter") if find(name) is None]
            if missing:
                raise Skip(f"not there: {', '.join(missing)} (make scheduler-setup)")
            if os.geteuid() != 0:
                raise Skip("needs root, to make namespaces")
            tried = subprocess.run([*NAMESPACES, "sh", "-c", "ip link add br0 type bridge && mount -t tmpfs x /mnt"],
                                   capture_output=True, text=True)
            if tried.returncode != 0:
                raise Skip(f"no namespaces here: {tried.stderr.strip()}")
            # The shell waits for the orphans that a first process inherits.
            command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, ROOT / "tests" / "run.py", "--one",
                       test.__code__.co_filename, test.__name__]
            sys.exit(subprocess.run([*NAMESPACES, *command], env={**os.environ, INSIDE: "1"}).returncode)
        return start
    return decorate


def find(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def prepare():
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    os.environ["OMPI_MCA_mpi_yield_when_idle"] = "1"  # the ranks of all hosts share this machine's cores
    run("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", "/dev/shm")
    run("hostname", "login")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "br0")
    run("ip", "link", "set", "br0", "up")


class Hosts:
    """Hosts n1, n2, ... with the addresses 10.77.0.1, ..., on a bridge; /dev/shm is their own."""

    def __init__(self, count, folder):
        self.names = [f"n{i}" for i in range(1, count + 1)]
        self.folder, self.processes = pathlib.Path(folder), {}
        names = "".join(f"{self.address(name)} {name}\n" for name in self.names)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{GATEWAY} login\n{names}")
        run("mount", "--bind", self.folder / "hosts", "/etc/hosts")
        for name in self.names:
            self.start(name)
        self.write_remote_shell()

    @staticmethod
    def address(name):
        return f"10.77.0.{name[1:]}"

    def start(self, name):
        process = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "sh", "-c",
             f"hostname {name} && mount -t tmpfs -o mode=1777 shm /dev/shm && echo ready && exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n", name
        self.processes[name] = process
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", process.pid)
        run("ip", "link", "set", f"to-{name}", "master", "br0", "up")
        for arguments in ("link set lo up", f"addr add {self.address(name)}/24 dev eth0", "link set eth0 up"):
            run(*self.on(name), "ip", *arguments.split())

    def on(self, name):
        """What a command is prefixed with to run on a host."""
        return ["nsenter", "--target", str(self.processes[name].pid), "--net", "--uts", "--mount", f"--wd={os.getcwd()}",
                "--"]

    def write_remote_shell(self):
        """remote-shell HOST WORDS...: as ssh, which gives the words to a shell; with none of the caller's variables."""
        cases = "".join(f'{name}) set -- {process.pid} "$@" ;;\n' for name, process in self.processes.items())
        self.remote_shell = self.folder / "remote-shell"
        self.remote_shell.write_text(
            f'#!/bin/sh\nhost=$1\nshift\necho $host >> {self.folder}/calls\ncase $host in\n{cases}*) exit 255 ;;\nesac\n'
            'pid=$1\nshift\nexec nsenter --target $pid --net --uts --mount --wd=/ -- '
            'env -i PATH="$PATH" HOME="$HOME" OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_mpi_yield_when_idle=1 sh -c "$*"\n')
        self.remote_shell.chmod(0o755)


CONFIGURATION = """
ClusterName=scratch
SlurmctldHost=login({gateway})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=1
ReturnToService=2
KillWait=5
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PlugStackConfig={folder}/plugstack.conf
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


class Slurm:
    """slurmctld here, a slurmd on each host, each with `cores` cores, whatever the machine has. A job that is queued
    again starts some 6 s later (cred_expire; two minutes by default)."""

    def __init__(self, hosts, cores=4):
        self.hosts, self.folder = hosts, hosts.folder / "slurm"
        for name in ("munge", "state", "log", *(f"spool/{name}" for name in hosts.names)):
            (self.folder / name).mkdir(parents=True)
        self.write_configuration(cores)
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        self.start_munge()
        self.start("slurmctld", "slurmctld", "-D")
        self.started = time.monotonic()
        for name in hosts.names:
            self.start_node(name)
        wait_until(lambda: self.idle_nodes() == len(hosts.names), 20, self.logs)

    def write_configuration(self, cores):
        nodes = "".join(
            f"NodeName={name} NodeHostname={name} NodeAddr={self.hosts.address(name)} CPUs={cores} Boards=1 "
            f"SocketsPerBoard=1 CoresPerSocket={cores} ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN\n"
            for name in self.hosts.names)
        general, partition = CONFIGURATION.format(folder=self.folder, gateway=GATEWAY).rsplit("PartitionName", 1)
        files = {"slurm.conf": f"{general}{nodes}PartitionName{partition}",
                 "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n",  # found out by looking for mounts else
                 "plugstack.conf": "optional spank_pbs.so\n",  # the variables PBS_*
                 "mpi.conf": ""}
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def start(self, name, *command):
        with open(self.folder / "log" / name, "w") as log:
            return subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def logs(self):
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in (self.folder / "log").iterdir())

    def start_munge(self):
        folder = self.folder / "munge"
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        # A scratch folder's parents may be writable by all, which --force accepts.
        self.start("munged", "munged", "--foreground", "--force", f"--key-file={folder}/key",
                   f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--log-file={folder}/log",
                   f"--seed-file={folder}/seed", "--num-threads=2")
        wait_until((folder / "socket").exists, 10, self.logs)

    def start_node(self, name):
        # Its steps keep files in one place by the number of the job alone: that place is the node's own.
        scratch, settings = self.folder / "tmp" / name, self.folder / f"mpi.{name}.conf"
        scratch.mkdir(parents=True)
        scratch.chmod(0o1777)
        settings.write_text(f"PMIxCliTmpDirBase={scratch}\n")
        run(*self.hosts.on(name), "mount", "--bind", settings, self.folder / "mpi.conf")
        self.start(f"slurmd.{name}", *self.hosts.on(name), "slurmd", "-D", "-N", name)

    def idle_nodes(self):
        listed = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True)
        return listed.stdout.split().count("idle")

    def state(self, job):
        listed = subprocess.run(["squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T"], capture_output=True,
                                text=True)
        return listed.stdout.strip()

    def wait(self, job, seconds=60, states=FINAL):
        """The state in which a job, or all elements of an array, end."""
        def is_there():
            found = self.state(job).split()
            return found and all(state in states for state in found)
        wait_until(is_there, seconds, lambda: f"job {job} is {self.state(job)}\n{self.logs()}", 0.1)
        return self.state(job)

    def field(self, job, name):
        """Of scontrol show job."""
        fields = dict(word.split("=", 1) for word in run("scontrol", "-o", "show", "job", job).split() if "=" in word)
        return fields[name]
