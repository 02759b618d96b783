"""A SLURM of our own: a controller and two nodes on this machine, started for these tests and stopped by process id.

It has its own configuration, ports and state and listens on the loopback address only; the machine's own SLURM, if there is one, is
not touched. It needs root, because slurmd does, and Debian's slurmctld, slurmd and slurm-client (scripts/setup --dev).
"""

import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

import oracle  # noqa: E402
import runner  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
TOOLS = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "setpriv", "useradd")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
NODES = ("n1", "n2")
# What all MPI programs here are told: share the cores in peace; and the two nodes are one machine, whose shared memory cannot tell them apart.
SETUP = """export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# A fault is for the first start of a job.
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || unset SHARDWELD_FAULT
"""
CONF = """ClusterName=weldtest
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
{listen}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/slurmd-%n
TmpFS={root}/tmp-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=3
OverTimeLimit=0
MinJobAge=900
MailProg=/bin/true
Epilog={root}/epilog-node
EpilogSlurmctld={root}/epilog-controller
NodeName=n1 NodeHostname={host} NodeAddr={address} Port={ports[1]} CPUs=16 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr={address} Port={ports[2]} CPUs=16 RealMemory=4000
PartitionName=cpu Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def name_this_machine():
    """What this machine is called and where it listens: (host, address, line of slurm.conf).

    Without authentication nobody else may reach it, so it listens where its name leads to, and that has to be the loopback address. In a
    namespace of our own (we are root, mostly of a container) the name is localhost. Where there can be none, CI listens everywhere.
    """
    CLONE_NEWUTS = 0x04000000
    if LIBC.unshare(CLONE_NEWUTS) == 0:
        socket.sethostname("localhost")
    host = socket.gethostname().split(".")[0]
    try:
        address = socket.gethostbyname(host)
    except OSError:
        address = "nowhere"
    if address.startswith("127."):
        return host, address, "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"
    if os.environ.get("CI") != "true":
        pytest.skip(f"{host} is {address}: SLURM without authentication would be open to others, and there is no namespace to hide it in")
    return host, "127.0.0.1", ""


def end_with_parent():
    """Between fork and exec: should these tests be killed, so are their daemons."""
    PR_SET_PDEATHSIG = 1
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_ports(n):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def write(path, text, mode=0o644):
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


class Site:
    """The cluster, as seen from a shell on it."""

    def __init__(self, root):
        self.root = root
        self.daemons = []
        self.opt = os.path.join(root, "opt dir")  # where the program is installed; everybody may read it
        self.program = os.path.join(self.opt, "shardweld")
        self.scripts = os.path.join(self.opt, "slurm")
        self.spools = {name: os.path.join(root, f"requests-{name}") for name in ("node", "controller")}

    # ---- start and stop ---------------------------------------------------------------------------

    def lay_out(self):
        host, address, listen = name_this_machine()
        for name in ("state", *(f"{what}-{node}" for what in ("slurmd", "tmp") for node in NODES)):
            os.mkdir(os.path.join(self.root, name))
        for node in NODES:
            os.chmod(os.path.join(self.root, f"tmp-{node}"), 0o1777)
        os.mkdir(self.opt)
        runner.install(self.opt)
        shutil.copytree(os.path.join(ROOT, "slurm"), self.scripts)
        for name, spool in self.spools.items():
            os.mkdir(spool, 0o700)
            call = f"SHARDWELD_SPOOL='{spool}' '{self.scripts}/epilog.sh'"
            write(f"{self.root}/epilog-{name}", f"#!/bin/bash\n{call}\nstatus=$?\necho $SLURM_JOB_ID $status >>'{self.root}/epilogs'\nexit $status\n", 0o755)
        self.setup = write(f"{self.root}/setup.sh", SETUP)
        self.conf = write(f"{self.root}/slurm.conf", CONF.format(root=self.root, host=host, address=address, listen=listen, ports=free_ports(3)))

    def daemon(self, name, *args):
        with open(f"{self.root}/{name}-{len(self.daemons)}.out", "wb") as out:
            process = subprocess.Popen(
                [name, "-D", *args], env=self.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=end_with_parent
            )
        self.daemons.append(process)

    def start(self):
        self.lay_out()
        self.daemon("slurmctld")
        for node in NODES:
            self.daemon("slurmd", "-N", node)
        self.until(lambda: self.run("sinfo", "-hNo", "%T").stdout.split() == ["idle"] * len(NODES), 30, "nodes that are idle")

    def stop(self):
        """Nodes first; then what is left of jobs."""
        if not self.daemons:
            return
        self.run("scancel", "--user=root", check=False)
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.processes(lambda pid: self.root.encode() in read(f"/proc/{pid}/environ")):
            os.kill(pid, signal.SIGKILL)

    # ---- commands ---------------------------------------------------------------------------------

    def environment(self, **more):
        return {"PATH": PATH, "HOME": "/root", "USER": "root", "LANG": "C.UTF-8", "SLURM_CONF": self.conf, **more}

    def run(self, *command, cwd=None, env=None, timeout=60, check=True, user=None):
        """stdout and stderr as text. env: added to a small environment."""
        as_user = [] if user is None else ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
        got = subprocess.run(
            [*as_user, *map(str, command)], cwd=cwd, env=self.environment(**(env or {})), capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or got.returncode == 0, f"{command}: status {got.returncode}\n{got.stdout}{got.stderr}"
        return got

    def script(self, name, *args, env=None, **more):
        """A script of slurm/, told where the program is."""
        return self.run(f"{self.scripts}/{name}", *args, env=self.told(env), **more)

    def told(self, env=None):
        return {"SHARDWELD": self.program, "SHARDWELD_SETUP": self.setup, **(env or {})}

    def weld(self, *args, options=(), env=None, **more):
        """Submit weld.sbatch; the job's number."""
        return self.run("sbatch", "--parsable", *options, f"{self.scripts}/weld.sbatch", *args, env=self.told(env), **more).stdout.strip()

    def batch(self, text, cwd, options=(), env=None, **more):
        """Submit a batch script; the job's number. Its output goes to training.out in cwd."""
        path = write(f"{cwd}/training.sh", f"#!/bin/bash\n. '{self.setup}'\n{text}\n", 0o755)
        return self.run("sbatch", "--parsable", "--output=training.out", *options, path, cwd=cwd, env=self.told(env), **more).stdout.strip()

    # ---- looking ----------------------------------------------------------------------------------

    def show(self, job):
        """What `scontrol show job` says, as a dictionary."""
        text = self.run("scontrol", "-o", "show", "job", job).stdout
        return dict(re.findall(r"(?:^| )([A-Za-z:/]+)=(.*?)(?= [A-Za-z:/]+=|\s*$)", text))

    def outcome(self, job, timeout=60):
        """Wait for the end: state and exit status, as a user sees them."""
        self.until(lambda: self.show(job)["JobState"] in OVER, timeout, f"the end of job {job}")
        got = self.show(job)
        return got["JobState"], got["ExitCode"]

    def until(self, true, timeout, what):
        end = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < end, f"waited {timeout} s for {what}\n{self.run('squeue', check=False).stdout}"
            time.sleep(0.1)

    def processes(self, which):
        return [int(e) for e in os.listdir("/proc") if e.isdigit() and int(e) != os.getpid() and which(e)]

    def held(self, job):
        """Ranks of a job that have stopped themselves."""
        mark = f"SLURM_JOB_ID={job}\0".encode()

        def is_held(pid):
            stat = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            return stat[:1] == [b"T"] and mark in read(f"/proc/{pid}/environ")

        return self.processes(is_held)

    def wait_held(self, job):
        self.until(lambda: self.held(job), 60, f"a rank of job {job} that stands still")


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


@pytest.fixture(scope="session")
def site():
    if os.geteuid() != 0:
        pytest.skip("slurmd and the test user need root")
    missing = [t for t in TOOLS if not shutil.which(t, path=PATH)]
    assert not missing, f"{missing} missing: run scripts/setup --dev"
    root = tempfile.mkdtemp(prefix="weld-slurm-")
    os.chmod(root, 0o755)
    site = Site(root)
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))  # of a time limit: clean up first
    try:
        site.start()
        yield site
    finally:
        site.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def healthy(site):
    """After each test: no node was drained, and no job of it is left to disturb the next."""
    yield
    states = set(site.run("sinfo", "-hNo", "%T").stdout.split())
    assert not states & {"drained", "draining", "down"}, site.run("sinfo", "-R").stdout


@pytest.fixture(scope="session")
def user(site):
    """Somebody who is not root."""
    name = f"weldtest{os.getpid()}"
    home = os.path.join(site.root, "home")
    subprocess.run(["useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/sh", name], check=True, timeout=30)
    try:
        who = pwd.getpwnam(name)
        os.mkdir(home, 0o755)
        os.chown(home, who.pw_uid, who.pw_gid)
        yield who
    finally:
        site.run("scancel", f"--user={name}", check=False)
        subprocess.run(["userdel", "-f", name], check=False, timeout=30, stderr=subprocess.DEVNULL)


class Work:
    """A directory with a sharded checkpoint; its name has a blank in it."""

    def __init__(self, path, shards=4, rows=48):
        rng = np.random.default_rng(7)
        shapes = {f"layers.{i}.weight": (rows + i, 16) for i in range(6)}
        self.path = str(path)
        self.src, self.out = f"{path}/my ckpt", f"{path}/welded ckpt"
        self.tensors = {n: oracle.random_tensor(rng, "F32", s) for n, s in shapes.items()}
        self.expect = oracle.consolidated(self.tensors, oracle.numbered({n: 1 for n in self.tensors}))
        self.make(shards)

    def make(self, shards=4):
        oracle.write_sharded(self.src, self.tensors, {n: oracle.boxes_of(t.shape, (shards,), (0,)) for n, t in self.tensors.items()})

    def lose(self, shard=2):
        os.unlink(f"{self.src}/{oracle.shard_name(shard)}")

    def check(self):
        """The welded checkpoint is there, and nothing but it."""
        assert oracle.difference(oracle.tree(self.out), self.expect) == "", self.told()

    def told(self):
        """All that jobs have printed."""
        return "\n".join(read(f"{self.path}/{name}").decode() for name in sorted(os.listdir(self.path)) if name.endswith(".out"))

    def log(self, job):
        with open(f"{self.path}/weld-{job}.out") as f:
            return f.read()

    def lines(self, job):
        """The lines with results of a weld job."""
        return [line for line in self.log(job).splitlines() if line.startswith("weld: ")]

    def training(self):
        return read(f"{self.path}/training.out").decode()

    def give(self, user):
        for base, _, names in os.walk(self.path):
            for path in (base, *(f"{base}/{n}" for n in names)):
                os.chown(path, user.pw_uid, user.pw_gid)


@pytest.fixture
def work(site, request):
    path = tempfile.mkdtemp(prefix="work-", dir=site.root)
    os.chmod(path, 0o755)
    return Work(path)
