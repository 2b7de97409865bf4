"""`/maos ...` in a comment: read strictly, so that nobody commands by accident or by a trick (pure).

A command is the comment's first line, begins at its first column, and consists of plain words. A quote, a fence, a
second line, a look-alike letter or an invisible character makes it no command, or one that is refused in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from maos_bot.frozen import dataclass

HELP: Final = """| command | does |
|:--|:--|
| `/maos help` | shows this |
| `/maos plan` | shows what would run when; runs nothing |
| `/maos run [task...]` | runs all tasks, or those named and what they need |
| `/maos retry [task]` | runs what hasn't succeeded on this commit, or the task named, and what they need |
| `/maos cancel` | cancels the run that goes on for this commit |
| `/maos approve SHA` | lets the code of this one commit run, by its 40 characters |
| `/maos dismiss ID` | leaves a finding out from now on |

Only people who may write to this repository command, with a new comment that wasn't edited."""

_VERBS: Final[Mapping[str, tuple[int, int]]] = {  # the least and the most words that follow
    "help": (0, 0),
    "plan": (0, 0),
    "run": (0, 50),
    "retry": (0, 1),
    "cancel": (0, 0),
    "approve": (1, 1),
    "dismiss": (1, 20),
}
RUNNING: Final = frozenset({"run", "retry", "approve"})
_LONGEST: Final = 2_000
_TASK: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHA: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FINDING: Final = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command; `problem` says in words what is wrong with it, and then nothing is done."""

    verb: str
    words: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A comment as the event or the API gives it: by whom, where, and whether it is as it was first written."""

    id: int
    body: str
    author: str
    is_person: bool  # a user's account, writing by themselves and not through an app
    fresh: bool  # just created, never edited


def parse(body: str) -> Command | None:
    """The command a comment gives; None where it gives none."""
    line = body.replace("\r\n", "\n").partition("\n")[0].rstrip(" ")
    if line != "/maos" and not line.startswith("/maos "):
        return None
    words = line.split(" ")[1:] if line != "/maos" else ["help"]
    words = [word for word in words if word]
    verb, rest = (words[0], tuple(words[1:])) if words else ("help", ())
    if verb not in _VERBS:
        return Command(verb="", problem="there is no such command; `/maos help` lists them")
    least, most = _VERBS[verb]
    if len(line) > _LONGEST or not least <= len(rest) <= most:
        wanted = {"approve": "one commit", "dismiss": "one or more ids", "retry": "at most one task"}
        return Command(verb=verb, problem=f"`/maos {verb}` takes {wanted.get(verb, 'no more words')}")
    shape, what = {
        "approve": (_SHA, "all 40 characters of a commit, in lower case"),
        "dismiss": (_FINDING, "the 12 characters of a finding's id"),
    }.get(verb, (_TASK, "the ids of tasks"))
    if not all(shape.fullmatch(word) for word in rest):
        return Command(verb=verb, problem=f"`/maos {verb}` takes {what}")
    return Command(verb=verb, words=rest)


def read_comment(payload: object) -> Said | None:
    """The comment of an `issue_comment` event on an open pull request; None for any other, whatever it holds."""
    event = payload if isinstance(payload, Mapping) else {}
    issue, comment, sender = (_mapping(event.get(name)) for name in ("issue", "comment", "sender"))
    number, body, user = comment.get("id"), comment.get("body"), _mapping(comment.get("user"))
    author = user.get("login")
    if not _mapping(issue.get("pull_request")) or issue.get("state") != "open":
        return None
    if not isinstance(number, int) or not isinstance(body, str) or not isinstance(author, str) or not author:
        return None
    return Said(
        id=number,
        body=body,
        author=author,
        is_person=user.get("type") == sender.get("type") == "User"
        and sender.get("login") == author
        and not comment.get("performed_via_github_app"),
        fresh=event.get("action") == "created" and comment.get("created_at") == comment.get("updated_at"),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
