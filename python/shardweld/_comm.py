"""Which processes work together on a call, and how they reach one another.

In this order: what the caller gives; torch's process group, if one is initialised (torchrun, accelerate; gloo and nccl alike); the ranks of
an MPI job (mpirun, srun --mpi=pmix); this process alone. MPI is initialised by the first call that needs it, never by an import.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import pickle
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ._errors import Code, CommError, ShardweldError, UsageError, make_error
from ._library import ALLGATHER, BARRIER, BCAST, CommStruct, Status, check, lib


class NotMember(UsageError):
    """A process group that this process does not belong to: the call is none of its business."""


class Comm:
    """A group of processes; by itself that of this process alone. Functions take one as `comm`, or what it is made of: a process group of
    torch, a communicator of mpi4py, "self".

        >>> import shardweld
        >>> comm = shardweld.Comm()
        >>> comm.rank, comm.size, comm.kind
        (0, 1, 'self')

    Attributes:
        rank: this process's number in it, from 0
        size: how many they are
        kind: "self", "torch" or "mpi"
        struct: the sw_comm, for calls of the library: `ctypes.byref(comm.struct)`
    """

    kind = "self"

    def __init__(self) -> None:
        self.struct: CommStruct = lib().sw_comm_self()
        self.raised: BaseException | None = None  # in a callback

    @property
    def rank(self) -> int:
        return int(self.struct.rank)

    @property
    def size(self) -> int:
        return int(self.struct.size)

    def gather(self, value: Any) -> list[Any]:
        """Collective. Every rank's value (anything that can be pickled), in rank order."""
        return [value]

    def check(self, code: int, status: Status) -> None:
        """Raise what a collective call of the library has said, with what a callback raised as its cause."""
        raised, self.raised = self.raised, None
        if raised is not None and not isinstance(raised, Exception):
            raise raised
        if code:
            raise status.error() from raised

    def agree(self, what: str, error: BaseException | None, arguments: Any = None) -> None:
        """Collective. Before a call of the library: has every rank come here, in good order and with the same wish?

        Args:
            what: the name of the call
            error: what this rank has run into while it prepared its arguments
            arguments: a dict of what must be equal on every rank (anything that can be pickled and compared)

        Raises:
            Its own error on a rank that has one, and what the first of these says on the others; UsageError where ranks were called with
            different arguments.
        """
        mine = (what, None if error is None else portable(error, self.rank), arguments)
        ranks = self.gather(mine)
        failed = next((r for r, (_, e, _) in enumerate(ranks) if e is not None), None)
        if error is not None:
            raise error
        if failed is not None:
            raise make_error(*ranks[failed][1])
        for r, (name, _, given) in enumerate(ranks):
            if name != ranks[0][0]:
                raise UsageError(f"rank 0 has called {ranks[0][0]}, rank {r} {name}")
            if given != ranks[0][2]:
                first = ranks[0][2]
                names = sorted(k for k in {*first, *given} if k not in first or k not in given or first[k] != given[k])
                raise UsageError(f"{what}: ranks 0 and {r} were called with different arguments: {', '.join(names)}")

    def close(self) -> None:
        """Collective. Release what this object alone uses."""


def portable(error: BaseException, rank: int) -> tuple[int, str, str, str, tuple[int, str]]:
    """An exception of this rank in parts that any rank can put together again: the arguments of `make_error()`."""
    who = (rank, platform.node())
    if isinstance(error, ShardweldError):
        return int(error.code), error.file, error.tensor, error.reason, who
    code = Code.IO if isinstance(error, OSError) else Code.USAGE
    if not isinstance(error, (OSError, ValueError, TypeError, KeyError)):
        code = Code.INTERNAL
    return int(code), "", "", f"{type(error).__name__}: {error}", who


# ---- torch ------------------------------------------------------------------------------------------------------------


class TorchComm(Comm):
    """A process group of torch.distributed. Bytes go through its collectives of objects, which every backend has."""

    kind = "torch"

    def __init__(self, group: Any = None) -> None:
        """group: a ProcessGroup that this process belongs to; None = the default one."""
        import torch.distributed as dist

        super().__init__()
        self._dist, self._group = dist, group
        rank = dist.get_rank(group)
        if rank < 0:
            raise NotMember("this process is not a member of the process group")
        size = dist.get_world_size(group)
        # The struct keeps the functions alive; ctx is not needed.
        self.struct = CommStruct(
            None, rank, size, BCAST(self._bcast), ALLGATHER(self._allgather), BARRIER(self._barrier)
        )

    def gather(self, value: Any) -> list[Any]:
        out: list[Any] = [None] * self.size
        try:
            self._dist.all_gather_object(out, value, group=self._group)
        except RuntimeError as e:
            raise CommError(f"communication between the ranks failed: {e}") from e
        return out

    def close(self) -> None:
        """The functions and this object refer to each other: torch's threads should not have to wait for the garbage collector before
        they can end."""
        self.struct, self._group = lib().sw_comm_self(), None

    def _guard(self, work: Callable[[], None]) -> int:
        """No exception can pass through C: it is kept until the call has ended."""
        try:
            work()
            return 0
        except BaseException as e:
            self.raised = self.raised or e
            return 1

    def _bcast(self, _ctx: Any, buf: Any, n: int, root: int) -> int:
        def work() -> None:
            source = root if self._group is None else self._dist.get_global_rank(self._group, root)
            box = [ctypes.string_at(buf, n) if root == self.rank and n else b""]
            self._dist.broadcast_object_list(box, src=source, group=self._group)
            self._take(buf, box[0], n)

        return self._guard(work)

    def _allgather(self, _ctx: Any, mine: Any, everything: Any, counts: Any) -> int:
        def work() -> None:
            n = counts[self.rank]
            parts: list[Any] = [None] * self.size
            self._dist.all_gather_object(parts, ctypes.string_at(mine, n) if n else b"", group=self._group)
            at = 0
            for r, part in enumerate(parts):
                self._take(everything + at if everything else None, part, counts[r])
                at += counts[r]

        return self._guard(work)

    def _barrier(self, _ctx: Any) -> int:
        # Not barrier(): with nccl that one guesses a device.
        return self._guard(lambda: self._dist.all_gather_object([None] * self.size, 0, group=self._group))

    @staticmethod
    def _take(to: Any, part: Any, n: int) -> None:
        """Ranks that are not in the same step must not write past a buffer."""
        if not isinstance(part, bytes) or len(part) != n:
            raise CommError("the ranks are not in the same step: another call uses the process group at the same time")
        if n:
            ctypes.memmove(to, part, n)


# ---- MPI --------------------------------------------------------------------------------------------------------------


class MpiComm(Comm):
    """The ranks of an MPI job: mpirun's or srun's, or those of an mpi4py communicator."""

    kind = "mpi"

    def __init__(self, mpi4py_comm: Any = None) -> None:
        """Collective. mpi4py_comm: an intracommunicator, which is duplicated; None = all ranks that the launcher has started."""
        super().__init__()
        status, made = Status(), CommStruct()
        if mpi4py_comm is None:
            lib().sw_transport_defaults(None)  # what is set before MPI begins need not be asked for
            code = lib().sw_comm_world(ctypes.byref(made), ctypes.byref(status))
            if code == Code.USAGE:
                raise UsageError(f'{status.error().reason}, or give comm="self" on one of them')
        else:
            code = self._from_mpi4py(mpi4py_comm, made, status)
        check(code, status)
        self.struct = made

    @staticmethod
    def _from_mpi4py(comm: Any, made: CommStruct, status: Status) -> int:
        from mpi4py import MPI

        if comm == MPI.COMM_NULL or comm.Is_inter():
            raise UsageError("a communicator of mpi4py must be an intracommunicator that this process belongs to")
        theirs = MPI.Get_library_version().rstrip("\0\n ")
        wide = MPI._sizeof(MPI.Comm) == ctypes.sizeof(ctypes.c_void_p)
        kind = b"mpich" if not wide else b"openmpi" if theirs.startswith("Open MPI") else b"abi"
        handle = (ctypes.c_void_p if wide else ctypes.c_int).from_address(MPI._addressof(comm)).value or 0
        code = int(lib().sw_comm_from_handle(kind, handle & (1 << 64) - 1, ctypes.byref(made), ctypes.byref(status)))
        # Two copies of MPI in a process know nothing of each other.
        if code == Code.USAGE or _mpi_version() != theirs:
            raise UsageError(
                f"mpi4py uses {theirs.splitlines()[0]}, but libshardweld has no layer for it: "
                + (status.error().reason if code else f"its MPI is {_mpi_version().splitlines()[0]}")
            )
        return code

    def gather(self, value: Any) -> list[Any]:
        mine = pickle.dumps(value)
        raw = self._gather_bytes(len(mine).to_bytes(8, "little"), [8] * self.size)
        counts = [int.from_bytes(raw[8 * r : 8 * r + 8], "little") for r in range(self.size)]
        raw = self._gather_bytes(mine, counts)
        ends = [sum(counts[: r + 1]) for r in range(self.size)]
        return [pickle.loads(raw[end - n : end]) for end, n in zip(ends, counts)]

    def _gather_bytes(self, mine: bytes, counts: list[int]) -> bytes:
        out = ctypes.create_string_buffer(sum(counts) + 1)
        array = (ctypes.c_size_t * self.size)(*counts)
        if self.struct.allgather(self.struct.ctx, mine, ctypes.addressof(out), array):
            raise CommError("communication between the ranks failed")
        return out.raw[:-1]

    def close(self) -> None:
        lib().sw_comm_mpi_release(ctypes.byref(self.struct))


def _mpi_version() -> str:
    """What the MPI of libshardweld calls itself."""
    text = ctypes.create_string_buffer(8192)
    lib().sw_mpi_version(text, len(text))
    return text.value.decode(errors="replace").rstrip("\n ")


_world: MpiComm | None = None


def _mpi_world() -> MpiComm:
    """Collective, the first time. All ranks of the job; lives until the process ends."""
    global _world
    if _world is None:
        mpi4py = sys.modules.get("mpi4py.MPI")
        world = MpiComm(mpi4py.COMM_WORLD if mpi4py and mpi4py.Is_initialized() else None)
        _check_size(world)
        _world = world
        atexit.register(_leave, os.getpid())
    return _world


def _check_size(world: MpiComm) -> None:
    """An MPI that does not know this launcher takes each process for a job of its own, without a word."""
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        if world.size == 1 and number_of(name) > 1:
            world.close()
            raise UsageError(
                f"the launcher has started {number_of(name)} processes ({name}), but the MPI of libshardweld "
                f"({_mpi_version().splitlines()[0]}) sees only this one: start them with its own mpirun"
            )


def _leave(pid: int) -> None:
    """At the end of the process; a child that it has forked is no rank. After an exception that nobody has caught the other ranks may wait for
    us in another place than MPI_Finalize: so we leave without it, and the launcher ends them."""
    if _world is not None and os.getpid() == pid and not hasattr(sys, "last_value"):
        _world.close()


# ---- what has started this process ------------------------------------------------------------------------------------


def number_of(name: str) -> int:
    """The number in a variable of the environment; -1 where there is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else -1


def _launched() -> bool:
    """By a launcher of MPI jobs. A worker of torchrun is a child of the rank, if there is one, and not the rank."""
    return "TORCHELASTIC_RUN_ID" not in os.environ and bool(lib().sw_comm_launched())


def _refuse_singletons() -> None:
    """N processes that are no ranks of one job would each do all of the work, in each other's way (SPEC 4)."""
    launchers = [
        ("RANK", "WORLD_SIZE", "torchrun", "call torch.distributed.init_process_group() first"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun without PMI", "start them with 'srun --mpi=pmix'"),
    ]
    for rank, size, name, cure in launchers:
        if rank in os.environ and number_of(size) > 1:
            raise UsageError(
                f"this is one of {number_of(size)} processes of {name} ({rank}, {size}), which cannot reach one another; "
                f'{cure}, or give comm="self" on one of them'
            )


def _is_mpi4py(comm: Any) -> bool:
    return any(kind.__module__.split(".")[0] == "mpi4py" for kind in type(comm).__mro__)


def _is_group(comm: Any) -> bool:
    """Of torch: a ProcessGroup, or what new_group() gives to those that are not in it."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available():
        return False
    return isinstance(comm, dist.ProcessGroup) or comm is dist.GroupMember.NON_GROUP_MEMBER


def _torch_is_ready() -> bool:
    """Without importing torch: who has a process group has imported it."""
    dist = sys.modules.get("torch.distributed")
    return dist is not None and dist.is_available() and dist.is_initialized()


@contextlib.contextmanager
def open_comm(comm: Any = None) -> Iterator[Comm]:
    """The processes that take part in a call.

    Args:
        comm: None = torch's default process group if it is initialised, else the ranks of the MPI job that this process is one of, else
            this process; or a ProcessGroup of torch, a communicator of mpi4py, a `Comm`, or "self" for this process alone.

    Raises:
        UsageError: N processes that cannot reach one another.
        NotMember: a group that this process does not belong to.
    """
    if isinstance(comm, Comm):
        yield comm
    elif isinstance(comm, str) and comm == "self":
        yield Comm()
    elif comm is not None or _torch_is_ready():
        made = _make_comm(comm)
        try:
            yield made
        finally:
            made.close()
    else:
        launched = _launched()
        if not launched:
            _refuse_singletons()
        # mpirun -n 1 needs no MPI.
        yield Comm() if not launched or "1" in map(os.environ.get, ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")) else _mpi_world()


def _make_comm(comm: Any) -> Comm:
    if comm is None or _is_group(comm):
        return TorchComm(comm)
    if _is_mpi4py(comm):
        return MpiComm(comm)
    raise UsageError(f'comm is {comm!r}, expected a process group of torch, a communicator of mpi4py, "self" or None')
