"""The one comment in a pull request: found again, updated in place, never taken back to an older commit.

It is ours where a hidden marker stands at its very beginning (so a quote of it isn't) and we wrote it. The marker says
which run wrote the text last; a run that is older than that leaves it alone. Of two comments from a race the first
stays.
"""

from __future__ import annotations

import base64
import re
from enum import StrEnum
from typing import Final

from maos_bot.errors import GitHubError
from maos_bot.frozen import dataclass
from maos_bot.github.client import Comment, GitHubApi

COMMENT_BYTES: Final = 60_000  # GitHub refuses more than 65,536 characters; some of ours take four bytes
MARKER_BYTES: Final = 256  # more than a marker ever takes

MOST_KNOWN: Final = 750  # ids kept for the next push, of each commit: 6,000 bytes
KNOWN_BYTES: Final = 2 * 8 * MOST_KNOWN + 64

_KNOWN: Final = re.compile(r"<!-- maos-bot findings before=(?P<before>\?|[\w-]*) now=(?P<now>\?|[\w-]*) -->", re.ASCII)
_ANSWER: Final = "\n\n<!-- maos-bot answer -->\n"
_MARKER: Final = re.compile(
    r"<!-- maos-bot key=(?P<key>[0-9a-f]+) run=(?P<number>\d{1,18})\.(?P<attempt>\d{1,18}) "
    r"at=(?P<at>\d{1,18}) sha=(?P<sha>[0-9a-f]*) -->"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Marker:
    """Whose text it is: `key` names the workflow and spec, the rest the run. `at` is its start, in epoch milliseconds.

    `number` and `attempt` are 0 where the run has none.
    """

    key: str
    number: int = 0
    attempt: int = 0
    at: int = 0
    sha: str = ""

    def __str__(self) -> str:
        return f"<!-- maos-bot key={self.key} run={self.number}.{self.attempt} at={self.at} sha={self.sha} -->"

    def newer_than(self, other: Marker) -> bool:
        """Whether this run was set off later: by the workflow's own count, else by the clock."""
        if self.number and other.number and self.number != other.number:
            return self.number > other.number
        return (self.attempt, self.at) > (other.attempt, other.at)


def read_marker(body: str) -> Marker | None:
    """The marker a comment begins with, or None."""
    found = _MARKER.match(body)
    if found is None:
        return None
    return Marker(
        key=found["key"],
        number=int(found["number"]),
        attempt=int(found["attempt"]),
        at=int(found["at"]),
        sha=found["sha"],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Findings by their ids, kept in the comment: those that stood at the commit `before`, and those that stand `now`.

    None is unknown: there were none yet to compare with, or more than a comment has room for.
    """

    before: frozenset[str] | None = None
    now: frozenset[str] | None = None

    def __str__(self) -> str:
        return f"<!-- maos-bot findings before={_packed(self.before)} now={_packed(self.now)} -->"


def read_known(body: str) -> Known:
    """What a comment of ours knows of findings; nothing where it says nothing that can be read."""
    found = _KNOWN.match(body.partition("\n")[2])
    return Known(before=_unpacked(found["before"]), now=_unpacked(found["now"])) if found else Known()


def _packed(ids: frozenset[str] | None) -> str:
    if ids is None or len(ids) > MOST_KNOWN:
        return "?"
    return base64.urlsafe_b64encode(bytes.fromhex("".join(sorted(ids)))).decode()


def _unpacked(text: str) -> frozenset[str] | None:
    if text == "?" or len(text) % 8:
        return None
    row = base64.urlsafe_b64decode(text).hex()
    return frozenset(row[place : place + 12] for place in range(0, len(row), 12))


class Written(StrEnum):
    """What became of a text."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"  # a newer run's text stands there


class _SupersededError(Exception):
    """A newer run's text stands there now."""


class StickyComment:
    """The comment of one workflow and spec in one pull request.

    `recreate`: a run's first write makes a new comment, at the end of the conversation, and removes the one before.
    """

    def __init__(self, api: GitHubApi, *, pull_request: int, marker: Marker, recreate: bool = False) -> None:
        self._recreate = recreate
        self._api = api
        self._pull_request = pull_request
        self._marker = marker
        self._comment: Comment | None = None
        self._author: str | None = None  # our own login, as soon as it is known
        self._asked = False
        self.superseded_by: Marker | None = None

    def known_before(self) -> frozenset[str] | None:
        """The findings that stood at the commit before ours, as our comment has them; None where it doesn't know."""
        current, _ = self._find()
        if current is None:
            return None
        known, marker = read_known(current.body), read_marker(current.body)
        return known.before if marker and marker.sha == self._marker.sha else known.now

    @property
    def url(self) -> str:
        return self._comment.url if self._comment else ""

    def written_by(self, app: str) -> None:
        """Learn from a check run which app we are."""
        if app:
            self._author = f"{app}[bot]"

    def write(self, text: str) -> Written:
        """Make the comment say `text`; raises `GitHubError`."""
        if self.superseded_by is not None:
            return Written.SUPERSEDED
        body = f"{self._marker}\n{text}"
        self._api.ready()
        try:
            current, others = self._look()
            if current is None or (self._recreate and read_marker(current.body) != self._marker):
                return self._create(body)
            if current.body == body:
                self._comment, result = current, Written.UNCHANGED
            else:
                try:
                    self._comment, result = self._update(current, body), Written.UPDATED
                except GitHubError as error:
                    if error.status != 404 or self._look()[0] is not None:
                        raise
                    return self._create(body)  # it was removed since we looked
            self._remove(others)
        except _SupersededError:
            return Written.SUPERSEDED
        return result

    def stands(self, text: str) -> bool:
        """Whether `text` is what GitHub shows; a run before ours may have written over it. True where a newer one did.

        GitHub has no way to write only where nobody else has: between looking and writing an older run can come in
        between, so the newest has to look again after its last word.
        """
        if self.superseded_by is not None:
            return True
        try:
            current, others = self._look()
        except _SupersededError:
            return True
        return current is not None and not others and current.body == f"{self._marker}\n{text}"

    def answer(self, text: str) -> Written:
        """Put `text` at the comment's end, in place of an earlier answer; the report before it stays as it is."""
        current, _ = self._find()
        if current is None:
            self._comment = self._api.create_comment(self._pull_request, f"{self._marker}{_ANSWER}{text}")
            return Written.CREATED
        report = current.body.partition(_ANSWER)[0].encode()
        room = COMMENT_BYTES - len(f"{_ANSWER}{text}".encode())
        kept = report if len(report) <= room else report[:room].rpartition(b"\n\n")[0]
        body = f"{kept.decode('utf-8', 'ignore')}{_ANSWER}{text}"
        if body == current.body:
            return Written.UNCHANGED
        self._comment = self._api.update_comment(current, body)
        return Written.UPDATED

    def _create(self, body: str) -> Written:
        try:
            made = self._api.create_comment(self._pull_request, body)
        except GitHubError as error:
            if not error.unsure:
                raise
            found, _ = self._find()  # the answer was lost; perhaps the comment wasn't
            if found is None or found.body != body:
                raise
            made = found
        self._author = made.author or self._author
        self._comment = made
        first, others = self._find()  # another run may have done the same at the same time
        if self.superseded_by is not None:
            if first is not None and first.id != made.id:  # were ours the first, the newer run would take it over
                self._api.delete_comment(made)
            return Written.SUPERSEDED
        if first is None or first.id == made.id or self._recreate:
            self._remove([each for each in (first, *others) if each is not None and each.id != made.id])
            return Written.CREATED
        self._comment = self._update(first, body)
        self._remove(others)
        return Written.UPDATED

    def _update(self, comment: Comment, body: str) -> Comment:
        return self._api.update_comment(comment, body, again=self._look)

    def _look(self) -> tuple[Comment | None, list[Comment]]:
        """As `_find`; raises `_SupersededError` where a newer run has written."""
        found = self._find()
        if self.superseded_by is not None:
            raise _SupersededError
        return found

    def _find(self) -> tuple[Comment | None, list[Comment]]:
        """Our oldest comment and the others of ours, over all pages, looked up anew each time.

        The text that stands there now decides whether we may write: another run may have written since.
        """
        if self._author is None and not self._asked:
            self._author = self._api.login()
            self._asked = True
        ours: list[Comment] = []
        for comment in self._api.comments(self._pull_request):
            marker = read_marker(comment.body)
            if marker is None or marker.key != self._marker.key or not self._is_ours(comment):
                continue
            if marker.newer_than(self._marker):
                self.superseded_by = marker
                self._comment = comment
            ours.append(comment)
        ours.sort(key=lambda comment: comment.id)
        return (ours[0], ours[1:]) if ours else (None, [])

    def _is_ours(self, comment: Comment) -> bool:
        # An app's token can't ask for its own name: until we know it, a marked comment of any app counts.
        return comment.is_app if self._author is None else comment.author == self._author

    def _remove(self, others: list[Comment]) -> None:
        if self._author is None or self.superseded_by is not None:
            return  # never remove what may be someone else's, or newer than us
        for other in others:
            self._api.delete_comment(other)
