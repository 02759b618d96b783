"""One rank of a job of tests: job.py SPEC RESULTS, under mpirun, torchrun, accelerate, or alone.

SPEC is a JSON file {"comm": null | "torch" | "group" | "mpi4py", "members": [..], "ends": [..], "early": [..], "cases": [..],
"leaves": [..], "late": [..]}; the early cases come before there is a group, the late ones when the ranks in "leaves" have ended. Each case is {"call": name of a
function of shardweld, "args": {..}, "ranks": {"1": {..}}}: the arguments, and those that are others on one rank; and
"cwd": {"*": .., "1": ..}, where ranks stand. Each rank writes what came of
them to RESULTS/RANK.json. A rank in "ends" raises an exception of its own before the first case.
"""

import json
import os
import sys

SPEC, RESULTS = sys.argv[1:3]


def rank_of_environment():
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


RANK = rank_of_environment()


def tell(error):
    names = [kind.__name__ for kind in type(error).__mro__]
    more = {k: getattr(error, k, None) for k in ("file", "tensor", "reason", "exit_status", "errno")}
    return {"error": names[0], "kinds": names, "text": str(error), **more}


def arguments(case, group):
    args = {**case["args"], **case.get("ranks", {}).get(str(RANK), {})}
    for name in ("process_group", "comm"):
        if args.get(name) == "GROUP":
            args[name] = group
    return args


def run(case, group):
    import shardweld

    try:
        os.chdir(case.get("cwd", {}).get(str(RANK), case.get("cwd", {}).get("*", ".")))
        value = getattr(shardweld, case["call"])(**arguments(case, group))
        return {"ok": True, "files": [f[0] for f in value.files] if hasattr(value, "files") else None}
    except Exception as e:
        return tell(e)


def make_group(spec):
    if spec["comm"] in ("torch", "group"):
        import torch.distributed as dist

        dist.init_process_group("gloo")
        return dist.new_group(spec["members"]) if spec["comm"] == "group" else dist.group.WORLD
    if spec["comm"] == "accelerate":
        import accelerate

        accelerate.Accelerator(cpu=True)
    if spec["comm"] == "mpi4py":
        from mpi4py import MPI

        return MPI.COMM_WORLD.Split(0, -MPI.COMM_WORLD.rank)
    return None


def write(results):
    path = os.path.join(RESULTS, f"{RANK}.json")
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(results, f)
    os.rename(path + ".part", path)


def main():
    with open(SPEC, encoding="utf-8") as f:
        spec = json.load(f)
    results = [run(case, None) for case in spec.get("early", [])]
    group = make_group(spec)
    if RANK in spec.get("ends", []):
        raise SystemExit(5) if spec.get("quietly") else RuntimeError("this rank has an error of its own")
    for case in spec["cases"]:
        results.append(run(case, group))
        write(results)
    if RANK not in spec.get("leaves", []):
        write(results + [run(case, group) for case in spec.get("late", [])])


if __name__ == "__main__":
    main()
    if "torch.distributed" in sys.modules and sys.modules["torch.distributed"].is_initialized():
        sys.modules["torch.distributed"].destroy_process_group()
        sys.stdout.flush()
        os._exit(0)  # gloo's threads may abort an interpreter that ends (pytorch#190489)
