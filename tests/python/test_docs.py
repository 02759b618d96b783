"""The examples in docstrings, run where torch is not."""

import doctest
import importlib

import pytest

MODULES = ("_commands", "_dropin", "_inspect", "_comm", "_errors", "_placement", "checkpoint", "io")
# What users call has an example.
SHOWN = {"_commands": ("consolidate", "diff", "reshard", "verify"), "_inspect": ("inspect",)}


@pytest.mark.parametrize("module", MODULES)
def test_examples(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = importlib.import_module(f"shardweld.{module}")
    tests = {test.name.rpartition(f"shardweld.{module}.")[2]: test for test in doctest.DocTestFinder(exclude_empty=True).find(found)}
    assert all(tests[name].examples for name in SHOWN.get(module, ()))
    failed = []
    for name, test in tests.items():
        at = tmp_path / name
        at.mkdir()
        monkeypatch.chdir(at)
        said = []
        if doctest.DocTestRunner().run(test, out=said.append).failed:
            failed.append("".join(said))
    assert not failed, "".join(failed)
