"""What PyGithub sends, sent by us: unchanged answers come from memory, redirects are followed, every wait is bounded.

PyGithub's own connections follow a redirect without its query, take a 307 for success, know no ETag, and wait for ever
on an answer that drips. A request here runs in a thread of its own, so that not even a name server that doesn't answer
can hold up the run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester, RequestsResponse

from maos_bot.frozen import dataclass

_REDIRECTS: Final = frozenset({301, 302, 307, 308})  # each to be repeated as it was, says GitHub
_MOST_REDIRECTS: Final = 5
_REMEMBERED_BYTES: Final = 16 * 2**20
_MAKING: Final = threading.Lock()  # PyGithub takes its connections from the class


@dataclass(frozen=True, kw_only=True, slots=True)
class _Remembered:
    etag: str
    answer: requests.Response


class Transport:
    """Sends requests for one client. `timeout_s` bounds a request as a whole; `ca_bundle` names a file of CAs."""

    def __init__(self, *, timeout_s: float, ca_bundle: str = "") -> None:
        self._timeout_s = timeout_s
        self._verify: bool | str = ca_bundle or True
        self._session = self._new_session()
        self._known: OrderedDict[str, _Remembered] = OrderedDict()  # by address, the longest unused first

    def connected(self, make: Callable[[], Any]) -> Any:
        """What `make` makes of PyGithub, talking through this transport."""
        transport = self

        class Http(_Connection, HTTPRequestsConnectionClass):
            way = transport

        class Https(_Connection, HTTPSRequestsConnectionClass):
            way = transport

        with _MAKING:
            Requester.injectConnectionClasses(Http, Https)
            try:
                return make()
            finally:
                Requester.resetConnectionClasses()

    def send(self, verb: str, url: str, headers: Mapping[str, str], content: Any) -> requests.Response:
        """The answer to one request; raises what `requests` raises, `RuntimeError` where it leads to another host."""
        known = self._known.get(url) if verb == "GET" else None
        asked = {**headers, "If-None-Match": known.etag} if known else dict(headers)
        answer = self._bounded(verb, url, asked, content)
        for _ in range(_MOST_REDIRECTS):
            if answer.status_code not in _REDIRECTS or "location" not in answer.headers:
                break
            target = urljoin(answer.url, answer.headers["location"])
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                raise RuntimeError(f"redirected to {urlsplit(target).netloc}")
            answer = self._bounded(verb, target, asked, content)
        if answer.status_code in _REDIRECTS:
            raise RuntimeError("redirected without an end")
        if known and answer.status_code == 304:
            self._known.move_to_end(url)
            known.answer.headers.update(answer.headers)  # the quota that is left, above all
            return known.answer
        etag = answer.headers.get("ETag", "")
        if verb == "GET" and answer.status_code == 200 and etag:
            self._remember(url, _Remembered(etag=etag, answer=answer))
        return answer

    def _remember(self, url: str, new: _Remembered) -> None:
        self._known[url] = new
        self._known.move_to_end(url)
        size = sum(len(each.answer.content) for each in self._known.values())
        while self._known and size > _REMEMBERED_BYTES:
            _, old = self._known.popitem(last=False)
            size -= len(old.answer.content)

    def _bounded(self, verb: str, url: str, headers: Mapping[str, str], content: Any) -> requests.Response:
        session, came = self._session, SimpleQueue[requests.Response | BaseException]()

        def ask() -> None:
            try:
                came.put(
                    session.request(
                        verb,
                        url,
                        headers=headers,
                        data=content,
                        timeout=self._timeout_s,
                        verify=self._verify,
                        allow_redirects=False,
                    )
                )
            except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that asked
                came.put(error)

        threading.Thread(target=ask, name="github-request", daemon=True).start()
        try:
            answer = came.get(timeout=self._timeout_s)
        except Empty:
            self._session = self._new_session()  # the old one belongs to the thread that still waits
            raise requests.ReadTimeout(f"no whole answer within {self._timeout_s:g} s") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @staticmethod
    def _new_session() -> requests.Session:
        session = requests.Session()
        session.auth = Requester.noopAuth  # else requests would look for a .netrc
        return session


class _Connection:
    """PyGithub's idea of a connection: it is told what to ask, then asked for the answer."""

    way: Transport

    def __init__(self, host: str, port: int | None = None, **_: Any) -> None:
        self.host = host
        self._place = host if port is None else f"{host}:{port}"
        self.protocol = "https" if isinstance(self, HTTPSRequestsConnectionClass) else "http"
        self._asked: tuple[str, str, Any, Mapping[str, str]] | None = None

    def request(self, verb: str, url: str, input: Any, headers: Mapping[str, str], stream: bool = False) -> None:  # noqa: A002, ARG002 - PyGithub's signature
        self._asked = (verb, url, input, headers)

    def getresponse(self) -> RequestsResponse:
        if self._asked is None:
            raise RuntimeError("nothing was asked")
        verb, path, content, headers = self._asked
        return RequestsResponse(self.way.send(verb, f"{self.protocol}://{self._place}{path}", headers, content))

    def close(self) -> None:
        """The session stays: it is the transport's."""
