"""`make docs`: write the tables of settings anew (`feature_store` writes that of the features). Room: cli.

A table is found by its heading row; the rows below it are replaced. Tests compare the same tables with the pages.
"""

from __future__ import annotations

from itertools import dropwhile
from pathlib import Path
from typing import Final

from cli import settings
from serving.settings import ServingSettings

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"


def tables() -> dict[str, list[tuple[str, str]]]:
    """Return by page the heading that stands somewhere above each table, and the table."""
    serving = settings.table(ServingSettings, without=settings.Settings.model_fields)
    return {
        "operations.md": [("## Settings", settings.table()), ("### Of an API process", serving)],
    }


def replaced(page: str, heading: str, table: str) -> str:
    """Return the page with the first table after a heading replaced."""
    lines = page.splitlines()
    start = lines.index(heading)
    first = next(n for n in range(start, len(lines)) if lines[n].startswith("|"))
    rest = list(dropwhile(lambda line: line.startswith("|"), lines[first:]))
    return "\n".join([*lines[:first], *table.splitlines(), *rest]) + "\n"


def main() -> None:
    """Write all pages."""
    for name, found in tables().items():
        page = (DOCS / name).read_text()
        for heading, table in found:
            page = replaced(page, heading, table)
        (DOCS / name).write_text(page)


if __name__ == "__main__":
    main()
