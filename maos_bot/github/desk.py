"""What a command needs of GitHub: who asks, what the pull request is now, what was approved or dismissed before.

Approvals and dismissals are the comments themselves: nothing else has to be kept, everybody sees them, and deleting
one takes it back. One counts where its author may write, wrote it by themselves, and it was never edited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from maos_bot.errors import GitHubError
from maos_bot.frozen import dataclass
from maos_bot.github.client import Comment, GitHubClient, comment_of
from maos_bot.github.commands import Command, parse
from maos_bot.github.trust import Permission

MOST_ACCOUNTS: Final = 30  # that are asked about; strangers could otherwise use up the API's quota
_RUN_PAGE: Final = re.compile(r"/actions/runs/(\d{1,18})\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pull:
    """A pull request as it is now."""

    number: int
    sha: str
    ref: str
    base_sha: str
    is_fork: bool
    by_bot: bool
    open: bool


class Desk:
    """Questions and answers around the commands of one pull request."""

    def __init__(self, client: GitHubClient, pull_request: int) -> None:
        self._client = client
        self._number = pull_request
        self._permissions: dict[str, Permission] = {}
        self._comments: list[Comment] | None = None

    def pull(self) -> Pull:
        """The pull request; raises `GitHubError`."""

        def read() -> Pull:
            raw = self._client.handle().get_pull(self._number).raw_data
            head, base = raw["head"], raw["base"]
            own = head.get("repo") and head["repo"]["full_name"] == base["repo"]["full_name"]
            return Pull(
                number=raw["number"],
                sha=head["sha"],
                ref=head["ref"],
                base_sha=base["sha"],
                is_fork=not own,
                by_bot=(raw.get("user") or {}).get("type") != "User",
                open=raw["state"] == "open",
            )

        return self._client.call(f"read pull request #{self._number}", read)

    def permission(self, login: str) -> Permission:
        """What the API says `login` may do here; raises `GitHubError` where it doesn't say."""
        if login not in self._permissions:
            self._permissions[login] = self._ask(login) if len(self._permissions) < MOST_ACCOUNTS else _UNKNOWN
        return self._permissions[login]

    def unchanged(self, comment_id: int, body: str) -> bool:
        """Whether the comment still stands there as it was written."""

        def read() -> Comment:
            return comment_of(self._client.handle().get_issue(0).get_comment(comment_id))

        try:
            found = self._client.call("read the command again", read)
        except GitHubError as error:
            if error.status == 404:
                return False
            raise
        return found.body == body and not found.edited

    def approved(self, sha: str) -> bool:
        """Whether someone who may write has approved this very commit."""
        return bool(sha) and any(
            command.verb == "approve" and command.words == (sha,) for command in self._given("approve")
        )

    def dismissed(self) -> frozenset[str]:
        """The ids of the findings that someone who may write has dismissed."""
        return frozenset(word for command in self._given("dismiss") for word in command.words)

    def react(self, comment_id: int, content: str) -> None:
        """Put a reaction on a comment; raises `GitHubError`."""

        def send() -> Any:
            return self._client.handle().get_issue(0).get_comment(comment_id).create_reaction(content)

        self._client.call("react to the command", send)

    def cancel(self, sha: str, *, but: str = "") -> list[int]:
        """Cancel the workflow runs that have an unfinished check of ours on `sha`, except the run `but`; their ids."""

        def read() -> set[int]:
            found = set()
            for check in self._client.handle().get_commit(sha).get_check_runs(status="in_progress"):
                page = _RUN_PAGE.search(check.details_url or "")
                if page and check.external_id and page[1] != but:
                    found.add(int(page[1]))
            return found

        ended = []
        for run in sorted(self._client.call("look for runs to cancel", read)):
            # The address alone is enough to cancel: nothing of the run has to be read first.
            self._client.call(f"cancel run {run} (this needs `actions: write`)", lambda run=run: self._cancel(run))  # type: ignore[misc]
            ended.append(run)
        return ended

    def _cancel(self, run: int) -> None:
        requester = self._client.handle().requester
        requester.requestJsonAndCheck("POST", f"/repos/{self._client.repository}/actions/runs/{run}/cancel")

    def _given(self, verb: str) -> Iterator[Command]:
        if self._comments is None:
            self._comments = list(self._client.comments(self._number))
        for comment in self._comments:
            if not comment.is_person or comment.edited:
                continue
            command = parse(comment.body)
            if command and command.verb == verb and not command.problem and self.permission(comment.author).writes:
                yield command

    def _ask(self, login: str) -> Permission:
        def read() -> Permission:
            said = self._client.handle().get_collaborator_permission(login)
            return Permission(said) if said in set(Permission) else _UNKNOWN

        try:
            return self._client.call(f"ask what {login} may do", read)
        except GitHubError as error:
            if error.status == 404:  # no such account, any more
                return Permission.NONE
            raise


_UNKNOWN: Final = Permission.UNKNOWN
