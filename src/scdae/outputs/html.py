"""A page of text, tables and pictures as one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure", "paragraph", "section", "table", "whole_page"]

_STYLE = """
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; font: 16px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: 0; } h2 { border-bottom: 1px solid #ccc; margin-top: 2.5rem; }
.lead { border-left: 4px solid #1f77b4; padding: .5rem 1rem; background: #f2f6fa; font-size: 1.1rem; }
.muted { color: #666; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e5e5e5; }
td.number { text-align: right; }
tr.look td:first-child { border-left: 4px solid #d62728; padding-left: .6rem; }
tr.fine td:first-child { border-left: 4px solid #2ca02c; padding-left: .6rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figure.broad { grid-column: 1 / -1; } figure img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .9rem; }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""


def paragraph(text: str, kind: str = "") -> str:
    """Return text as a paragraph; `kind` is ``"lead"``, ``"muted"`` or nothing."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = (), kinds: Sequence[str] = ()) -> str:
    """Return a table; numbers are set to the right.

    Parameters
    ----------
    rows
        Values, shown as text.
    head
        Names of the columns.
    kinds
        Of the rows: ``"fine"`` or ``"look"``, which mark them.
    """
    rows = list(rows)
    marks = [f' class="{escape(kind)}"' if kind else "" for kind in kinds] or [""] * len(rows)
    first = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr></thead>" if head else ""
    body = "".join(f"<tr{mark}>{''.join(map(_cell, row))}</tr>" for mark, row in zip(marks, rows, strict=True))
    return f'<div class="wide"><table>{first}<tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = f"{value:,}" if isinstance(value, int) and is_number else f"{value:.4g}" if is_number else str(value)
    return f"<td{' class=number' if is_number else ''}>{escape(text)}</td>"


def figure(drawn: Figure, title: str, words: str, *, broad: bool = False) -> str:
    """Return a figure of Matplotlib, held within the page, with a title and what is to be seen."""
    held = io.BytesIO()
    drawn.savefig(held, format="png", dpi=110, bbox_inches="tight")
    data = base64.b64encode(held.getvalue()).decode("ascii")
    kind = ' class="broad"' if broad else ""
    return (
        f'<figure{kind}><img alt="{escape(f"{title}: {words}")}" src="data:image/png;base64,{data}">'
        f"<figcaption><strong>{escape(title)}.</strong> {escape(words)}</figcaption></figure>"
    )


def section(title: str, *parts: str) -> str:
    """Return a section of the page; nothing where it would be empty."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>" if any(parts) else ""


def whole_page(title: str, *parts: str) -> str:
    """Return the page."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )
