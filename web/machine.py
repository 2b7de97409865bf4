"""What other programs read of the history: the badge, the feed of failures, the figures for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from xml.etree import ElementTree

from maos_bot.model import RunStatus
from maos_bot.store.queries import Queries
from maos_bot.store.rows import LOST, RunFilter, RunRow, RunSort
from web import words

FEED_SIZE: Final = 50
ATOM: Final = "http://www.w3.org/2005/Atom"
_COLOURS: Final = {
    RunStatus.SUCCEEDED: ("passing", "#1f7a4d", "brightgreen"),
    RunStatus.FAILED: ("failing", "#b0241c", "red"),
    RunStatus.RUNNING: ("running", "#1d58b5", "blue"),
}
_OTHER: Final = ("#566070", "lightgrey")
_LETTER: Final = 6.6  # pixels: the mean width of a letter in the badge's type


def badge_words(row: RunRow | None) -> tuple[str, str, str]:
    """What a badge says of a run, its colour, and the colour's name at shields.io."""
    if row is None:
        return "no runs", *_OTHER
    known = _COLOURS.get(RunStatus(row.status)) if row.status in set(RunStatus) else None
    return known or (words.mark(row.status).word.lower(), *_OTHER)


def badge(label: str, message: str, colour: str) -> dict[str, Any]:
    """The geometry of the badge; widths in pixels, from the number of letters."""
    left, right = (round(len(text) * _LETTER + 12) for text in (label, message))
    return {"label": label, "message": message, "colour": colour, "left": left, "right": right, "width": left + right}


def feed(rows: Sequence[RunRow], *, base: str, now: float) -> bytes:
    """The failed runs as an Atom feed; `base` is the dashboard's own address, with a slash at its end."""
    ElementTree.register_namespace("", ATOM)
    root = ElementTree.Element(f"{{{ATOM}}}feed")
    _text(root, "title", "Failed runs")
    _text(root, "id", f"{base}failed.atom")
    _text(root, "updated", words.iso(_ended(rows[0]) if rows else now))
    ElementTree.SubElement(root, f"{{{ATOM}}}link", rel="self", href=f"{base}failed.atom")
    author = ElementTree.SubElement(root, f"{{{ATOM}}}author")
    _text(author, "name", "MAOS bot")
    for row in rows:
        url = f"{base}runs/{row.run_id}"
        entry = ElementTree.SubElement(root, f"{{{ATOM}}}entry")
        where = f"#{row.pull_request} {row.branch}" if row.pull_request is not None else row.branch or row.run_id
        _text(entry, "title", f"{row.name or row.run_id} failed on {where}")
        _text(entry, "id", url)
        _text(entry, "updated", words.iso(_ended(row)))
        ElementTree.SubElement(entry, f"{{{ATOM}}}link", href=url)
        _text(entry, "summary", f"{row.reason or 'failed'}; took {words.duration(row.wall_s)}")
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def metrics(queries: Queries) -> str:
    """The history as figures in Prometheus's text format."""
    status = queries.status()
    lines: list[str] = []

    def add(name: str, kind: str, help_: str, *samples: tuple[str, float]) -> None:
        lines.extend((f"# HELP {name} {help_}", f"# TYPE {name} {kind}"))
        lines.extend(f"{name}{labels} {value:.10g}" for labels, value in samples)

    add("maos_database_bytes", "gauge", "Size of the database.", ("", status.bytes))
    add("maos_schema_version", "gauge", "Schema version of the database.", ("", status.schema))
    counts = queries.status_counts()
    add(
        "maos_runs", "gauge", "Runs in the history by status.",
        *((f'{{status="{name}"}}', number) for name, number in sorted(counts.items())),
    )  # fmt: skip
    lost = queries.count_runs(RunFilter(status=LOST))
    add("maos_runs_lost", "gauge", "Runs that stopped giving signs of life (among the running ones).", ("", lost))
    if status.last_event_at is not None:
        add(
            "maos_last_event_timestamp_seconds",
            "gauge",
            "When the latest run's last event came.",
            ("", status.last_event_at),
        )
    last = queries.runs(RunFilter(status=RunStatus.SUCCEEDED), limit=1, sort=RunSort.STARTED)
    if last and last[0].wall_s is not None:
        add(
            "maos_last_success_duration_seconds",
            "gauge",
            "How long the last run that succeeded took.",
            ("", last[0].wall_s),
        )
    return "\n".join(lines) + "\n"


def _ended(row: RunRow) -> float:
    return row.finished_at if row.finished_at is not None else row.last_event_at


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    # XML can't hold control characters, whatever way they are written.
    ElementTree.SubElement(parent, f"{{{ATOM}}}{name}").text = "".join(
        char
        for char in text
        if char in "\t\n" or (char >= " " and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff")
    )
