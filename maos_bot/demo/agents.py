"""Two agents of the made-up shop: what they say, look at, find and change (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from maos_bot.demo.pipeline import Ending, Happening, Job
from maos_bot.frozen import dataclass
from maos_bot.model import TaskState, Usage

# What is said in one turn: the agent's words, then each tool it called, with what that came to.
Turn = tuple[str, tuple[tuple[str, Mapping[str, Any], str], ...]]

_REVIEWED: Final = '''\
 84  def refund(order: Order, amount: Decimal) -> Refund:
 85      """Give back `amount` of what was paid."""
 86      key = f"{order.id}-{amount}"
 87      log.info("refund %s for %s", amount, order.customer.email)
 88      return gateway.refund(order.payment, amount, idempotency_key=key)
'''
_VERDICT: Final = (
    "The idempotency key is the same for two refunds of the same amount, so the second one is swallowed. The "
    "customer's address also goes to the log. Nothing else in this change touches money or secrets."
)
_PATCH: Final = """\
diff --git a/docs/api/orders.md b/docs/api/orders.md
index 3f1c2aa..9b07d51 100644
--- a/docs/api/orders.md
+++ b/docs/api/orders.md
@@ -41,7 +41,9 @@ Answers with the order as it was stored.
 | field | type | meaning |
 |---|---|---|
 | `lines` | list | what was ordered |
-| `total` | decimal | the sum, rounded half up |
+| `total` | decimal | the sum, rounded half to even |
+| `currency` | text | ISO 4217, such as `EUR` |

-Totals are rounded when the order is placed.
+Totals are rounded once, when the order is placed: `0.125` becomes `0.12`.
+Refunds use the same rule.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one agent does in each of its attempts; the last stands for all further ones."""

    attempts: tuple[tuple[Turn, ...], ...]
    findings: tuple[Mapping[str, Any], ...] = ()
    change: Mapping[str, Any] | None = None


REVIEWERS: Final = (
    Job(
        id="review",
        team="security",
        kind="agent",
        command="Review this change for security defects.",
        seconds=21.0,
        needs=("lint",),
    ),
    Job(
        id="api-docs",
        team="docs",
        kind="agent",
        command="Bring the docs in line with the changed API.",
        seconds=12.5,
        needs=("types",),
    ),
)
NOT_ACCEPTED: Final = Ending(
    states=(TaskState.FAILED, TaskState.SUCCEEDED),
    reason="not accepted: `verify` failed: mkdocs build --strict",
    exit_code=None,
)
_WROTE: Final = (
    "The table in `docs/api/orders.md` still says *half up*. I'll bring it and the paragraph below it in line.",
    (
        (
            "edit",
            {"path": "docs/api/orders.md", "old": "rounded half up", "new": "rounded half to even"},
            "docs/api/orders.md: 1 place changed",
        ),
        ("finish", {"summary": "The rounding rule and the new field `currency` are described."}, "taken for review"),
    ),
)
WORK: Final[Mapping[str, Work]] = {
    "review": Work(
        attempts=(
            (
                (
                    "I'll look at what changed in payments and refunds first.",
                    (("search", {"pattern": "refund\\(", "glob": "src/**/*.py"}, "src/shop/refunds.py:84\n"),),
                ),
                ("", (("read", {"path": "src/shop/refunds.py", "from": 84, "lines": 5}, _REVIEWED),)),
                (
                    _VERDICT,
                    (("finish", {"summary": "Two findings in refunds.py."}, "2 findings reported"),),
                ),
            ),
        ),
        findings=(
            {
                "path": "src/shop/refunds.py",
                "line": 86,
                "severity": "failure",
                "message": "Two refunds of the same amount share an idempotency key: the gateway drops the second.",
                "suggestion": "Put the refund's own id into the key.",
            },
            {
                "path": "src/shop/refunds.py",
                "line": 87,
                "severity": "warning",
                "message": "A customer's e-mail address is written to the log.",
                "suggestion": "Log the customer's id.",
            },
        ),
    ),
    "api-docs": Work(
        attempts=(
            (
                (
                    "",
                    (
                        (
                            "run",
                            {"command": "git diff --stat origin/main -- src/shop/api"},
                            " src/shop/api/orders.py | 14 +++++++++-----\n 1 file changed, 9 insertions(+)\n",
                        ),
                    ),
                ),
                _WROTE,
            ),
            (_WROTE,),
        ),
        change={
            "commit": "5d1c0fe2b7a94c4f8d7a1f0be1a2c3d4e5f60718",
            "files": ("docs/api/orders.md",),
            "added": 4,
            "removed": 2,
            "patch": _PATCH,
        },
    ),
}


def said(happened: Sequence[Happening], jobs: Sequence[Job], *, seed: int, upto: float | None) -> list[Happening]:
    """What the agents among the tasks say, pay for, find and change while their attempts run."""
    ends = {(v["task"], v["attempt"]): (at, v["state"]) for at, kind, v in happened if kind == "TaskFinished"}
    jobs_by_id = {job.id: job for job in jobs}
    rows: list[Happening] = []
    for at, kind, values in happened:
        if kind != "TaskStarted" or values["task"] not in WORK:
            continue
        task, attempt = values["task"], values["attempt"]
        end, state = ends.get((task, attempt), (at + jobs_by_id[task].seconds, None))
        work = WORK[task]
        asked = f"Task {task}: {jobs_by_id[task].command}" if attempt == 1 else _sent_back()
        rows += _talk(work, task, attempt, asked, begin=at, end=end, seed=seed)
        if state is TaskState.SUCCEEDED:
            key = {"task": task, "attempt": attempt}
            rows += [(end - 0.01, "FindingReported", {**key, **finding}) for finding in work.findings]
            if work.change:
                rows.append((end - 0.01, "ChangeTaken", {**key, **work.change}))
    return [row for row in rows if upto is None or row[0] <= upto]


def _sent_back() -> str:
    return (
        "Your work was not accepted: `verify` failed: mkdocs build --strict\n"
        "WARNING - Doc file 'api/orders.md' contains a link 'refunds.md#rounding', but there is no such anchor.\n"
        "Aborted with 1 warning in strict mode!"
    )


def _talk(work: Work, task: str, attempt: int, asked: str, *, begin: float, end: float, seed: int) -> list[Happening]:
    turns = work.attempts[min(attempt, len(work.attempts)) - 1]
    key = {"task": task, "attempt": attempt}
    rows: list[Happening] = [(begin + 0.02, "TranscriptAdded", {**key, "turn": 0, "role": "asked", "text": asked})]
    for number, (words, calls) in enumerate(turns, start=1):
        at = begin + (end - begin) * number / (len(turns) + 1)
        usage = Usage(
            input_tokens=420 + 310 * number + 7 * (seed % 11),
            output_tokens=90 + 160 * len(calls) + seed % 40,
            cache_read_tokens=6200 if number > 1 else 0,
            cache_write_tokens=0 if number > 1 else 6200,
            usd=None
            if seed % 9 == 4 and task == "review"
            else round(0.0042 + 0.0019 * number + 0.0001 * (seed % 7), 4),
        )
        rows.append((at, "UsageRecorded", {**key, "model": "model-x", "usage": usage}))
        if words:
            rows.append(
                (at, "TranscriptAdded", {**key, "turn": number, "role": "answered", "text": words, "model": "model-x"})
            )
        for name, arguments, result in calls:
            text = f"{name} {json.dumps(arguments, ensure_ascii=False, sort_keys=True)}"
            rows.append((at, "TranscriptAdded", {**key, "turn": number, "role": "called", "text": text}))
            rows.append((at, "TranscriptAdded", {**key, "turn": number, "role": "returned", "text": result}))
    return rows
