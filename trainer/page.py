"""One HTML page that needs nothing else: its pictures lie within it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing on the page runs, or is fetched from elsewhere, whatever the names of files say."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
code { overflow-wrap: anywhere; }
"""


def render(title: str, sections: Iterable[str], style: str = "") -> str:
    """The page of a title, as text, and sections, as HTML; `style` is added to STYLE."""
    name = html.escape(title)
    body = "\n".join((f"<h1>{name}</h1>", *sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{name}</title><style>{STYLE}{style}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def facts(told: Mapping[str, str]) -> str:
    """A table of names and what is said of them, both text."""
    return table(
        f"<tr><th>{html.escape(name)}</th><td><code>{html.escape(value)}</code></td></tr>"
        for name, value in told.items()
    )


def table(rows: Iterable[str]) -> str:
    """A table of rows, as HTML."""
    return f"<table>{''.join(rows)}</table>"


def image(data: bytes, about: str, kind: str = "png") -> str:
    """A picture; `about` is the text for who does not see it, `kind` a subtype of image/."""
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(about)}" src="data:image/{kind};base64,{encoded}">'
