#!/usr/bin/env python3
"""NeMo Automodel's offline consolidation, done by shardweld: the same options, the same result.

    python -m shardweld.nemo --model-name NAME --input-dir CKPT/model --output-dir CKPT/model/consolidated
    torchrun --nproc-per-node=4 -m shardweld.nemo ...
    CONSOLIDATION_TOOL=$(python -c 'import shardweld.nemo as n; print(n.__file__)') bash CKPT/model/consolidate.sh

Works under torchrun, mpirun, srun --mpi=pmix, and alone; torch is needed under torchrun only.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

if not __package__:
    # Named as a file: the package is the directory that it is in, and that directory must not hide other modules.
    _here = os.path.dirname(os.path.realpath(__file__))
    if os.path.isfile(os.path.join(_here, "__init__.py")):
        sys.path[:] = [p for p in sys.path if os.path.realpath(p) != _here]
        sys.path.insert(0, os.path.dirname(_here))

from shardweld import CommError, MissingError, ShardweldError, weld
from shardweld._comm import Comm, number_of, open_comm
from shardweld._library import encode_path, logger

METADATA_DIR = ".hf_metadata"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shardweld.nemo",
        description="Weld the shards of a NeMo Automodel checkpoint into a checkpoint for Hugging Face.",
    )
    add = parser.add_argument
    add("--model-name", "-m", required=True, help="accepted, not used: all that is needed is in the checkpoint")
    add("--input-dir", "-i", required=True, help="directory of the shards, with .hf_metadata")
    add("--output-dir", "-o", required=True, help="directory of the result; a checkpoint in it is replaced")
    add("--num-threads", type=int, default=5, help="accepted, not used: start more processes instead")
    add("--backend", choices=["auto", "nccl", "gloo"], default="auto", help="of the process group, under torchrun")
    add("--diffusers-compatible", action="store_true", help="give the index the name that diffusers looks for")
    add("--staging-dir", help="weld here, on a local disk, then copy the files to the output, the index last")
    add("--cast-dtype", help="floating-point tensors become bf16, fp16, fp32 or fp64; none: as saved")
    return parser


@contextlib.contextmanager
def process_group(backend: str) -> Iterator[None]:
    """Under torchrun, with several processes: torch's process group, if there is none yet."""
    if "RANK" not in os.environ or number_of("WORLD_SIZE") < 2:
        yield
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        yield
        return
    devices = torch.cuda.device_count()
    if backend == "auto":
        backend = "nccl" if devices > 0 else "gloo"
    if backend == "nccl" and devices > 0:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % devices)
    dist.init_process_group(backend)
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_done(input_dir: str, output_dir: str) -> bool:
    """Local. Is there nothing left to do: no metadata any more, but a result? Raises MissingError where there is neither."""
    if os.path.isdir(os.path.join(input_dir, METADATA_DIR)):
        return False
    if not os.path.isdir(input_dir):
        raise MissingError("no such directory", file=input_dir)
    names = os.listdir(output_dir) if os.path.isdir(output_dir) else []
    if any(name.endswith(".safetensors") and not name.startswith("shard-") for name in names):
        return True
    raise MissingError(f"has no directory {METADATA_DIR}, and {output_dir} holds no consolidated checkpoint", file=input_dir)


def export(group: Comm, args: argparse.Namespace) -> None:
    """Collective. Rank 0 looks, all weld."""
    done, error = False, None
    try:
        args.input_dir, args.output_dir = (os.fsdecode(encode_path(path)) for path in (args.input_dir, args.output_dir))
        done = group.rank == 0 and is_done(args.input_dir, args.output_dir)
    except (ShardweldError, OSError) as e:
        error = e
    group.agree("shardweld.nemo", error)
    if group.gather(done)[0]:
        if group.rank == 0:
            logger.info("%s is gone and %s is complete: nothing to do", METADATA_DIR, args.output_dir)
        return
    result = weld(
        args.input_dir,
        args.output_dir,
        comm=group,
        overwrite=True,
        cast_dtype=args.cast_dtype,
        staging_dir=args.staging_dir,
        diffusers_index=args.diffusers_compatible,
    )
    if group.rank == 0:
        logger.info("welded %s: %d files, %d tensors", args.output_dir, len(result.files), result.tensors)


def run(group: Comm, args: argparse.Namespace) -> int:
    """Collective. The exit status. Rank 0 has said what came of it before anybody leaves: torchrun then ends the others."""
    status = 0
    try:
        export(group, args)
    except ShardweldError as e:
        if group.rank == 0:
            logger.error("%s", e)
        status = e.exit_status
        if isinstance(e, CommError):
            return status
    with contextlib.suppress(CommError):
        group.gather(None)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 a library is missing or an unforeseen failure, 2 wrong usage, 3 not a valid checkpoint, 4 the system failed."""
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(asctime)s | %(levelname)s | %(name)s | %(message)s", level=logging.INFO)
    args = make_parser().parse_args(argv)
    try:
        with process_group(args.backend), open_comm() as group:
            return run(group, args)
    except ShardweldError as e:
        logger.error("%s", e)
        return e.exit_status
    except ImportError as e:  # there is no libshardweld, or no torch under torchrun
        logger.error("%s", e)
        return 1


def leave(status: int) -> None:
    """End the process. With torch's gloo loaded not by way of the interpreter's end, in which its threads may abort a process that
    has done its work (pytorch#190489)."""
    if "torch" not in sys.modules:
        sys.exit(status)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
