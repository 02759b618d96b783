"""File systems of many kinds, made on this machine and unmade again, each under two mounts where it can have two.

For a process that is alone with its mounts, network and process ids, as make check-fs makes it: when that ends, whatever was mounted or runs
ends with it. `with Xfs(directory) as room:`; NotMade says why this machine has none. Volumes are sparse files of some hundred MB.
"""

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ADDRESS = "10.78.0.1"
MIB = 1 << 20
SECONDS = 60  # for anything that a server takes to begin, or to say what it knows


class NotMade(Exception):
    pass


def sh(*words, **how):
    """Its output; NotMade with what it said."""
    words = [str(w) for w in words]
    try:
        done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * SECONDS, **how)
    except (FileNotFoundError, subprocess.TimeoutExpired) as e:
        raise NotMade(f"{words[0]}: {e}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["status " + str(done.returncode)]
        raise NotMade(f"{words[0]}: {said[0]}")
    return done.stdout


def until(true, what):
    end = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > end:
            raise NotMade(f"{what}: not within {SECONDS} s")
        time.sleep(0.1)


def alone():
    """A network that nobody else has: with it come the other things of one's own."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def settle():
    """An address that daemons and launchers take for a network's, and empty places for what daemons write elsewhere."""
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "sw0", "type", "veth", "peer", "name", "sw1")
    for name in ("sw0", "sw1"):
        sh("ip", "link", "set", name, "up")
    sh("ip", "addr", "add", f"{ADDRESS}/24", "dev", "sw0")
    for path in ("/run", "/var/lib/glusterd", "/var/log/glusterfs"):
        if os.path.isdir(path):
            sh("mount", "-t", "tmpfs", "none", path)
    for path in ("/run/gluster", "/run/sshd"):
        os.mkdir(path)


def processes(*names):
    """Those that run a program of such a name and are no corpses."""
    out, names = [], [name[:15] for name in names]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            comm, rest = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
            if comm in names and rest.split()[0] not in "ZX":
                out.append(int(pid))
    return out


def send(sig, pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def package(name):
    """Its version; "Linux" is one."""
    if name == "Linux":
        return f"Linux {os.uname().release.split('-')[0]}"
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], check=False, capture_output=True, text=True).stdout
    return f"{name} {said.split('-')[0].split(':')[-1]}" if said else name


class Room:
    """mounts: the same files under two paths; servers: names of the programs that serve them; packages: what it is made with, and a note."""

    name = "?"
    packages = ()
    note = ""
    servers = ()
    can_limit = False  # has quotas
    says_full = "no space|quota"

    def __init__(self, base):
        self.base = Path(base)
        self.mounts = [self.base / "m1", self.base / "m2"]
        self.views = self.mounts  # who looks sees here what is there
        self.undo = contextlib.ExitStack()

    def __enter__(self):
        for path in self.mounts:
            path.mkdir()
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.undo.close()
        shutil.rmtree(self.base, ignore_errors=True)

    def make(self):
        raise NotImplementedError

    def versions(self):
        return ", ".join(filter(None, [*map(package, self.packages), self.note]))

    def later(self, *words):
        """What is done at the end, whatever becomes of it."""
        self.undo.callback(subprocess.run, [str(w) for w in words], check=False, capture_output=True, stdin=subprocess.DEVNULL)

    def mounted(self, path, *words):
        """Mount by these words, and unmount at the end."""
        sh(*words)
        until(lambda: os.path.ismount(path), words[0])
        self.later("umount", "-l", path)

    def killed(self, *names):
        """Daemons that are, at the end."""
        self.undo.callback(lambda: send(signal.SIGKILL, processes(*names)))

    def image(self, name, size, *mkfs):
        """A sparse file with a file system in it."""
        path = self.base / name
        with open(path, "wb") as f:
            f.truncate(size)
        sh(*mkfs, path)
        return path

    def tmpfs(self):
        """A small disk."""
        disk = self.base / "disk"
        disk.mkdir()
        self.mounted(disk, "mount", "-t", "tmpfs", "-o", f"size={48 * MIB}", "none", disk)
        return disk

    def again(self):
        """The first mount under the other path too."""
        self.mounted(self.mounts[1], "mount", "--bind", *self.mounts)

    # ---- what may be done to it ----

    def stop(self):
        """Servers answer no more."""
        send(signal.SIGSTOP, processes(*self.servers))

    def go_on(self):
        send(signal.SIGCONT, processes(*self.servers))

    def kill(self):
        send(signal.SIGKILL, processes(*self.servers))
        until(lambda: not processes(*self.servers), "end of a server")

    def restore(self):
        """After kill()."""
        raise NotImplementedError

    def fill(self, leave):
        """Until there is room for so many bytes more, or less. Random bytes: some compress."""
        block = os.urandom(MIB)
        for i in range(6):  # bricks are chosen by name
            try:
                with open(self.views[0] / f"filler{i}", "wb", buffering=0) as f:
                    while True:
                        f.write(block)
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
        whole = self.views[0] / "filler0"
        os.truncate(whole, max(whole.stat().st_size - leave, 0))
        os.sync()

    def empty(self):
        for path in self.views[0].glob("filler*"):
            path.unlink()
        os.sync()

    def place(self, name):
        """A new directory for one drill."""
        (self.views[0] / name).mkdir()

    def limit(self, path, size):
        """This directory may hold no more; None: it may again."""
        raise NotImplementedError


# ---- of the kernel ---------------------------------------------------------------------------------


class Xfs(Room):
    """With quotas where the kernel has been built with them."""

    name = "xfs"
    packages = ("Linux", "xfsprogs")

    def make(self):
        volume = self.image("volume", 320 * MIB, "mkfs.xfs", "-q")
        try:
            self.mounted(self.mounts[0], "mount", "-o", "loop,prjquota", volume, self.mounts[0])
            self.can_limit = True
        except NotMade:
            self.note = "a kernel without its quotas"
            self.mounted(self.mounts[0], "mount", "-o", "loop", volume, self.mounts[0])
        self.again()

    def limit(self, path, size):
        quota = ["xfs_quota", "-x", "-c"]
        sh(*quota, f"project -s -p {path} 42", self.mounts[0])
        sh(*quota, f"limit -p bhard={size or 0} 42", self.mounts[0])


class Btrfs(Room):
    """Compressed, so that what was reserved would not be; places are subvolumes."""

    name = "btrfs"
    packages = ("Linux", "btrfs-progs")
    note = "compress-force=zstd"
    can_limit = True

    def make(self):
        volume = self.image("volume", 320 * MIB, "mkfs.btrfs", "-q")
        self.mounted(self.mounts[0], "mount", "-o", f"loop,{self.note}", volume, self.mounts[0])
        sh("btrfs", "quota", "enable", self.mounts[0])
        self.again()

    def place(self, name):
        sh("btrfs", "subvolume", "create", self.mounts[0] / name)

    def limit(self, path, size):
        sh("btrfs", "quota", "rescan", "-w", self.mounts[0])
        sh("btrfs", "qgroup", "limit", size or "none", path)


class Overlay(Room):
    """What is there lies in the lower directory, so that each change copies it up."""

    name = "overlay"
    packages = ("Linux",)
    note = "over a tmpfs"

    def make(self):
        disk = self.tmpfs()
        for part in ("lower", "upper", "work"):
            (disk / part).mkdir()
        options = f"lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work"
        self.mounted(self.mounts[0], "mount", "-t", "overlay", "-o", options, "overlay", self.mounts[0])
        self.again()


class Exfat(Room):
    """The kernel's, or by FUSE where it has none."""

    name = "exfat"
    packages = ("Linux", "exfatprogs")

    def make(self):
        volume = self.image("volume", 64 * MIB, "mkfs.exfat")
        try:
            self.mounted(self.mounts[0], "mount", "-t", "exfat", "-o", "loop", volume, self.mounts[0])
        except NotMade:
            self.packages = ("exfat-fuse", "exfatprogs")
            device = sh("losetup", "-f", "--show", volume).strip()
            self.later("losetup", "-d", device)
            self.mounted(self.mounts[0], "mount.exfat-fuse", device, self.mounts[0])
        self.again()


# ---- of servers ------------------------------------------------------------------------------------


class Sshfs(Room):
    """Two clients of one server, which believe for minutes what they have once seen: the truth is where the server has it. SFTP has no word
    for a full disk."""

    name = "sshfs"
    packages = ("sshfs", "openssh-server")
    note = "caches of 300 s"
    servers = ("sftp-server",)
    says_full = "no space|input/output error"

    def make(self):
        self.views = [self.tmpfs()]
        for key in ("host", "user"):
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.base / key)
        sh("/usr/sbin/sshd", "-o", f"HostKey={self.base}/host", "-o", f"AuthorizedKeysFile={self.base}/user.pub", "-o", "StrictModes=no",
           "-o", "PermitRootLogin=prohibit-password", "-o", f"ListenAddress={ADDRESS}", "-o", f"PidFile={self.base}/pid", "-f", "/dev/null",
           "-o", "Subsystem=sftp /usr/lib/openssh/sftp-server")  # fmt: skip
        self.killed("sshd")
        for path in self.mounts:
            self.attach(path)

    def attach(self, path):
        options = f"IdentityFile={self.base}/user,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,cache=yes"
        for kind in ("", "stat_", "dir_", "link_"):
            options += f",dcache_{kind}timeout=300"
        options += ",attr_timeout=300,entry_timeout=300,kernel_cache"
        self.mounted(path, "sshfs", "-o", options, f"root@{ADDRESS}:{self.views[0]}", path)

    def restore(self):
        for path in self.mounts:
            subprocess.run(["umount", "-l", path], check=False)
            self.attach(path)


class Gluster(Room):
    """Two bricks, files on one or the other."""

    name = "glusterfs"
    packages = ("glusterfs-server",)
    note = "2 bricks on xfs"
    servers = ("glusterfsd",)
    can_limit = True

    def make(self):
        bricks = []
        for i in (1, 2):
            brick = self.base / f"b{i}"
            brick.mkdir()
            volume = self.image(f"volume{i}", 320 * MIB, "mkfs.xfs", "-q")
            self.mounted(brick, "mount", "-o", "loop", volume, brick)
            (brick / "d").mkdir()
            bricks.append(f"{ADDRESS}:{brick}/d")
        self.killed("glusterd", "glusterfsd", "glusterfs")
        sh("glusterd")
        until(lambda: subprocess.run(["gluster", "pool", "list"], check=False, capture_output=True).returncode == 0, "glusterd")
        self.gluster("create", "v", *bricks, "force")
        self.gluster("start", "v")
        for path in self.mounts:
            self.attach(path)
        self.gluster("quota", "v", "enable")
        for kind in ("soft-timeout", "hard-timeout"):
            self.gluster("quota", "v", kind, "0")

    @staticmethod
    def gluster(*words):
        return sh("gluster", "--mode=script", "volume", *words)

    def attach(self, path):
        self.mounted(path, "glusterfs", f"--volfile-server={ADDRESS}", "--volfile-id=v", path)

    def restore(self):
        self.gluster("start", "v", "force")
        until(self.answers, "bricks")

    def answers(self):
        """Both of them, and to both mounts."""
        try:
            for path in self.mounts:
                (path / "answer").mkdir()
                (path / "answer").rmdir()
                for i in range(6):
                    (path / f"answer{i}").write_bytes(b"1")
                    (path / f"answer{i}").unlink()
        except OSError:
            return False
        return True

    def empty(self):
        """Bricks look for room every five seconds."""
        super().empty()
        until(self.answers, "room on the bricks")

    def limit(self, path, size):
        self.gluster("quota", "v", *(("limit-usage", f"/{path.name}", size, "100") if size else ("remove", f"/{path.name}")))


# The lease of reads, 3 times 20 s, outlasts what any drill takes a server away for; by itself it is 16 s. When an OSD goes on after its
# lease has ended, beside a busy disk, what comes before the renewal finds its placement group "laggy" and waits until that peers anew: for
# ever, where there is one OSD.
CEPH_CONF = """[global]
fsid = {fsid}
mon host = [v2:{address}:3300,v1:{address}:6789]
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default read lease ratio = 3
osd objectstore = bluestore
bluestore block size = 1073741824
bluestore cache autotune = false
bluestore cache size = 67108864
osd memory target = 939524096
mon data = {base}/mon
mgr data = {base}/mgr
mds data = {base}/mds
osd data = {base}/osd
run dir = {base}
admin socket = {base}/$name.$pid.asok
pid file = {base}/$name.$pid.pid
log file = {base}/log/$name.log
mon cluster log file = {base}/log/cluster
keyring = {base}/keyring
"""


class Ceph(Room):
    """One daemon of each kind, and two clients by FUSE."""

    name = "cephfs"
    packages = ("ceph-osd", "ceph-fuse")
    note = "one of each daemon"
    servers = ("ceph-osd",)
    can_limit = True

    def make(self):
        self.environ = {**os.environ, "CEPH_CONF": str(self.base / "ceph.conf")}
        fsid, osd = (Path("/proc/sys/kernel/random/uuid").read_text().strip() for _ in range(2))
        for name in ("mon", "mgr", "mds", "osd", "log"):
            (self.base / name).mkdir()
        (self.base / "ceph.conf").write_text(CEPH_CONF.format(fsid=fsid, address=ADDRESS, base=self.base))
        self.killed("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-mds", "ceph-fuse")
        self.run("monmaptool", "--create", "--addv", "a", f"[v2:{ADDRESS}:3300,v1:{ADDRESS}:6789]", "--fsid", fsid, self.base / "monmap")
        self.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", self.base / "monmap")
        self.run("ceph-mon", "-i", "a")
        self.ceph("osd", "new", osd)
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.run("ceph-osd", "-i", "0")
        self.run("ceph-mgr", "-i", "x")
        self.run("ceph-mds", "-i", "m")
        for pool in ("meta", "data"):
            self.ceph("osd", "pool", "create", pool, "8")
        self.ceph("fs", "new", "fs", "meta", "data")
        until(lambda: "up:active" in self.ceph("mds", "stat"), "ceph-mds")
        for i, path in enumerate(self.mounts):
            self.mounted(path, "ceph-fuse", "-c", self.base / "ceph.conf", "-n", "client.admin", f"--pid-file={self.base}/fuse{i}", path)
        until(lambda: os.statvfs(self.mounts[0]).f_bavail, "room on the disk")

    def run(self, *words):
        return sh(*words, env=self.environ)

    def ceph(self, *words):
        return self.run("ceph", "--connect-timeout", "20", *words)

    def restore(self):
        self.run("ceph-osd", "-i", "0")
        until(lambda: "1 up" in self.ceph("osd", "stat"), "ceph-osd")

    def probe(self):
        """Is there room, as the monitors tell the clients?"""
        path = self.mounts[0] / "probe"
        try:
            with open(path, "wb", buffering=0) as f:
                f.write(b"1" * MIB)
                os.fsync(f.fileno())
        except OSError as e:
            assert e.errno in (errno.ENOSPC, errno.EDQUOT), e
            return False
        finally:
            path.unlink(missing_ok=True)
        return True

    def fill(self, leave):
        """A real one would be refused at 95 %, as this is by a quota of the pool; monitors notice after some seconds."""
        with open(self.mounts[0] / "filler0", "wb") as f:
            f.write(os.urandom(8 * MIB))
        self.ceph("osd", "pool", "set-quota", "data", "max_bytes", str(4 * MIB))
        until(lambda: not self.probe(), "a full pool")

    def empty(self):
        super().empty()
        self.ceph("osd", "pool", "set-quota", "data", "max_bytes", "0")
        until(self.probe, "room in the pool")

    def limit(self, path, size):
        """Clients count late: what lies there, once both have counted it, is all that may."""
        lies = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        until(lambda: all(int(os.getxattr(m / path.name, "ceph.dir.rbytes")) >= lies for m in self.mounts), "count of bytes")
        os.setxattr(path, "ceph.quota.max_bytes", str(lies if size else 0).encode())


ALL = (Xfs, Btrfs, Overlay, Exfat, Sshfs, Gluster, Ceph)


class S3fs(Room):
    """A bucket of a server of our own, which S3_SERVER names (moto_server). It copies what is renamed."""

    name = "s3fs"
    packages = ("s3fs",)
    note = "on a local server"
    port = "5055"

    def make(self):
        url = f"http://{ADDRESS}:{self.port}"
        try:
            with open(self.base / "requests", "wb") as log:
                server = subprocess.Popen([os.environ.get("S3_SERVER", "moto_server"), "-H", ADDRESS, "-p", self.port], stdout=log, stderr=log)
        except OSError as e:
            raise NotMade(f"server of S3: {e.strerror}") from None
        self.undo.callback(server.wait)
        self.undo.callback(server.kill)
        until(lambda: self.answers(url), "server of S3")
        (self.base / "key").write_text("key:secret\n")
        (self.base / "key").chmod(0o600)
        self.mounted(self.mounts[0], "s3fs", "bucket", self.mounts[0], "-o", f"url={url},use_path_request_style,passwd_file={self.base}/key")
        self.again()

    @staticmethod
    def answers(url):
        """And has the bucket."""
        try:
            with urllib.request.urlopen(urllib.request.Request(url + "/bucket", method="PUT"), timeout=5) as said:
                return said.status == 200
        except OSError:
            return False

    def requests(self, kind):
        """Of one kind, as "PUT", so far: (of what, ...)."""
        return re.findall(rf'"{kind} /bucket/(\S+)', (self.base / "requests").read_text())
