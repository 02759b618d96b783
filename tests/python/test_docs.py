"""The examples in docstrings, run where torch is not: each thing that users call has one."""

import doctest
import sys

import pytest
import shardweld

# Errors are kinds of the one that has an example; results come from calls that have one.
ERRORS = {name for name in shardweld.__all__ if isinstance(getattr(shardweld, name), type) and issubclass(getattr(shardweld, name), Exception)}
OTHERS = {"Code", "Inspection", "Verification", "WeldResult"} | ERRORS - {"ShardweldError"}


@pytest.mark.parametrize("name", sorted({*shardweld.__all__} - OTHERS))
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thing = getattr(shardweld, name)
    tests = [test for test in doctest.DocTestFinder().find(thing, name, globs={}) if test.examples]
    said = []
    failed = sum(doctest.DocTestRunner().run(test, out=said.append).failed for test in tests)
    assert tests and not failed, "".join(said)
    assert "torch" not in sys.modules


@pytest.mark.parametrize("name", shardweld.__all__)
def test_every_name_is_explained(name):
    thing = getattr(shardweld, name)
    assert thing.__doc__
    if callable(thing) and not isinstance(thing, type):
        assert "Args:" in thing.__doc__ or thing.__code__.co_argcount == 0, name
        assert "Raises:" in thing.__doc__ or thing.__code__.co_argcount == 0, name
