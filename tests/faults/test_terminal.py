"""On a terminal, under the launcher and alone: the bar, and Ctrl-C."""

import os
import pty
import select
import time

import oracle
import pytest
from conftest import next_run
from runner import command, environment, family
from test_kill import is_stopped

SLOW = {"SHARDWELD_FAULT": "mpi_write:-1:1+:slow"}


def on_terminal(words, env, ready=None, seconds=40):
    """Run with a terminal of its own; once ready(pid) press Ctrl-C. The status, and all that the terminal showed.

    The launcher wakes who stands still, and after a second each, as it does by default, tells all to end, and kills.
    """
    env = {**env, "OMPI_MCA_odls_base_sigkill_timeout": None}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(words[0], [str(w) for w in words], environment(env))
    shown, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if ready and ready(pid):
            os.write(terminal, b"\x03")
            ready = None
        if select.select([terminal], [], [], 0.02)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the last of them has closed it
                break
    else:
        os.kill(pid, 9)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return status, shown.decode(errors="replace")


def halted(pid):
    """A rank stands still; it does so once, and one that was woken before would stay as it is."""
    return any(map(is_stopped, family(pid)))


@pytest.mark.parametrize("np", [None, 3])
def test_the_bar(scene, out, np):
    status, shown = on_terminal(command([*scene.args(out, buffer="4KiB"), "--verify"], np), {"SHARDWELD_FAULT": "pread:-1:1+:slow"})
    assert status == 0 and scene.look(out).new
    assert "\r[" in shown and " left" in shown and "shardweld: done, " in shown, shown
    # Each phase is named, in its order.
    at = [shown.find(word) for word in ("\rplanning, ", "\rwriting, ", "] writing ", "\rsyncing, ", "\rverifying, ", "\rpublishing, ")]
    assert -1 not in at and at == sorted(at), shown


def test_no_bar_where_the_launchers_messages_go_to_a_file(scene, out, tmp_path):
    words = ["sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh", tmp_path / "log", *command(scene.args(out, buffer="4KiB"), 3)]
    status, shown = on_terminal(words, SLOW)
    assert status == 0 and shown == "" and (tmp_path / "log").read_text() == "", shown


@pytest.mark.parametrize("never", [["-q"], ["--progress", "never"]], ids=" ".join)
def test_no_bar_that_is_not_wanted(scene, out, never):
    status, shown = on_terminal(command([*scene.args(out, buffer="4KiB"), *never], 3), SLOW)
    assert status == 0 and shown == "", shown


def test_ctrl_c(scene, out):
    """There is time to clean up."""
    status, shown = on_terminal(command(scene.args(out, buffer="4KiB"), 3), {"SHARDWELD_FAULT": "mpi_write:0:3:halt"}, ready=halted)
    assert status != 0 and "shardweld: interrupted; if " in shown and "shardweld: error: interrupted by a signal (rank " in shown, shown
    now = scene.look(out)
    assert now.old and not now.staged


def test_ctrl_c_where_nothing_moves(scene, out):
    """The launcher kills: what was said before is all there is, and it is true."""
    first_file = out / ".shardweld-staging" / "new" / oracle.model_name(1, 1)
    words = command(scene.args(out, buffer="4KiB"), 3)
    status, shown = on_terminal(words, {"SHARDWELD_FAULT": "mpi_write:-1:3:hang"}, ready=lambda _: first_file.exists())
    assert status != 0 and f"shardweld: interrupted; if {out}/.shardweld-staging stays behind, the next run removes it" in shown, shown
    assert shown.count("interrupted") == 1, shown
    now = scene.look(out)
    assert now.old and now.staged
    assert next_run(scene, out, np=2) == ""


def test_ctrl_c_too_late(scene, out):
    """Once publishing has begun it is finished."""
    status, shown = on_terminal(command(scene.args(out), 2), {"SHARDWELD_FAULT": "rename:0:3:halt"}, ready=halted)
    assert status != 0 and scene.look(out).new
    assert "shardweld: interrupted; if " in shown and "shardweld: done all the same: the signal came too late" in shown, shown
