"""The structs and functions of ctypes are those of the header, and the library is found as promised."""

import ctypes
import os
import re
import shlex
import subprocess
import sys

import pytest
import ranks
import shardweld
from shardweld import _errors, _library, options

HEADER = os.path.join(ranks.ROOT, "include", "shardweld.h")
STRUCTS = {
    "sw_status": _library.Status,
    "sw_comm": _library.CommStruct,
    "sw_watchdog_options": _library.WatchdogOptions,
    "sw_name_rule": _library.NameRule,
    "sw_option": _library.Option,
    "sw_options": _library.options_struct(),
    "sw_result_file": _library.ResultFile,
    "sw_store": _library.Store,
    "sw_result": _library.Result,
    "sw_sharding": _library.Sharding,
    "sw_item": _library.Item,
    "sw_finding": _library.Finding,
    "sw_tolerance": _library.Tolerance,
    "sw_verification": _library.Verification,
    "sw_checkpoint_info": _library.CheckpointInfo,
    "sw_file_info": _library.FileInfo,
    "sw_note_info": _library.NoteInfo,
    "sw_tensor_info": _library.TensorInfo,
    "sw_box_info": _library.BoxInfo,
    "sw_read": _library.Read,
    "sw_read_options": _library.ReadOptions,
    "sw_read_shape": _library.ReadShape,
}
KINDS = "FLAG TEXT CAST PATH SIZE COUNT LIST PAIRS CHOICE RULES NRULES OWN".split()
CONSTANTS = {
    "SW_READ_DIMS": _library.READ_DIMS,
    "SW_SHARDING_TEXT": _library.SHARDING_TEXT,
    "SW_SIZE_TEXT": _library.SIZE_TEXT,
    "SW_NAME_STRIP": _library.NAME_STRIP,
    "SW_NAME_RENAME": _library.NAME_RENAME,
    **{f"SW_KIND_{word.upper()}": number for number, word in _library.KINDS.items()},
    **{f"SW_ASSIGN_{word.upper()}": number for number, word in enumerate(_library.words_of("assign"))},
    **{f"SW_OPTION_{kind}": getattr(_library, kind) for kind in KINDS},
}
C_NAMES = {("sw_name_rule", "before"): "from"}


@pytest.fixture(scope="module")
def header():
    with open(HEADER, encoding="utf-8") as f:
        return f.read()


def test_structs_and_constants(tmp_path):
    """A C compiler says where each member is."""
    lines, want = [], []
    for name, struct in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        want.append(f"{name} {ctypes.sizeof(struct)}")
        for member, _ in struct._fields_:
            c = C_NAMES.get((name, member), member)
            lines.append(f'printf("{name}.{c} %zu %zu\\n", offsetof(struct {name}, {c}), sizeof(((struct {name} *)0)->{c}));')
            field = getattr(struct, member)
            want.append(f"{name}.{c} {field.offset} {field.size}")
    for name, value in CONSTANTS.items():
        lines.append(f'printf("{name} %d\\n", (int){name});')
        want.append(f"{name} {value}")
    for code in _errors.Code:
        c = {"OK": "SW_OK", "DIFF": "SW_DIFF"}.get(code.name, f"SW_E{code.name}")
        lines.append(f'printf("{c} %d\\n", (int){c});')
        want.append(f"{c} {int(code)}")
    program = '#include <stdio.h>\n#include "shardweld.h"\nint main(void)\n{\n' + "\n".join(lines) + "\nreturn 0;\n}\n"
    (tmp_path / "layout.c").write_text(program)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-I", os.path.dirname(HEADER), "-o", tmp_path / "layout", tmp_path / "layout.c"], check=True)
    got = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout.splitlines()
    assert got == want


def test_every_struct_and_every_member_is_there(header):
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    bodies = dict(re.findall(r"typedef struct (sw_\w+) \{(.*?)\n\} \1;", text, flags=re.S))
    assert set(bodies) == set(STRUCTS)
    for name, body in bodies.items():
        body = re.sub(r"\(\*(\w+)\)\([^)]*\)", r"\1", body)
        members = re.findall(r"(\w+)(?:\[[^]]*\])?\s*[,;]", body)
        own = [C_NAMES.get((name, m), m) for m, _ in STRUCTS[name]._fields_]
        assert set(own) == set(members), name


def test_every_function_is_declared(header):
    text = re.sub(r"/\*.*?\*/|#ifdef __cplusplus.*?#e", "", header, flags=re.S)
    names = set(re.findall(r"\b(sw_\w+)\(", text))
    assert names == set(_library.FUNCTIONS)
    for name, (restype, argtypes) in _library.FUNCTIONS.items():
        function = getattr(_library.lib(), name)
        assert (function.restype, list(function.argtypes)) == (restype, argtypes)
        given = re.search(rf"\b{name}\(([^;]*)\);", text, flags=re.S).group(1)
        assert len(argtypes) == (0 if given == "void" else given.count(",") + 1), name


def test_exit_statuses_are_the_library_s():
    for code in _errors.Code:
        assert _errors._EXIT_STATUS[code] == _library.lib().sw_code_exit_status(code)


def test_messages_speak_python():
    said = {
        "holds it already; sw_options.overwrite replaces it": "holds it already; overwrite=True replaces it",
        "sw_options.expect_shards or sw_options.like, (sw_options.no_assets)": "expect_shards or like, (no_assets=True)",
        "sw_sharding.rules 'a', sw_sharding.mesh": "rules 'a', mesh",
        "SW_NAME_STRIP module. takes it off": "name_rules 'strip' module. takes it off",
        "sw_options.nothing, sw_read.ndim": "nothing, sw_read.ndim",
    }
    assert {message: _library.phrase(message) for message in said} == said


def test_version(header):
    version = re.search(r'#define SW_VERSION "(.*)"', header).group(1)
    import shardweld

    assert shardweld.__version__ == _library.VERSION == version


def python(program, **env):
    return ranks.run([sys.executable, "-c", program], **env)


def test_an_import_loads_nothing():
    done = python(
        "import sys, shardweld\n"
        "assert not {'numpy', 'torch', 'mpi4py', 'ctypes'} & set(sys.modules), sys.modules\n"
        "assert 'libmpi' not in open('/proc/self/maps').read()\n",
        SHARDWELD_LIBRARY="/nowhere",
    )
    assert done.status == 0, done.stderr


def test_names():
    """What dir() and * give is what is promised, and all of it is there."""
    assert sorted(shardweld.__all__) == shardweld.__all__ and dir(shardweld) == sorted([*shardweld.__all__, "__version__"])
    assert set(shardweld._LATER) < set(shardweld.__all__) and all(getattr(shardweld, name) for name in dir(shardweld))
    with pytest.raises(AttributeError, match="no attribute 'wled'"):
        shardweld.wled  # noqa: B018


# Of sw_options: what no function of Python takes under that name, since the function itself sees to it.
ALL_OPTIONS = {name for name, row in _library.option_rows().items() if row.kind not in (_library.NRULES, _library.OWN)}


def test_every_option_has_a_type():
    """Each member of sw_options is told to type checkers, for one function at least, and nothing else."""
    kinds = [getattr(options, name) for name in options.__all__ if name.endswith("Options")]
    assert set().union(*(kind.__annotations__ for kind in kinds)) == ALL_OPTIONS


GIVEN = {_library.FLAG: True, _library.TEXT: "{}", _library.PATH: "x.index.json", _library.CAST: "fp16", _library.SIZE: 1 << 20,
         _library.COUNT: 1, _library.LIST: ["x"], _library.RULES: [("strip", "x")]}  # fmt: skip


@pytest.mark.parametrize("call, kind", [("reshard", options.ReshardOptions), ("consolidate", options.ConsolidateOptions), ("save", options.SaveOptions)])
def test_options_that_a_function_refuses_are_not_its(call, kind, tmp_path):
    """By the library's words; those that it does not look at are not asked."""
    given = {"consolidate": (tmp_path, tmp_path / "o"), "reshard": (tmp_path, tmp_path / "o", "2"), "save": (tmp_path, {})}[call]
    for name in ALL_OPTIONS:
        value = GIVEN.get(_library.option_rows()[name].kind)
        if value is None:
            continue
        try:
            getattr(shardweld, call)(*given, **{name: value})
            refused = False
        except shardweld.Error as e:
            refused = "shard files" in str(e) and isinstance(e, shardweld.UsageError)
        assert not (refused and name in kind.__annotations__), name


def test_a_library_that_is_not_there():
    done = python("import shardweld; shardweld.weld('a', 'b', comm='self')", SHARDWELD_LIBRARY="/nowhere/lib.so")
    assert done.status == 1
    assert "ImportError: libshardweld cannot be loaded: /nowhere/lib.so" in done.stderr
    assert f"SHARDWELD_LIBRARY must name {_library.SONAME} of version {_library.VERSION}" in done.stderr


def copy_package(to):
    """The package without a library, elsewhere than in this clone."""
    package = to / "lonely" / "shardweld"
    package.mkdir(parents=True)
    for name in os.listdir(os.path.join(ranks.PYTHON, "shardweld")):
        if name.endswith(".py"):
            os.symlink(os.path.join(ranks.PYTHON, "shardweld", name), package / name)
    return package


def test_the_cure_fits_who_has_no_library(tmp_path):
    """In a clone, beside a program that was installed, where there is nothing at all."""

    def said(more="", **env):
        settings = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "SHARDWELD_LIBRARY": None, "LD_LIBRARY_PATH": None, **env}
        done = python("import shardweld._library as l; l.SONAME = 'libshardweld.so.77'; " + more + "l.lib()", **settings)
        assert "ImportError: libshardweld cannot be loaded: libshardweld.so.77: cannot open" in done.stderr, done.stderr
        assert "make install" not in done.stderr
        return done.stderr

    assert f"run 'make' in {os.path.dirname(ranks.PYTHON)}, and set SHARDWELD_LIBRARY=" in said()
    copy_package(tmp_path)
    elsewhere = {"PYTHONPATH": str(tmp_path / "lonely")}
    assert f"Install a wheel of shardweld {_library.VERSION}, which has it, or set SHARDWELD_LIBRARY" in said(**elsewhere)
    for name in ("bin/shardweld", "lib/libshardweld.so.77"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    assert f"{tmp_path}/lib has it, but the loader has not been told. Set SHARDWELD_LIBRARY={tmp_path}/lib" in said(**elsewhere, PATH=path)
    assert f"Run 'ldconfig' as root, or set SHARDWELD_LIBRARY={tmp_path}/lib" in said(f"l._LOADER_S = ['{tmp_path}/lib']; ")


@pytest.fixture
def stranger(tmp_path):
    """A library of another version."""
    (tmp_path / "other.c").write_text('const char *sw_version(void);\nconst char *sw_version(void) { return "9.9"; }\n')
    path = tmp_path / _library.SONAME
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, tmp_path / "other.c"], check=True)
    return path


def test_a_library_of_another_version(stranger):
    done = python("import shardweld; shardweld.weld('a', 'b', comm='self')", SHARDWELD_LIBRARY=str(stranger))
    assert "ImportError: " in done.stderr and "is version 9.9" in done.stderr


SHOW = "import shardweld._library as l; print(l.lib()._name)"


def test_where_the_library_is_looked_for(tmp_path):
    """SHARDWELD_LIBRARY (a file or a directory), beside the package, the system."""
    real = os.path.join(ranks.BUILD, _library.SONAME)
    assert python(SHOW, SHARDWELD_LIBRARY=real).stdout.strip() == real
    assert python(SHOW, SHARDWELD_LIBRARY=ranks.BUILD).stdout.strip() == real
    package = copy_package(tmp_path)
    os.symlink(real, package / _library.SONAME)
    beside = python(SHOW, SHARDWELD_LIBRARY=None, PYTHONPATH=str(package.parent)).stdout.strip()
    assert beside == str(package / _library.SONAME)
    system = python(SHOW, SHARDWELD_LIBRARY=None, LD_LIBRARY_PATH=ranks.BUILD).stdout.strip()
    assert system == _library.SONAME


@pytest.mark.parametrize(
    "code, reason, kinds, number",
    [
        ("USAGE", "there is no option", (ValueError,), None),
        ("INPUT", "a hole", (ValueError,), None),
        ("INPUT", "no such directory", (ValueError, FileNotFoundError), 2),
        ("IO", "cannot write: No space left on device", (OSError,), 28),
        ("IO", "no space: 5 bytes are needed, 4 are free", (OSError,), 28),
        ("IO", "cannot open: permission denied", (OSError,), 13),
        ("IO", "something else", (OSError,), None),
        ("NOMEM", "no memory", (MemoryError,), None),
        ("COMM", "communication between the ranks failed", (RuntimeError,), None),
        ("CANCEL", "interrupted", (RuntimeError,), None),
        ("DIFF", "the checkpoints differ", (RuntimeError,), None),
    ],
)
def test_errors_are_also_what_callers_of_torch_catch(code, reason, kinds, number):
    import pickle

    error = _errors.make_error(_errors.Code[code], "a file", "a.tensor", reason)
    far = _errors.make_error(_errors.Code[code], "", "", reason, (37, "node12"))
    for one in (far, pickle.loads(pickle.dumps(far))):
        assert (one.rank, one.host, str(one)) == (37, "node12", f"{reason} (rank 37 on node12)")
        assert getattr(one, "errno", None) == number
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert isinstance(one, shardweld.Error) and isinstance(one, RuntimeError) and all(isinstance(one, kind) for kind in kinds)
        assert (one.code.name, one.file, one.tensor, one.reason) == (code, "a file", "a.tensor", reason)
        assert str(one) == f"a file: tensor 'a.tensor': {reason}"
        assert getattr(one, "errno", None) == number
