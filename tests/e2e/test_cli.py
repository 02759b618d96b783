"""The command line: what it accepts, what it says and where, and with which status it leaves."""

import json
import os
import platform
import shlex
import subprocess

import oracle
import pytest
from oracle import same
from runner import HERE, LAUNCH, SHARDWELD, errors, fails, finish, ok, run, show, start, warnings
from test_layout import NAMES

COMMANDS = ["consolidate", "verify", "inspect", "reshard"]


# ---- help and version -----------------------------------------------------------------------------


@pytest.mark.parametrize("args, np", [("--help", 2), ("--version", 2), ("consolidate --version", None), *((f"{c} --help", None) for c in COMMANDS)])
def test_help_and_version(args, np):
    result = run(args.split(), np=np)
    assert result.status == 0 and result.stdout and result.stderr == "", show(result)
    # One rank speaks.
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert lines.count(lines[0]) == 1, show(result)


HELP = {
    "--help": " ".join(COMMANDS),
    "consolidate --help": """--fqn-map --like --max-shard-size --single-file --expect-shards --overwrite --sync --no-sync --buffer-size --node-local --assign
        --hint --report --progress --timeout --dry-run --verify --include --exclude --strip-prefix --rename --cast-dtype --dequantize --block-size --assets
        --no-assets --diffusers --diffusers-index --quiet --verbose INPUT_DIR OUTPUT_DIR FROM=TO""",
    "verify --help": "--cast-dtype --dequantize --block-size --include --exclude --strip-prefix --rename --like --node-local --report -q",
    "inspect --help": "--json --tensor --summary --svg --expect-shards --like PATH",
}


@pytest.mark.parametrize("args", HELP)
def test_help_names(args):
    text = " ".join(run(args.split()).stdout.split())
    for word in HELP[args].split():
        assert word in text, word
    assert args != "inspect --help" or "OUTPUT_DIR" not in text
    # The two options that change names say where, how often and in which order.
    for words in ("begins with", "first '='", "one after the other"):
        assert args != "consolidate --help" or words in text, words


def test_other_ways_to_ask():
    for command in COMMANDS:
        assert ok(run(["help", command]), quiet=False).stdout == run([command, "--help"]).stdout
    assert run(["help"]).stdout == run(["--help"]).stdout == run(["help", "help"]).stdout
    assert run(["-V"]).stdout == run(["consolidate", "-V"]).stdout == run(["--version"]).stdout


@pytest.mark.parametrize("np", [None, 2])
def test_alone(np):
    """Who only types the name is told what it is; in a script it is a mistake all the same."""
    result = run([], np=np)
    assert result.status == 2 and result.stdout == "", show(result)
    assert errors(result) and result.stderr.count("usage: shardweld COMMAND") == 1, show(result)
    for command in COMMANDS:
        assert f"\n  {command} " in result.stderr
    assert "shardweld: error: no command is given" in result.stderr


@pytest.mark.parametrize(
    "args, meant",
    [("consoldate in out", "consolidate"), ("help inspcet", "inspect"), ("consolidate --overwirte in out", "--overwrite"),
     ("reshard --mesh=2 --placements=shrad1 in out", "shard1"), ("reshard --mesh=2 --placements=replicated in out", "replicate"),
     ("reshard --mesh=2 --rule=a=Shrd(0) in out", "shard(0)")],
)  # fmt: skip
def test_did_you_mean(args, meant, sharded):
    _, src, out = sharded
    fails(run(args.split(), cwd=src.parent), 2, f"did you mean '{meant}'?")
    assert not out.exists()


def test_nearest_names(sharded, weld):
    """Of tensors that --tensor, --include, --rule and --fqn-map name, and that are not there."""
    made, src, out = sharded
    near = "the nearest name is 'model.embed.weight'"
    fails(run(["inspect", "--tensor", "model.embd.weight", src]), 2, "no tensor matches 'model.embd.weight'", near)
    fails(run(["inspect", "--tensor", "model.enbed.*", src]), 2, near)
    for args in (["consolidate", "--exclude", "model.embed.wieght", src, out], ["reshard", "--mesh=2", "--rule=Model.embd.w*=replicate", src, out]):
        result = run([args[0], "-n", *args[1:]])
        assert result.status == 0 and len(warnings(result)) == 1 and near in warnings(result)[0], show(result)
    names = [n for n in made.tensors if n != "model.embed.weight"]
    oracle.write_json(str(src / "map.json"), {**dict.fromkeys(names, 1), "model.embed.weigth": 1, "else": 1})
    fails(
        weld(src, out, "--fqn-map", src / "map.json"), 3, "model.embed.weight", "its nearest name is 'model.embed.weigth'",
        "no tensor has these names of the map: 'else', 'model.embed.weigth'",
    )  # fmt: skip


@pytest.mark.parametrize("np", [None, 2])
def test_a_map_beside_the_shards_is_no_side_file(sharded, weld, np):
    """It tells of this run, not of the model; what nobody names comes along."""
    made, src, out = sharded
    oracle.write_json(str(src / "map.json"), dict.fromkeys(made.tensors, 1))
    oracle.write_json(str(src / "more.json"), {})
    ok(weld(src, out, "--fqn-map", src / "map.json", np=np))
    assert not (out / "map.json").exists() and (out / "more.json").exists()
    ok(run(["verify", "--fqn-map", src / "map.json", src, out], np=np))
    ok(run(["reshard", "--mesh=2", "--fqn-map", src / "map.json", src, src.parent / "again"], np=np))
    assert not (src.parent / "again" / "map.json").exists() and (src.parent / "again" / "more.json").exists()


def test_sizes(sharded, tmp_path):
    """G is GiB, as for coreutils and zstd; GB is what disks are sold by."""
    _, src, out = sharded
    for size, want in (("1M", 1 << 20), ("1MiB", 1 << 20), ("1m", 1 << 20), ("1MB", 10**6), ("4K", 4096)):
        ok(run(["consolidate", "--overwrite", f"--buffer-size={size}", "--report", tmp_path / "r", src, out]))
        assert json.loads((tmp_path / "r").read_text())["buffer_size"] == want, size


def test_help_that_cannot_be_written():
    with open("/dev/full", "wb") as full:
        result = finish(start(["--help"], stdout=full))
    assert result.status == 4 and len(errors(result)) == 1, show(result)


def test_the_plan_that_cannot_be_written(sharded):
    _, src, out = sharded
    with open("/dev/full", "wb") as full:
        result = finish(start(["consolidate", "-n", src, out], stdout=full))
    assert result.status == 4 and len(errors(result)) == 1, show(result)


# ---- wrong usage ----------------------------------------------------------------------------------


# What the parser refuses is in unit/test_cmd_opts; here: how the program ends, and what the library refuses.
@pytest.mark.parametrize(
    "args",
    ["", "weld", "--bogus", "consolidate in", "consolidate in out more", "consolidate -x in out", "consolidate --buffer-size=4095 in out",
     "consolidate '' out", "consolidate --cast-dtype=fp8 in out", "consolidate --dequantize=fp64 in out",
     "consolidate --cast-dtype=fp16 --cast-dtype=bf61 in out", "consolidate --block-size=64x in out", "consolidate --block-size=0 in out",
     "consolidate --block-size=1x2x3 in out", "consolidate --assets=nowhere in out"],
)  # fmt: skip
def test_wrong_usage(args, sharded):
    _, src, out = sharded
    fails(run(shlex.split(args), cwd=src.parent), 2)
    assert not out.exists()


@pytest.mark.parametrize(
    "args",
    [["consolidate", "s3://b/in", "out"], ["consolidate", "in", "memory://b"], ["reshard", "--mesh=2", "in", "hf://b"], ["verify", "in", "gs://b"],
     ["inspect", "https://b/x"], ["consolidate", "--report=s3://b/r", "in", "out"], ["consolidate", "--assets=s3://b", "in", "out"]],
    ids=shlex.join,
)  # fmt: skip
def test_urls_are_no_paths(args, sharded):
    _, src, out = sharded
    before = sorted(os.listdir(src.parent))
    fails(run(args, cwd=src.parent, np=2 if args[0] == "verify" else None), 2, "://b", "upload from there")
    assert sorted(os.listdir(src.parent)) == before


def test_urls_of_files_are_paths(dirs, make, tmp_path):
    src, out = dirs
    ckpt = make(src.parent / "with a blank")
    report = tmp_path / "report.json"
    ok(run(["consolidate", f"--report={report.as_uri()}", (src.parent / "with a blank").as_uri(), out.as_uri()], cwd=tmp_path))
    same(out, ckpt.expect())
    assert json.loads(report.read_text())["status"] == 0 and not [name for name in os.listdir(tmp_path) if name.startswith("file")]


@pytest.mark.parametrize("option", ["--bogus", "--cast-dtype=fp8", "--assets=/nowhere/at/all"])
def test_wrong_usage_under_the_launcher_is_said_once(sharded, weld, option):
    """And they name the option, as given."""
    _, src, out = sharded
    fails(weld(src, out, option, np=3), 2, option.split("=")[-1])
    assert not out.exists()


def test_long_and_odd_paths(sharded, weld):
    ckpt, src, _ = sharded
    out = src.parent / ("d" * 200) / ("é \n" + "d" * 200) / ("e" * 200) / "out"
    ok(weld(src, out, np=2))
    same(out, ckpt.expect())


# ---- what is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize("np", [1, 5])
def test_one_message_whatever_the_ranks(dirs, make, weld, np):
    src, out = dirs
    make(src, ranks=4)
    (src / oracle.shard_name(2)).write_bytes(b"short")
    message = fails(weld(src, out, np=np), 3, oracle.shard_name(2))
    assert message.startswith(f"shardweld: error: {oracle.shard_name(2)}: ") and not message.endswith(".")


def test_messages_hold_no_control_characters(dirs, weld):
    src, out = dirs
    for i, at in enumerate((0, 3), 1):
        metadata = oracle.shard_metadata({"a\x1b[31m\nb": (at,)})
        oracle.write(str(src / oracle.shard_name(i)), oracle.serialize({"a\x1b[31m\nb": oracle.Tensor("U8", (2,), b"xy")}, metadata))
    result = weld(src, out)
    fails(result, 3)
    assert "\x1b" not in result.stderr and len(result.stderr.splitlines()) == 1, show(result)


def test_quiet_silences_warnings_not_errors(sharded, weld):
    _, src, out = sharded
    oracle.write_json(str(src / ".hf_metadata" / "fqn_to_file_index_mapping.json"), {})
    fails(weld(src, out, "-q"), 3)


@pytest.mark.parametrize("option, np", [("-n", None), ("--dry-run", 3)])
def test_dry_run(sharded, weld, option, np):
    _, src, out = sharded
    result = weld(src, out, option, np=np)
    assert result.status == 0 and result.stderr == "" and oracle.model_name(1, 1) in result.stdout, show(result)
    assert not out.exists()


def test_dry_run_finds_what_a_run_would(sharded, weld):
    _, src, out = sharded
    (src / oracle.shard_name(1)).unlink()
    fails(weld(src, out, "-n", np=2), 3)


def test_progress(sharded, weld):
    _, src, out = sharded
    result = weld(src, out, "--progress", "always", np=2)
    assert result.status == 0 and result.stdout == "" and result.stderr.strip(), show(result)
    assert not errors(result) and not warnings(result)
    for when in ("auto", "never"):  # standard error is no terminal, and the run is short
        ok(weld(src, out, f"--progress={when}", "--overwrite"))


# ---- --report -------------------------------------------------------------------------------------


def test_report(dirs, make, weld, tmp_path):
    src, out = dirs
    ckpt = make(src, models={n: 1 + i % 2 for i, n in enumerate(NAMES)})
    report = tmp_path / "report.json"
    ok(weld(src, out, "--report", report, "--buffer-size", "64KiB", "--assign", "band", np=2))
    got = json.loads(report.read_text())
    files = oracle.tree(out)
    assert got["schema"] == 1
    assert got["status"] in (0, "success", "ok", "SW_OK")
    assert got["ranks"] == 2 and got["assign"] == "band" and got["buffer_size"] == 65536
    assert got["tensors"] == len(ckpt.tensors)
    assert got["bytes"] == sum(len(t.data) for t in ckpt.tensors.values())
    assert got["bytes_written"] == sum(len(d) for n, d in files.items() if n.endswith(".safetensors"))
    assert got["shard_files"] == len(list(src.iterdir()))
    assert got["index"] == oracle.INDEX
    assert {f["name"]: f["size"] for f in got["files"]} == {n: len(d) for n, d in files.items() if n.endswith(".safetensors")}
    assert sum(f["tensors"] for f in got["files"]) == len(ckpt.tensors)
    for key in ("seconds_plan", "seconds_write", "seconds_publish"):
        assert 0 <= got[key] < 60
    assert 1 << 20 < got["peak_memory"] < 1 << 31
    assert got["io"] in ("romio", "ompio", "mpi-io", "posix") and "transport" in got


def test_a_link_to_an_older_report_stays(sharded, weld, tmp_path):
    """An older file is removed (tests/faults kills a run after that); what is no regular file is written to."""
    _, src, out = sharded
    (tmp_path / "other").write_text("older")
    (tmp_path / "r").symlink_to(tmp_path / "other")
    ok(weld(src, out, "--report", tmp_path / "r"))
    assert (tmp_path / "r").is_symlink() and json.loads((tmp_path / "other").read_text())["status"] == 0


@pytest.mark.parametrize("args, status", [(["--buffer-size", "1"], 2), (["--expect-shards", "9"], 3), (["--like", "none.json"], 2)])
def test_messages_name_rank_and_host(sharded, weld, tmp_path, args, status):
    """Where there are several; the report of a failed run always does, and has its message."""
    _, src, out = sharded
    for np in (None, 3):
        message = fails(weld(src, out, *args, "--report", tmp_path / "r", np=np), status)
        got = json.loads((tmp_path / "r").read_text())
        assert message.endswith(f"(rank {got['rank']} on {platform.node()})") == bool(np), message
        assert got["host"] == platform.node() and got["rank"] in range(np or 1)
        assert got["schema"] == 1 and got["status"] == status and got["message"] in message


def test_a_message_names_the_rank_that_met_it(tmp_path, make):
    """Each rank lists a directory of its own; one of them finds a broken shard."""
    for r in range(3):
        make(tmp_path / str(r), ranks=1)
    (tmp_path / "2" / oracle.shard_name(1)).write_bytes(b"short")
    result = run(["consolidate", "--node-local", tmp_path / "@RANK@", tmp_path / "out"], np=3, prefix=["sh", os.path.join(HERE, "by_rank.sh")])
    fails(result, 3, f"(rank 2 on {platform.node()})")


@pytest.mark.parametrize(
    "words", ["consolidate --hint a=@RANK@ in out", "verify --like @RANK@.index.json in out", "inspect --expect-shards 1@RANK@ in", "reshard --ranks 2@RANK@ in out"]
)
def test_ranks_with_different_options(sharded, words):
    """They are told so by the library, whatever they were to do."""
    _, src, out = sharded
    prefix = ["sh", os.path.join(HERE, "by_rank.sh")]
    fails(run(words.split(), np=2, prefix=prefix, cwd=src.parent), 2, "ranks 0 and 1 were called with different", "options")
    assert not out.exists()


def test_report_that_cannot_be_written(sharded, weld):
    _, src, out = sharded
    fails(weld(src, out, "--report", src.parent / "no" / "such" / "report.json", np=2), 4, "report.json")


def test_report_of_odd_names_is_json(dirs, weld, rng, make, tmp_path):
    src, out = dirs
    make(src, tensors={'q"\\\n\u2028': oracle.random_tensor(rng, "U8", (4,))})
    (src / oracle.shard_name(2)).unlink()
    result = weld(src, out, "--report", tmp_path / "r", "--expect-shards", 3)
    fails(result, 3)
    assert json.loads((tmp_path / "r").read_text())["schema"] == 1


# ---- transport ------------------------------------------------------------------------------------


@pytest.mark.parametrize("assign, np", [("auto", None), ("auto", 2), ("band", 1), ("band", 2), ("owner", 3)])
def test_assign(sharded, weld, tmp_path, assign, np):
    ckpt, src, out = sharded
    ok(weld(src, out, "--assign", assign, "--report", tmp_path / "r", np=np))
    same(out, ckpt.expect())
    got = json.loads((tmp_path / "r").read_text())
    assert np != 1 or got["io"] == "posix"  # MPI-IO is for several
    ran = got["assign"]
    assert ran in ("band", "owner") and (assign == "auto" or np is None or ran == assign)


def test_hints_are_passed_on(sharded, weld):
    ckpt, src, out = sharded
    ok(weld(src, out, "--hint", "striping_factor=4", "--hint=cb_nodes=1", "--hint", "odd=a=b", np=2))
    same(out, ckpt.expect())


def test_the_users_transport_wins(sharded, weld, tmp_path):
    ckpt, src, out = sharded
    seen = {}
    for io in ("ompio", "romio321"):
        env = {"OMPI_MCA_io": io}
        ok(weld(src, out, "--overwrite", "--report", tmp_path / "r", np=2, env=env))
        same(out, ckpt.expect())
        seen[io] = json.loads((tmp_path / "r").read_text())["io"]
    assert seen["ompio"] == "ompio" and seen["romio321"].startswith("romio")


@pytest.mark.parametrize(
    "env, options, named",
    [
        ({"OMPI_MCA_fcoll": "vulcan"}, [], "fcoll=vulcan"),
        ({"OMPI_MCA_fcoll": "", "OMPI_MCA_fcoll_dynamic_priority": "100"}, [], "fcoll_dynamic_priority=100"),
        ({}, ["--hint", "romio_cb_write=enable"], "the hint romio_cb_write=enable"),
        ({}, ["--hint", "cb_nodes=1", "--hint", "romio_no_indep_rw=true"], "the hint romio_no_indep_rw=true"),
    ],
)
def test_aggregation_is_not_followed(sharded, weld, tmp_path, env, options, named):
    """Whoever asks for it: a warning, and the bytes go out by pwrite."""
    ckpt, src, out = sharded
    result = weld(src, out, *options, "--report", tmp_path / "r", np=3, env={"OMPI_MCA_io": "ompio", **env})
    same(out, ckpt.expect())
    assert result.status == 0 and len(warnings(result)) == 1 and f"{named} asks MPI-IO to aggregate" in result.stderr
    assert json.loads((tmp_path / "r").read_text())["io"] == "posix"


def test_a_sites_file_of_parameters_brings_no_aggregation(sharded, weld, tmp_path):
    """The environment stands above it, and the program has set what matters there."""
    ckpt, src, out = sharded
    (tmp_path / "mca-params.conf").write_text("io = ompio\nfcoll = vulcan\nfcoll_vulcan_priority = 100\n")
    env = {"OMPI_MCA_mca_base_param_files": str(tmp_path / "mca-params.conf")}
    ok(weld(src, out, "--report", tmp_path / "r", np=3, env=env))
    same(out, ckpt.expect())
    got = json.loads((tmp_path / "r").read_text())
    assert got["io"] == "ompio" and got["transport"]["fcoll"].startswith("^") and "fcoll_vulcan_priority" not in got["transport"]


# ---- processes that are no ranks of one job --------------------------------------------------------


FOREIGN = [{"RANK": "0", "WORLD_SIZE": "2"}, {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, {"PMI_RANK": "0", "PMI_SIZE": "4"}]
ALONE = [
    {"RANK": "0", "WORLD_SIZE": "1"},
    {"RANK": "3"},
    {"WORLD_SIZE": "2"},
    {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    {"SLURM_PROCID": "0"},
    {"PMI_RANK": "0", "PMI_SIZE": "1"},
    {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"},
]


@pytest.mark.parametrize("env", FOREIGN, ids=lambda e: "+".join(e))
def test_singletons_are_refused(sharded, weld, env):
    _, src, out = sharded
    fails(weld(src, out, env=env), 2, "mpirun", "env -u", *env)
    assert not out.exists()
    for args in (["--help"], ["--version"], *([c, "--help"] for c in COMMANDS)):
        result = run(args, env=env)
        assert result.status == 0 and result.stdout and result.stderr == "", show(result)


@pytest.mark.parametrize("env", ALONE, ids=lambda e: "+".join(f"{k}={v}" for k, v in e.items()))
def test_one_process_is_one_process(sharded, weld, env):
    ckpt, src, out = sharded
    ok(weld(src, out, env=env))
    same(out, ckpt.expect())


@pytest.mark.parametrize("env", FOREIGN[:2], ids=lambda e: "+".join(e))
def test_ranks_of_mpi_are_not_refused(sharded, weld, env):
    """A job script's variables beside a real mpirun."""
    ckpt, src, out = sharded
    ok(weld(src, out, np=2, env=env))
    same(out, ckpt.expect())


def test_the_way_out_that_the_message_names(sharded, weld):
    ckpt, src, out = sharded
    ok(weld(src, out, env={"RANK": "0", "WORLD_SIZE": "2"}, prefix=["env", "-u", "RANK", "-u", "WORLD_SIZE"]))
    same(out, ckpt.expect())


# ---- directories ----------------------------------------------------------------------------------


def test_output_inside_input(sharded, weld):
    ckpt, src, _ = sharded
    ok(weld(src, src / "consolidated", np=2))
    same(src / "consolidated", ckpt.expect())
    ok(weld(src, src / "consolidated", "--overwrite"))


def test_input_inside_output(dirs, make, weld):
    src, _ = dirs
    ckpt = make(src / "sharded")
    before = oracle.tree(src / "sharded")
    ok(weld(src / "sharded", src, np=2))
    same(src, {**ckpt.expect(), **{f"sharded/{n}": d for n, d in before.items()}})
    ok(weld(src / "sharded", src, "--overwrite"))
    same(src, {**ckpt.expect(), **{f"sharded/{n}": d for n, d in before.items()}})


@pytest.mark.parametrize("spelling, np", [("same", 2), ("dot", None), ("link", None)])
def test_the_same_directory_sharded(sharded, weld, np, spelling):
    ckpt, src, _ = sharded
    before = oracle.tree(src)
    (src.parent / "link").symlink_to(src)
    out = {"same": src, "dot": f"{src}/../in/.", "link": src.parent / "link"}[spelling]
    result = weld(src, out, np=np)
    assert result.status == 0 and result.stdout == "", show(result)
    assert len(warnings(result)) == 1 and "transformers" in warnings(result)[0], show(result)
    same(src, {**before, **ckpt.expect()})
    result = weld(src, out, "-q", "--overwrite", np=np)
    ok(result)
    same(src, {**before, **ckpt.expect()})


@pytest.mark.parametrize("spelling, np", [("same", None), ("dot", None), ("link", 2)])
def test_the_same_directory_plain(dirs, weld, rng, np, spelling):
    src, _ = dirs
    oracle.write_plain(str(src), {"a": oracle.random_tensor(rng, "U8", (9,))}, {"a": "x.safetensors"})
    before = oracle.tree(src)
    (src.parent / "link").symlink_to(src)
    out = {"same": src, "dot": f"{src}/../in/.", "link": src.parent / "link"}[spelling]
    for options in ([], ["--overwrite"]):
        fails(weld(src, out, *options, np=np), 2)
        same(src, before)


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_output_that_is_a_file(sharded, weld, tmp_path, where):
    _, src, _ = sharded
    oracle.write(str(tmp_path / "file"), b"x")
    result = weld(src, tmp_path / where, np=2)
    assert result.status in (2, 4) and len(errors(result)) == 1, show(result)
    assert (tmp_path / "file").read_bytes() == b"x"


def test_closed_standard_streams(sharded):
    """Started without standard input, output and error, no file of ours may take their numbers and get messages."""
    ckpt, src, out = sharded
    ok(run(["consolidate", src, out], prefix=["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-']))
    same(out, ckpt.expect())


def test_an_mpi_program_that_is_told_nothing_about_root(sharded):
    """The variables that these tests set are for the launcher; alone the program needs none of them."""
    ckpt, src, out = sharded
    env = {k: v for k, v in os.environ.items() if k not in LAUNCH and not k.startswith(("OMPI_", "PMIX_"))}
    got = subprocess.run([SHARDWELD, "consolidate", src, out], env=env, capture_output=True, timeout=60, check=False)
    assert (got.returncode, got.stdout, got.stderr) == (0, b"", b""), got
    same(out, ckpt.expect())
