"""HTML from function calls: every string is text and is escaped, except what another call has made."""

from __future__ import annotations

import html
from collections.abc import Sequence

from .style import STYLE

__all__ = ["Markup", "Node", "data_table", "document", "fact_list", "join", "section", "tag"]

# A page has no script and fetches nothing; should text ever get past the escaping, the browser keeps it so.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_VOID = frozenset({"br", "hr", "img", "meta"})


class Markup(str):
    """Finished HTML."""

    __slots__ = ()


Node = str | int | None
"""What a tag can hold: finished HTML, text, or nothing."""


def tag(name: str, /, *children: Node, **attributes: str | None) -> Markup:
    """Return an element.

    Args:
        name: Its name.
        children: What is in it.
        attributes: ``class_`` becomes ``class`` and ``aria_label`` becomes ``aria-label``; None is left out.
    """
    pairs = (
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    start = f"<{name}{''.join(pairs)}>"
    return Markup(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def join(*nodes: Node) -> Markup:
    """Return nodes in a row."""
    return Markup(
        "".join(node if isinstance(node, Markup) else _escaped(str(node)) for node in nodes if node is not None)
    )


def data_table(
    head: Sequence[Node], rows: Sequence[Sequence[Node]], *, caption: str, words: Sequence[int] = (), class_: str = ""
) -> Markup:
    """Return a table whose first column names the rows and whose other columns are numbers.

    Args:
        head: Names of the columns.
        rows: One cell a column; the first is the row's name.
        caption: What the table shows.
        words: Other columns that hold words.
        class_: Of the table.
    """
    kinds = ["words" if index == 0 or index in words else "number" for index in range(len(head))]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    ]
    titles = (tag("th", cell, scope="col", class_=kind) for cell, kind in zip(head, kinds, strict=True))
    parts = tag("thead", tag("tr", *titles)), tag("tbody", *body)
    table = tag("table", *parts, class_=class_ or None, aria_label=caption)
    # The caption is outside of what scrolls on a narrow screen, or it would scroll out of sight.
    scrolled = tag("div", table, class_="scroll", tabindex="0")
    return tag("div", tag("p", caption, class_="caption"), scrolled, class_="table")


def fact_list(pairs: Sequence[tuple[str, Node]]) -> Markup:
    """Return names with their values."""
    return tag("dl", *(node for name, value in pairs for node in (tag("dt", name), tag("dd", value))))


def document(title: str, *content: Node) -> str:
    """Return a page of its own, one file that refers to nothing outside of itself.

    Args:
        title: What the browser shows on the tab.
        content: The parts, in order.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *content)), lang='en')}\n"


def section(title: str, *content: Node) -> Markup:
    """Return a part of the page under its heading."""
    return tag("section", tag("h2", title), *content)


def _escaped(text: str) -> str:
    """Escape text; what cannot be seen, such as control characters that turn the writing around, is spelled out."""
    visible = (char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)
    return html.escape("".join(visible))
