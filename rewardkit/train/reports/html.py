"""What the HTML pages about training share: one file that needs nothing else, in which whatever a model wrote is only text."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_STYLE = """
:root{--line:#d8dee4;--dim:#59636e;--panel:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--line:#30363d;--dim:#9198a1;--panel:#161b22}}
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:1080px;padding:0 1rem;color:#1f2328;background:#fff}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}}
h1{font-size:1.35rem;margin:.2rem 0}h2{font-size:1.05rem;margin:2rem 0 .6rem}
.grid{display:flex;flex-wrap:wrap;gap:12px}.grid svg,.wide svg{background:var(--panel);border-radius:6px;max-width:100%}
.dim{color:var(--dim)}.key{display:inline-block;margin-right:1.2rem;white-space:nowrap}
.key i{display:inline-block;width:1.6em;border-top:3px solid;vertical-align:.25em;margin-right:.4em}
.key i.dashed{border-top-style:dashed}
.alarm{border-left:4px solid #e5484d;background:var(--panel);padding:.35rem .8rem;margin:.3rem 0}
table{border-collapse:collapse}td,th{border-bottom:1px solid var(--line);padding:.3rem .7rem .3rem 0;text-align:left;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
table.wide{width:100%;margin:0;table-layout:fixed}table.wide td{overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font:12px/1.4 ui-monospace,monospace}
.scroll{overflow-x:auto}.wide{margin-bottom:12px}
.tall{max-height:22em;overflow:auto}summary{cursor:pointer;color:var(--dim)}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page; ``parts`` are HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        # Were anything to slip through as HTML, it still could neither run nor fetch.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def text(value: Any) -> str:
    """Anything as HTML text; chat messages as a dialogue."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "role" in item for item in value):
        value = "\n\n".join(f"{item['role']}: {_spoken(item.get('content'))}" for item in value)
    return html.escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A table whose cells are HTML; the columns ``numbers`` stand right."""

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = (' class="number"' if index in numbers else "" for index in range(len(cells)))
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f'<div class="scroll"><table><tr>{row([text(name) for name in head], "th")}</tr>{body}</table></div>'


def key(entries: Iterable[tuple[str, str, bool]]) -> str:
    """What the lines mean: (name, colour, whether dashed)."""
    return (
        "<p>"
        + "".join(
            f'<span class="key"><i class="{"dashed" if dashed else ""}" style="border-color:{colour}"></i>{text(name)}</span>'
            for name, colour, dashed in entries
        )
        + "</p>"
    )


def _spoken(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
