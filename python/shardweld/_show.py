"""Words and tables for people: what objects say of themselves in a terminal, and in a notebook."""

from __future__ import annotations

import ctypes
import html
from collections.abc import Iterable, Sequence

from ._library import SIZE_TEXT, decode, lib


def size_text(n: int) -> str:
    """Bytes as "1.50 GB"."""
    text = ctypes.create_string_buffer(SIZE_TEXT)
    return decode(lib().sw_size_text(n, text))


def count(n: int, what: str) -> str:
    """ "1 file", "18,018 tensors"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def lines_html(text: str) -> str:
    """What repr() says, as a notebook shows it."""
    return f"<pre>{html.escape(text)}</pre>"


def table_html(heads: Sequence[str], rows: Iterable[Sequence[object]], left_out: int = 0) -> str:
    """A table, and how many rows it lacks."""
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    more = f"<tr><td colspan={len(heads)}>and {left_out:,} more</td></tr>" if left_out > 0 else ""
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{cells}{more}</table>"


def picture_html(svg: str, says: str) -> str:
    """A picture that keeps its style sheet to itself."""
    import base64

    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{html.escape(says)}" style="max-width: 100%" src="data:image/svg+xml;base64,{data}">'
