"""install() and uninstall(), with packages that stand for torch and NeMo Automodel: who has bound their functions, before and after."""

import os
import subprocess
import sys

import pytest

PYTHON = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "python")
HOME = """
def consolidate_safetensors_files(*args, **more):
    "theirs"
    return "theirs"
def consolidate_safetensors_files_on_every_rank(*args, **more):
    return "theirs"
def {extra}():
    return consolidate_safetensors_files("in", "out", None)
"""
FILES = {
    "torch/distributed/__init__.py": "def is_available():\n    return False\n",
    "torch/distributed/checkpoint/_consolidate_hf_safetensors.py": HOME.format(extra="inside"),
    "torch/distributed/checkpoint/hf_storage.py": "from torch.distributed.checkpoint._consolidate_hf_safetensors import consolidate_safetensors_files\n",
    "nemo_automodel/components/checkpoint/_backports/consolidate_hf_safetensors.py": HOME.format(extra="within"),
    "user.py": "from torch.distributed.checkpoint._consolidate_hf_safetensors import consolidate_safetensors_files_on_every_rank as weld\n",
    "late.py": "from nemo_automodel.components.checkpoint._backports.consolidate_hf_safetensors import consolidate_safetensors_files as merge\n",
    "ours.py": "from shardweld import consolidate_safetensors_files\n",
}
TORCH = "torch.distributed.checkpoint"
NEMO = "nemo_automodel.components.checkpoint._backports.consolidate_hf_safetensors"


@pytest.fixture
def python(tmp_path):
    """Run a text where those packages are; what it prints."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(tmp_path).parents[:-1]:
            (tmp_path / parent / "__init__.py").touch()  # the true ones may be there too

    def run(text, *options):
        env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PYTHON}", "SHARDWELD_LIBRARY": "/nonexistent"}
        done = subprocess.run([sys.executable, *options, "-c", text], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


# Theirs answers, ours says that there is no library.
KIND = """
import sys, shardweld
def kind(f):
    try:
        return f("in", "out", None) if f.__code__.co_argcount or f.__code__.co_flags & 4 else f()
    except ImportError:
        return "ours"
"""


def test_every_binding_is_replaced_and_restored(python):
    said = python(KIND + f"""
import user, ours, {TORCH}.hf_storage as storage, {TORCH}._consolidate_hf_safetensors as home
before = [home.consolidate_safetensors_files]  # what lies in no globals stays
replaced = shardweld.install()
assert replaced["{TORCH}.hf_storage.consolidate_safetensors_files"] is before[0] and replaced["user.weld"].__name__.endswith("every_rank")
assert len(replaced) == 4 and shardweld.install() == {{}}
print(kind(home.consolidate_safetensors_files), kind(storage.consolidate_safetensors_files), kind(user.weld), kind(home.inside))
import late
print(kind(late.merge), kind(sys.modules["{NEMO}"].within), late.merge.__doc__)
shardweld.uninstall()
print(kind(home.consolidate_safetensors_files), kind(storage.consolidate_safetensors_files), kind(user.weld), kind(late.merge), kind(home.inside))
assert home.consolidate_safetensors_files is before[0] and ours.consolidate_safetensors_files is shardweld.consolidate_safetensors_files
print(len(shardweld.install()), kind(user.weld))
""")
    assert said == ["ours"] * 6 + ["theirs"] * 6 + ["7", "ours"]


def test_what_is_imported_later(python):
    """Also torch itself; and once it is uninstalled no more."""
    said = python(KIND + f"""
print(len(shardweld.install()), "torch" in sys.modules)
import user, {TORCH}.hf_storage as storage
from importlib import reload
print(kind(user.weld), kind(storage.consolidate_safetensors_files), kind(reload(sys.modules["{TORCH}._consolidate_hf_safetensors"]).inside))
print(type(sys.modules["{TORCH}._consolidate_hf_safetensors"].__spec__.loader).__name__)
shardweld.uninstall()
import late
print(kind(user.weld), kind(late.merge))
""")
    assert said == ["0", "False", "ours", "ours", "ours", "SourceFileLoader", "theirs", "theirs"]


def test_a_spawned_process(python, tmp_path):
    """By the file that the docs name, or by the top of the script."""
    child = "def main():\n    import user\n    print(user.weld.__code__.co_filename.endswith('_install.py'), flush=True)\n"
    (tmp_path / "child.py").write_text(child)
    spawn = "import multiprocessing as m, child\np = m.get_context('spawn').Process(target=child.main)\np.start()\np.join()\n"
    script = tmp_path / "script.py"
    script.write_text("import shardweld\nshardweld.install()\nif __name__ == '__main__':\n    " + spawn.replace("\n", "\n    "))
    assert python(f"import shardweld\nshardweld.install()\n{spawn}") == ["False"]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PYTHON}"}
    assert subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=60).stdout.split() == ["True"]
    (tmp_path / "shardweld.pth").write_text("import shardweld; shardweld.install()\n")
    (tmp_path / "sitecustomize.py").write_text(f"import site\nsite.addsitedir({str(tmp_path)!r})\n")  # as if it were site-packages
    assert python(spawn) == ["True"]
