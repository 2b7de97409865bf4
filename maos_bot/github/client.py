"""The part of GitHub's REST API that we use, over PyGithub, with its errors in words and its waiting bounded.

Retries are ours alone: PyGithub's own repeat a POST whose answer was lost, which posts a comment twice. A write that
may have happened is reported as `unsure` instead, and the caller looks before it writes again. Waits follow GitHub's
rules: `retry-after`, else the reset time where nothing remains, else a minute and doubling; writes keep their pace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from maos_bot._version import __version__
from maos_bot.errors import ConfigError, GitHubError
from maos_bot.frozen import dataclass
from maos_bot.github.pace import Pace
from maos_bot.github.refusals import judged

if TYPE_CHECKING:
    from github.CheckRun import CheckRun as GithubCheckRun
    from github.IssueComment import IssueComment
    from github.Repository import Repository

API_URL: Final = "https://api.github.com"
TIMEOUT_S: Final = 20.0
PATIENCE_S: Final = 150.0

_URGENT_S: Final = 15.0  # less time than this is left: the runner is ending us
_URGENT_PAUSE_S: Final = 0.05  # between two writes then; a few dozen in a minute are within GitHub's limits
_ATTEMPTS: Final = 4
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comment:
    """An issue comment; `is_app` says that an app wrote it, as GITHUB_TOKEN's are."""

    id: int
    body: str
    author: str
    is_app: bool = False
    url: str = ""
    is_person: bool = False  # a user's account, writing by themselves and not through an app
    edited: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """A remark on lines of a file; `level` is notice, warning or failure, lines count from 1."""

    path: str
    start_line: int
    end_line: int
    level: str
    message: str
    title: str = ""

    def to_json(self) -> dict[str, str | int]:
        """The object of the check-run API."""
        row: dict[str, str | int] = {
            "path": self.path,
            "start_line": self.start_line,
            "end_line": self.end_line,
            "annotation_level": self.level,
            "message": self.message,
        }
        return row | {"title": self.title} if self.title else row


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckWrite:
    """One write of a check run. `conclusion` completes it; times are seconds since the epoch."""

    name: str
    sha: str
    external_id: str = ""
    details_url: str = ""
    status: str = "in_progress"
    conclusion: str = ""
    started_at: float | None = None
    completed_at: float | None = None
    title: str = ""
    summary: str = ""
    text: str = ""
    annotations: tuple[Annotation, ...] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A check run as GitHub has it; `app` is the slug of the app that made it."""

    id: int
    name: str
    status: str
    external_id: str = ""
    app: str = ""
    url: str = ""


class GitHubApi(Protocol):
    """What the comment, the checks and the publisher need of GitHub."""

    def login(self) -> str | None:
        """Who the token belongs to; None where it is an app's, which can't ask."""

    def comments(self, issue: int) -> Iterator[Comment]:
        """All comments of an issue or pull request, oldest first."""

    def create_comment(self, issue: int, body: str) -> Comment:
        """Write a new comment."""

    def update_comment(self, comment: Comment, body: str, *, again: Callable[[], object] | None = None) -> Comment:
        """Replace a comment's text. `again` is called before the write is repeated; what it raises ends the call."""

    def delete_comment(self, comment: Comment) -> None:
        """Remove a comment; one that is gone already is fine."""

    def checks(self, sha: str, name: str) -> Iterator[Check]:
        """The check runs of that name on a commit, those replaced by a later one too."""

    def create_check(self, write: CheckWrite) -> Check:
        """Create a check run."""

    def update_check(self, check: Check, write: CheckWrite) -> Check:
        """Change a check run."""

    def ready(self) -> None:
        """Wait until a write may be sent, so that what is read next isn't old when it is written."""

    def hurry(self, deadline: float) -> None:
        """From now on wait for nothing past `deadline` (of `time.monotonic`)."""


class GitHubClient:
    """`GitHubApi` for one repository over PyGithub. Use it from one thread; `hurry` alone may come from another.

    `write_pause_s` lies between two writes (GitHub advises a second), `patience_s` bounds all waiting for one call,
    `timeout_s` each request as a whole. `retry_pause_s` comes before the second try of a call that failed for no
    limit's sake, and doubles from there on.
    """

    def __init__(
        self,
        *,
        token: str,
        repository: str,
        api_url: str = API_URL,
        ca_bundle: str = "",
        timeout_s: float = TIMEOUT_S,
        write_pause_s: float = 1.0,
        retry_pause_s: float = 1.0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        if not token:
            raise ConfigError("no GitHub token", hint="pass `github-token: ${{ github.token }}` to the action")
        if find_spec("github") is None:
            raise ConfigError("GitHub's client isn't installed", hint="pip install 'maos-bot[github]'")
        if repository.count("/") != 1:
            raise ConfigError(f"{repository!r} is no repository", hint="GITHUB_REPOSITORY is OWNER/NAME")
        self.repository = repository
        self.api_url = api_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._ca_bundle = ca_bundle
        self._pace = Pace(pause_s=write_pause_s)
        self._retry_pause_s = retry_pause_s
        self._patience_s = patience_s
        self._deadline: float | None = None
        self._alarm = threading.Event()
        self._repo: Repository | None = None

    def hurry(self, deadline: float) -> None:
        self._deadline = deadline
        if deadline - time.monotonic() < _URGENT_S:
            self._pace.quicken(_URGENT_PAUSE_S)
        self._alarm.set()

    def ready(self) -> None:
        self._keep_pace("write", time.monotonic() + self._patience_s)

    def login(self) -> str | None:
        if self._token.startswith("ghs_"):
            return None  # an app's installation, as GITHUB_TOKEN is: GET /user is refused
        try:
            return self.call("ask whose token it is", self._who)
        except GitHubError as error:
            if error.status in (401, 403, 404):
                return None
            raise

    def comments(self, issue: int) -> Iterator[Comment]:
        def read() -> list[Comment]:
            return [comment_of(found) for found in self.handle().get_issue(issue).get_comments()]

        yield from self.call(f"read the comments of #{issue}", read)

    def create_comment(self, issue: int, body: str) -> Comment:
        def write() -> Comment:
            return comment_of(self.handle().get_issue(issue).create_comment(body))

        return self.call(f"comment on #{issue}", write, writes=True, repeatable=False)

    def update_comment(self, comment: Comment, body: str, *, again: Callable[[], object] | None = None) -> Comment:
        def write() -> Comment:
            # Below "issues/0" as a comment's address doesn't name its issue.
            found = self.handle().get_issue(0).get_comment(comment.id)
            found.edit(body)
            return comment_of(found)

        return self.call("update the comment", write, writes=True, again=again)

    def delete_comment(self, comment: Comment) -> None:
        try:
            found = self.handle().get_issue(0).get_comment(comment.id)
            self.call("remove a second comment", found.delete, writes=True)
        except GitHubError as error:
            if error.status != 404:
                raise

    def checks(self, sha: str, name: str) -> Iterator[Check]:
        def read() -> list[Check]:
            commit = self.handle().get_commit(sha)
            return [_check(found) for found in commit.get_check_runs(check_name=name, filter="all")]

        yield from self.call(f"read the check runs named {name}", read)

    def create_check(self, write: CheckWrite) -> Check:
        def send() -> Check:
            return _check(self.handle().create_check_run(write.name, write.sha, **_check_fields(write)))

        return self.call(f"create the check run {write.name}", send, writes=True, repeatable=False)

    def update_check(self, check: Check, write: CheckWrite) -> Check:
        def send() -> Check:
            found = self.handle().get_check_run(check.id)
            found.edit(**_check_fields(write))
            return _check(found)

        return self.call(f"update the check run {write.name}", send, writes=True)

    def _who(self) -> str:
        import github

        user = github.AuthenticatedUser.AuthenticatedUser(self.handle().requester, url="/user")
        return user.login

    def handle(self) -> Repository:
        """PyGithub's repository, made without a request. PyGithub is imported here: it takes 0.4 s."""
        if self._repo is None:
            import github

            from maos_bot.github.transport import Transport

            def make() -> github.Github:
                return github.Github(
                    base_url=self.api_url,
                    auth=github.Auth.Token(self._token),
                    retry=0,
                    per_page=100,
                    user_agent=f"maos-bot/{__version__}",
                    seconds_between_requests=0.0,
                    seconds_between_writes=0.0,
                    lazy=True,
                )

            transport = Transport(timeout_s=self._timeout_s, ca_bundle=self._ca_bundle)
            self._repo = transport.connected(make).get_repo(self.repository)
        return self._repo

    def call(
        self,
        what: str,
        send: Callable[[], _T],
        *,
        writes: bool = False,
        repeatable: bool = True,
        attempts: int = _ATTEMPTS,
        again: Callable[[], object] | None = None,
    ) -> _T:
        """`send`'s answer, after as many tries as make sense; raises `GitHubError`.

        `again` is called before each further try. `writes` says that `send` writes once, at the pace GitHub sets.
        """
        import github

        began = time.monotonic()
        give_up_at = began + self._patience_s
        if self._deadline is not None:  # the last calls have to share what time is left
            give_up_at = min(give_up_at, began + max(0.0, self._deadline - began) / 2)
        for attempt in range(1, attempts + 1):
            if writes:
                self._keep_pace(what, give_up_at)
            if attempt > 1 and again:
                again()
            try:
                return send()
            except (AssertionError, RuntimeError) as error:  # PyGithub's way, and ours, to refuse another host
                raise GitHubError(
                    f"could not {what}: the API at {self.api_url} answers with addresses of another host ({error})",
                    hint="GITHUB_API_URL must be the address under which the server knows itself",
                ) from error
            except (github.GithubException, OSError, ValueError) as error:
                failure, wait = judged(what, error, attempt, self._retry_pause_s * 2 ** (attempt - 1))
            finally:
                if writes:
                    self._pace.wrote(time.monotonic())
            if wait is None or (failure.unsure and not repeatable) or attempt == attempts:
                raise failure
            if not self._pause(wait, give_up_at):
                failure.hint = failure.hint or "GitHub asked for a longer wait than this run has left"
                raise failure
        raise AssertionError("unreachable")

    def _keep_pace(self, what: str, give_up_at: float) -> None:
        if not self._pause(self._pace.wait_s(time.monotonic()), give_up_at):
            raise GitHubError(
                f"could not {what}: as much was written as GitHub allows",
                hint="80 writes a minute and 500 an hour are its limits",
            )

    def _pause(self, seconds: float, give_up_at: float) -> bool:
        """Wait; False at once where that would last past the deadline."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            limit = give_up_at if self._deadline is None else min(give_up_at, self._deadline)
            if until > limit:
                return False
            if self._alarm.wait(left):
                self._alarm.clear()
        return True


def comment_of(found: IssueComment) -> Comment:
    # No `raw_data` here: PyGithub would ask for each comment of a list once more.
    user = found.user
    return Comment(
        id=found.id,
        body=found.body or "",
        author=user.login if user else "",
        is_app=bool(user) and user.type == "Bot",
        url=found.html_url or "",
        is_person=bool(user) and user.type == "User" and not found.performed_via_github_app,
        edited=found.created_at != found.updated_at,
    )


def _check(found: GithubCheckRun) -> Check:
    app = found.app
    return Check(
        id=found.id,
        name=found.name,
        status=found.status,
        external_id=found.external_id or "",
        app=(app.slug or "") if app else "",
        url=found.html_url or "",
    )


def _check_fields(write: CheckWrite) -> dict[str, Any]:
    """PyGithub's keywords for what `write` says; what it leaves open isn't sent."""
    fields: dict[str, Any] = {}
    if write.conclusion:
        fields["status"], fields["conclusion"] = "completed", write.conclusion
    else:
        fields["status"] = write.status
    links = {"details_url": write.details_url, "external_id": write.external_id}
    times = {"started_at": write.started_at, "completed_at": write.completed_at}
    fields |= {name: text for name, text in links.items() if text}
    fields |= {name: datetime.fromtimestamp(at, UTC) for name, at in times.items() if at is not None}
    if write.title:
        output: dict[str, Any] = {"title": write.title, "summary": write.summary}
        if write.text:
            output["text"] = write.text
        if write.annotations:
            output["annotations"] = [annotation.to_json() for annotation in write.annotations]
        fields["output"] = output
    return fields
