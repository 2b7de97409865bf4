"""A run as GitHub markdown: the sticky comment, the job summary, the texts of check runs (pure).

A text is put together from whole blocks, each with an importance. Where not all fit, the least important are left out
and handed back as `overflow`, byte for byte, for the next place that has room; the text says where they are. Nothing is
ever cut inside a block, so no fence, table, tag or character is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Trigger
from maos_bot.reporting import blocks, mermaid, words
from maos_bot.reporting.change_blocks import change_block
from maos_bot.reporting.escape import code, fenced, inline, link, one_line
from maos_bot.reporting.excerpt import first_bytes
from maos_bot.reporting.finding_blocks import finding_blocks
from maos_bot.reporting.findings import Standing
from maos_bot.reporting.view import RunReport, TaskReport

MARKER: Final = "<!-- maos-bot:report -->"
COMMENT_BYTES: Final = 60_000  # GitHub refuses comments of more than 65,536 characters
CHECK_BYTES: Final = 65_535  # of a check run's summary and of its text, each
SUMMARY_BYTES: Final = 1024 * 1024  # a longer job summary is dropped whole
TITLE_CHARACTERS: Final = 255
OPEN_FAILURES: Final = 5  # logs the comment shows before others come into question
LOG_LINES: Final = 40
LOG_BYTES: Final = 6_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Where more is to be seen; an empty one isn't shown. Only http(s) addresses become links."""

    workflow_run: str = ""
    checks: str = ""
    dashboard: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A whole piece of markdown; the higher `importance`, the longer it stays. None is never left out."""

    text: str
    importance: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A text within its limit, and the blocks that had no room in it, byte for byte."""

    text: str
    left: tuple[Block, ...] = ()

    @property
    def overflow(self) -> str:
        """What had no room, as one text."""
        return "\n\n".join(block.text for block in self.left)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOutput:
    """The texts of a check run: `title` is plain, the others are markdown of at most 65,535 bytes each."""

    title: str
    summary: str
    text: str


def comment(
    report: RunReport,
    *,
    marker: str = MARKER,
    limit_bytes: int = COMMENT_BYTES,
    links: Links | None = None,
    rest_at: str = "the job summary",
    standing: Standing | None = None,
) -> Rendered:
    """The sticky comment: outcome, table of tasks, logs of what failed, and why it took as long as it did.

    `marker` is the hidden line it is found by later; `rest_at` says in words where the overflow goes; `standing` is
    what was known of findings before.
    """
    links = links or Links(workflow_run=report.trigger.url)
    parts = [
        Block(text=marker),
        Block(text=blocks.heading(report, found=_found(report, standing))),
        Block(text=blocks.outcome(report)),
        *(Block(text=text, importance=90 - min(place, 9)) for place, text in enumerate(blocks.tables(report))),
        *_findings(report, standing),
        Block(text=change_block(report), importance=84),
        *_logs(report),
        Block(text=blocks.critical_path(report), importance=60),
        _why(report),
    ]
    return fit(parts, footer=_footer(report, links), limit_bytes=limit_bytes, rest_at=rest_at)


def summary(
    report: RunReport,
    *,
    limit_bytes: int = SUMMARY_BYTES,
    links: Links | None = None,
    rest_at: str = "the run's artifact",
    standing: Standing | None = None,
) -> Rendered:
    """The job summary: all of the comment and more, with the graph and the schedule as pictures."""
    links = links or Links(workflow_run=report.trigger.url)
    parts = [
        Block(text=blocks.heading(report, found=_found(report, standing))),
        Block(text=blocks.outcome(report)),
        *(Block(text=text, importance=90 - min(place, 9)) for place, text in enumerate(blocks.tables(report))),
        *_findings(report, standing),
        Block(text=change_block(report), importance=84),
        Block(text=blocks.critical_path(report), importance=60),
        _picture("What ran when", mermaid.gantt(report), importance=50),
        _picture("What needs what", mermaid.graph_of_report(report), importance=49),
        _why(report),
        *(
            Block(text=blocks.log(task, limit=64_000), importance=max(30 - place, 10))
            for place, task in enumerate(report.failures)
        ),
    ]
    return fit(parts, footer=_footer(report, links), limit_bytes=limit_bytes, rest_at=rest_at)


def check_output(report: RunReport, task: TaskReport | str, *, limit_bytes: int = CHECK_BYTES) -> CheckOutput:
    """What the check run of one task says."""
    task = report.tasks[task] if isinstance(task, str) else task
    facts = [
        ("State", f"{words.STATE_ICONS[task.state]} {words.STATE_WORDS[task.state]}"),
        ("Reason", inline(words.why(task), limit=400)),
        ("Command", code(task.command.strip().split("\n", 1)[0], limit=300)),
        ("Team", inline(task.team)),
        ("Time", "" if (took := words.elapsed(report, task)) is None else words.duration(took)),
        ("Estimated", "" if task.estimate_s is None else f"{words.duration(task.estimate_s)} ({inline(task.basis)})"),
        ("Waited", inline(words.waited(task))),
        ("Needs", ", ".join(code(need, limit=60) for need in task.needs[:20])),
        ("Peak memory", "" if task.peak_memory_mb is None else words.memory(task.peak_memory_mb)),
        ("CPU time", "" if task.cpu_s is None else words.duration(task.cpu_s)),
        ("Tokens", f"{words.tokens(task.usage)}, {words.money(task.usage.usd)}" if task.kind == "agent" else ""),
    ]
    rows = [f"| {name} | {value} |" for name, value in facts if value]
    facts_table = "\n".join(("| | |", "|:--|:--|", *rows))
    said = fit(
        [Block(text=facts_table), Block(text=blocks.attempts(task), importance=1)],
        footer=_run_line(report),
        limit_bytes=limit_bytes,
        rest_at="the job summary",
    )
    output = blocks.last_lines(task, limit=limit_bytes - 200)
    body = fenced(output) if output else ""
    if len(body.encode()) > limit_bytes:  # invisible repairs and the fence itself made it longer
        body = fenced(blocks.last_lines(task, limit=limit_bytes // 2))
    return CheckOutput(title=_title(task), summary=said.text, text=body)


def run_check_output(
    report: RunReport,
    *,
    links: Links | None = None,
    limit_bytes: int = CHECK_BYTES,
    standing: Standing | None = None,
) -> CheckOutput:
    """What the run's own check says: the comment, and in `text` as much as fits of what that has no room for.

    What has no room here either is in the job summary, which holds the comment's blocks and more.
    """
    body = comment(report, marker="", links=links, limit_bytes=limit_bytes, standing=standing)
    room = fit(body.left, footer="", limit_bytes=limit_bytes, rest_at="the job summary")
    title = one_line(f"{words.headline(report)} in {words.duration(report.wall_s)}", limit=TITLE_CHARACTERS)
    return CheckOutput(title=title[:1].upper() + title[1:], summary=body.text, text=room.text)


def fit(parts: Iterable[Block], *, footer: str, limit_bytes: int, rest_at: str) -> Rendered:
    """Join what fits `limit_bytes`, most important first, in the given order; the rest is the overflow.

    Blocks without an importance are always there: they are ours and short. Should even they be too long, the text ends
    after the last whole line that fits.
    """
    kept = [part for part in parts if part.text]
    whole = "\n\n".join((*(part.text for part in kept), *([footer] if footer else [])))
    if len(whole.encode()) <= limit_bytes:
        return Rendered(text=whole)
    note = f"*Left out here for its size: {{}}. It is in {inline(rest_at)}.*"
    fixed = [part for part in kept if part.importance is None]
    room = limit_bytes - sum(len(part.text.encode()) + 2 for part in fixed) - len(footer.encode())
    room -= len(note.encode()) + 20
    chosen: set[int] = set()
    order = sorted(range(len(kept)), key=lambda place: (-(kept[place].importance or 0), place))
    for place in order:
        part = kept[place]
        if part.importance is None:
            chosen.add(place)
            continue
        size = len(part.text.encode()) + 2
        if size <= room:
            room -= size
            chosen.add(place)
    left_out = tuple(part for place, part in enumerate(kept) if place not in chosen)
    shown = [part.text for place, part in enumerate(kept) if place in chosen]
    said = note.format(f"{words.number(len(left_out), 'block')}")
    text = "\n\n".join((*shown, said, *([footer] if footer else [])))
    if len(text.encode()) > limit_bytes:
        text = first_bytes(text, limit_bytes).rpartition("\n")[0]
    return Rendered(text=text, left=left_out)


def _found(report: RunReport, standing: Standing | None) -> int:
    return len((standing or Standing()).open(report.findings))


def _findings(report: RunReport, standing: Standing | None) -> list[Block]:
    texts = finding_blocks(report, standing or Standing())
    return [Block(text=text, importance=max(85 - place, 21)) for place, text in enumerate(texts)]


def _logs(report: RunReport) -> list[Block]:
    found: list[Block] = []
    for place, task in enumerate(report.failures):
        text = blocks.log(task, limit=LOG_BYTES, lines=LOG_LINES, opened=place == 0 and len(report.failures) == 1)
        found.append(Block(text=text, importance=80 - place if place < OPEN_FAILURES else 20))
    return found


def _why(report: RunReport) -> Block:
    body = "\n\n".join(text for text in (blocks.stages(report), blocks.plan_and_cost(report)) if text)
    return Block(text=blocks.details("Stages, plan and cost", body), importance=40)


def _picture(title: str, text: str, *, importance: int) -> Block:
    if not text:
        return Block(text="")
    return Block(text=blocks.details(title, f"```mermaid\n{text}\n```"), importance=importance)


def _title(task: TaskReport) -> str:
    text = words.STATE_WORDS[task.state]
    if task.duration_s is not None:
        text += f" {'after' if task.failed else 'in'} {words.duration(task.duration_s)}"
    reason = words.why(task)
    if reason and not task.good:
        text += f": {one_line(reason)}"
    return one_line(text[:1].upper() + text[1:], limit=TITLE_CHARACTERS)


def _run_line(report: RunReport) -> str:
    return f"<sub>{_about(report)}</sub>"


def _footer(report: RunReport, links: Links) -> str:
    shown = [
        link("Workflow run", links.workflow_run) if links.workflow_run else "",
        link("Checks", links.checks) if links.checks else "",
        link("Dashboard", links.dashboard) if links.dashboard else "",
    ]
    first = " · ".join(text for text in shown if text)
    return f"{first}\n\n{_run_line(report)}" if first else _run_line(report)


def _about(report: RunReport) -> str:
    parts = [f"MAOS bot {inline(report.version)}".rstrip(), f"run {code(report.run_id)}", *_commit(report.trigger)]
    at = report.finished_at if report.finished_at is not None else _as_of(report)
    if at is not None:
        when = datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        parts.append(f"{'as of' if report.running else 'ended'} {when}")
    return " · ".join(parts)


def _commit(trigger: Trigger) -> Sequence[str]:
    found = []
    if trigger.sha:
        found.append(f"commit {code(trigger.sha[:7])}")
    if trigger.ref:
        found.append(f"on {code(trigger.ref, limit=80)}")
    return found


def _as_of(report: RunReport) -> float | None:
    return None if report.started_at is None else report.started_at + report.wall_s
