"""Nodes on one machine: each a network, a host name and mounts of its own, held by a sleeping process, joined by a bridge.

`with Nodes(directory, 2) as nodes:` makes node1 and node2; needs root, ip(8), unshare(1) and nsenter(1). The directory is one for all of
them, as on a file system that they share; `local` in it is a disk of each node's own.
"""

import contextlib
import os
import signal
import subprocess
import time

WORDS = ["unshare", "--net", "--uts", "--mount", "ip", "link", "add", "v", "type", "veth", "peer", "name", "w"]


def sh(*words):
    subprocess.run([str(w) for w in words], check=True, capture_output=True)


class Nodes:
    def __init__(self, base, n, net=None):
        net = net if net is not None else os.getpid() % 200
        self.base, self.names, self.holders = base, [f"node{i + 1}" for i in range(n)], []
        self.prefix, self.net, self.down = f"sw{net}", f"10.79.{net}", set()

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self):
        self.bridge = f"{self.prefix}b"
        sh("ip", "link", "add", self.bridge, "type", "bridge")
        sh("ip", "link", "set", self.bridge, "up")
        hosts = "127.0.0.1 localhost\n" + "".join(f"{self.net}.{i + 1} {name}\n" for i, name in enumerate(self.names))
        (self.base / "hosts").write_text(hosts)
        self.local = self.base / "local"
        self.local.mkdir()
        for i, name in enumerate(self.names):
            (self.base / name).mkdir()
            # The last step makes the file that says that all is done.
            script = (
                f"hostname {name} && mount --bind {self.base}/hosts /etc/hosts && mount -t tmpfs none {self.local} && mount -t tmpfs none /dev/shm"
                f" && ip link set lo up && touch {self.base}/{name}/ready && exec sleep 3600"
            )
            words = ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "sh", "-c", script]
            self.holders.append(subprocess.Popen(words, stdin=subprocess.DEVNULL))
            self._wait(self.base / name / "ready")
            sh("ip", "link", "add", f"{self.prefix}v{i}", "type", "veth", "peer", "name", "eth0", "netns", self.holders[i].pid)
            sh("ip", "link", "set", f"{self.prefix}v{i}", "master", self.bridge, "up")
            sh("nsenter", "-t", self.holders[i].pid, "-n", "ip", "addr", "add", f"{self.net}.{i + 1}/24", "dev", "eth0")
            sh("nsenter", "-t", self.holders[i].pid, "-n", "ip", "link", "set", "eth0", "up")
        agent = "".join(f"{name}) pid={p.pid} ;;\n" for name, p in zip(self.names, self.holders))
        (self.base / "rsh").write_text(
            f'#!/bin/sh\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\nhost=$1\nshift\ncase $host in\n{agent}esac\nexec nsenter -t $pid -n -u -m sh -c "TMPDIR={self.base}/$host; export TMPDIR; $*"\n'
        )
        (self.base / "rsh").chmod(0o755)

    @staticmethod
    def _inhabitants(holder):
        """Processes that are on its network and nowhere else: what a dead link has cut off from its launcher, too."""
        net, out = os.readlink(f"/proc/{holder}/ns/net"), []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/net") == net != os.readlink("/proc/self/ns/net"):
                    out.append(pid)
        return out

    @staticmethod
    def _wait(path):
        end = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < end, path
            time.sleep(0.01)

    def inside(self, i):
        """Words that run a command on a node."""
        return ["nsenter", "-t", str(self.holders[i].pid), "-n", "-u", "-m"]

    def environment(self, i=0):
        """For mpirun on node i: Open MPI 4 and 5."""
        agent = str(self.base / "rsh")
        return {
            "OMPI_MCA_plm_rsh_agent": agent,
            "PRTE_MCA_plm_ssh_agent": agent,
            "OMPI_MCA_btl_tcp_if_include": "eth0",
            "OMPI_MCA_oob_tcp_if_include": "eth0",
            "PRTE_MCA_prte_if_include": "eth0",
            "PMIX_MCA_ptl_tcp_if_include": "lo",
            "OMPI_MCA_pml": "ob1",
            "OMPI_MCA_btl": "tcp,self",
            "TMPDIR": str(self.base / self.names[i]),
        }

    def launcher(self, kind, per_node, where=""):
        """Words that start so many ranks on each node, from node1, by this kind of MPI, and what they need in the environment. where: the
        directory of its launcher, with a slash."""
        hosts, n = ",".join(f"{name}:{per_node}" for name in self.names), str(len(self.names) * per_node)
        if kind.startswith("mpich"):
            words = [f"{where}mpiexec" if where else "mpiexec.mpich", "-launcher", "ssh", "-launcher-exec", str(self.base / "rsh")]
            env = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", "FI_TCP_IFACE": "eth0", "TMPDIR": str(self.base / self.names[0])}
            return [*self.inside(0), *words, "-iface", "eth0", "-hosts", hosts, "-n", n], env
        return [*self.inside(0), f"{where}mpirun", "--host", hosts, "-n", n], self.environment()

    def processes(self, i, name):
        """Those of a name on a node."""
        out = []
        for pid in self._inhabitants(self.holders[i].pid):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                    if f.read().strip() == name[:15]:
                        out.append(pid)
        return out

    def clear(self):
        """Whatever runs on them ends, and their links are up."""
        for i, p in enumerate(self.holders):
            self.link(i, "up")
            for pid in self._inhabitants(p.pid):
                if pid != p.pid:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)

    def link(self, i, state):
        """Of what was down nobody remembers that it could not be reached."""
        sh("ip", "link", "set", f"{self.prefix}v{i}", state)
        if state == "up" and i in self.down:
            for k in range(len(self.holders)):
                sh(*self.inside(k), "ip", "neigh", "flush", "dev", "eth0")
        (self.down.discard if state == "up" else self.down.add)(i)

    def __exit__(self, *_):
        for p in self.holders:
            for pid in self._inhabitants(p.pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            p.kill()
            p.wait()
        for i in range(len(self.holders)):
            subprocess.run(["ip", "link", "del", f"{self.prefix}v{i}"], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
