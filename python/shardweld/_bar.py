"""The bar of who gives progress=True: on a terminal and in a notebook one that grows, elsewhere a line for each tenth. It is told by the
library how many bytes are done, on rank 0 alone, up to some thousand times."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from ._errors import UsageError
from ._show import size_text

_EVERY = 0.1  # seconds between two pictures


def make_bar(progress: Any, what: str) -> Callable[[int, int], object] | None:
    """What is called with the bytes that are done: for True a bar that says what is done; a function is called itself.

    Raises UsageError for what is neither.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return _Bar(what)
    if not callable(progress):
        raise UsageError(f"progress is {progress!r}, expected True, False or a function")
    return progress  # type: ignore[no-any-return]


def end_bar(bar: Callable[[int, int], object] | None, success: bool) -> None:
    """The call is over. What comes then stands on a line of its own."""
    if isinstance(bar, _Bar):
        bar.end(success)


class _Bar:
    """Knows when to draw, and the words."""

    def __init__(self, what: str) -> None:
        self._what, self._begun, self._drawn = what, time.monotonic(), 0.0
        self._left, self._total = 0, 0
        self._show: _Terminal | _Lines | _Notebook | None = None

    def __call__(self, done: int, total: int) -> None:
        self._show = self._show or _make_show()
        now = time.monotonic()
        self._left, self._total = total - done, total
        if now - self._drawn < _EVERY and done < total:
            return
        self._drawn = now
        share = min(done / total, 1.0) if total else 1.0
        self._show.draw(share, f"{self._what} {share:4.0%}", self._numbers(done, total, now - self._begun))

    @staticmethod
    def _numbers(done: int, total: int, seconds: float) -> str:
        """What tqdm tells: how much of how much, in which time, how fast."""
        rate = int(done / seconds) if seconds > 0 else 0
        left = _clock((total - done) / rate) if rate else "?"
        return f"{size_text(done)}/{size_text(total)} [{_clock(seconds)}<{left}, {size_text(rate)}/s]"

    def end(self, success: bool) -> None:
        """The last word of the library may have come before the last bytes."""
        if self._show and success and self._left:
            self(self._total, self._total)
        if self._show:
            self._show.end()
        self._show = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


# ---- where it is shown ------------------------------------------------------------------------------------------------


class _Terminal:
    """One line that is drawn over and over."""

    def draw(self, share: float, before: str, behind: str) -> None:
        room = shutil.get_terminal_size().columns - len(before) - len(behind) - 4
        full = round(share * room) if room > 0 else 0
        bar = f"|{'█' * full}{' ' * (room - full)}|" if room > 4 else ""
        sys.stderr.write(f"\r{before}{bar} {behind}\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        sys.stderr.write("\n")
        sys.stderr.flush()


class _Lines:
    """For a file: a line for each tenth."""

    def __init__(self) -> None:
        self._tenth = -1

    def draw(self, share: float, before: str, behind: str) -> None:
        if int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            print(before, behind, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Each line has its end."""


class _Notebook:
    """An output of the cell that is replaced. Its front end knows <progress>."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, share: float, before: str, behind: str) -> None:
        html = f'{before} <progress value="{share:.4f}" max="1"></progress> {behind.replace("<", "&lt;")}'
        shown = {"text/html": f'<div style="font-family: monospace">{html}</div>', "text/plain": f"{before} {behind}"}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def end(self) -> None:
        """It stays as it is."""


def _make_show() -> _Terminal | _Lines | _Notebook:
    if hasattr(_interactive(), "kernel"):
        return _Notebook()
    return _Terminal() if sys.stderr.isatty() else _Lines()


def _interactive() -> Any:
    """IPython's shell, if this process is one: who runs in it has imported it."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
