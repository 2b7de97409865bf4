"""Markdown of reports: words of others stay words, sizes hold, and nothing is lost between comment and summary."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from maos_bot.model import TaskState, Trigger
from maos_bot.reporting import markdown, mermaid
from maos_bot.reporting.escape import clean, code, fenced, inline, link, one_line
from maos_bot.reporting.markdown import Block, fit
from maos_bot.reporting.report import report_of
from tests.unit.report_streams import Job, play

HOSTILE = (
    "@octocat",
    "fixes #1 and GH-2",
    "https://evil.example/x",
    "www.evil.example",
    "[click](https://evil.example)",
    "![x](https://evil.example/beacon.png)",
    "<img src=x onerror=alert(1)>",
    "</details><h1>Approved</h1>",
    "<!-- maos-bot:report -->",
    "--> done <!--",
    "a | b | c",
    "```\nout of the fence",
    "~~~~~~\nout",
    "`code` ``more``",
    "back\\slash \\| pipe",
    "$\\alpha$ and $$x$$",
    "line\nbreak\r\nmore",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07x",
    "bidi \u202e reversed \u2066",
    "tag \U000e0041\U000e0042 characters",
    "_under_ __score__ *star* ~strike~",
    "&lt;b&gt; &#64;octocat",
    "\ud800 lone surrogate",
    "# heading",
    "- [ ] task",
    ":+1: emoji",
)
_GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_OURS = {"details", "summary", "sub", "br", "code", "b"}


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - html.parser's
        self.tags.append(tag)
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "code" not in self.inside and "pre" not in self.inside:
            self.text += data

    def handle_comment(self, data: str) -> None:  # noqa: ARG002 - the same
        self.tags.append("comment")


def seen(text: str) -> _Seen:
    parser = _Seen()
    parser.feed(_GITHUB.render(text))
    return parser


@pytest.mark.parametrize("text", HOSTILE)
def test_inline_text_is_only_words(text: str) -> None:
    found = seen(f"| a | {inline(text)} |\n|:--|:--|\n| {inline(text)} | x |")
    assert set(found.tags) <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert found.tags.count("td") == 2
    assert not re.search(r"@\w|#\d|GH-\d|://|www\.\w", found.text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_code_span_ends_where_it_should(text: str) -> None:
    found = seen(f"| a | {code(text)} |\n|:--|:--|\n| {code(text)} | x |")
    assert set(found.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert found.tags.count("code") == 2
    assert found.text.split() == ["a", "x"]


@given(st.text())
def test_a_fence_holds_whatever_is_in_it(text: str) -> None:
    tokens = _GITHUB.parse(fenced(text))
    assert [token.type for token in tokens] == ["fence"]
    assert "<!--" not in tokens[0].content


@given(st.text())
def test_cleaned_text_holds_no_control_and_cleaning_again_changes_nothing(text: str) -> None:
    once = clean(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", once)
    assert clean(once) == once
    once.encode()


@given(st.text(), st.integers(2, 80))
def test_one_line_is_one_line_and_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit=limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "http://[", "", "mailto:a@b"]
)
def test_only_web_addresses_become_links(url: str) -> None:
    assert link("words", url) == "words"


def test_a_link_cant_be_left_by_what_is_in_its_address() -> None:
    found = _GITHUB.render(link("run", "https://ok.example/a) [x](https://evil.example"))
    assert found.count("<a ") == 1
    assert 'href="https://ok.example/a' in found


def hostile_run() -> list[Job]:
    return [
        Job(
            id=f"t{number}",
            name=text,
            team=text,
            command=text,
            output=f"{text}\n".encode(errors="replace").decode() * 3,
            ends=TaskState.FAILED if number % 2 else TaskState.SUCCEEDED,
            reason=text,
        )
        for number, text in enumerate(HOSTILE)
    ]


@pytest.mark.parametrize("render", [markdown.comment, markdown.summary])
def test_a_report_of_hostile_words_is_still_only_our_report(render: object) -> None:
    report = report_of(play(hostile_run(), name="@octocat <script>", trigger=Trigger(ref="<img> | @x", sha="a" * 40)))
    text = render(report).text  # type: ignore[operator]
    found = seen(text)
    allowed = {"table", "thead", "tbody", "tr", "th", "td", "h3", "p", "strong", "em", "pre", "ul", "li", "comment"}
    assert set(found.tags) <= allowed | _OURS
    assert found.tags.count("comment") == text.count(markdown.MARKER) <= 1
    assert not re.search(r"@\w|://|www\.\w", found.text)


def test_a_comment_stays_within_its_limit_and_hands_on_the_rest_whole() -> None:
    jobs = [Job(id=f"task-{number:04}", ends=TaskState.FAILED, output="x" * 5000) for number in range(400)]
    report = report_of(play(jobs))
    made = markdown.comment(report)
    whole = markdown.comment(report, limit_bytes=10**9)
    assert whole.overflow == ""
    assert len(made.text.encode()) <= markdown.COMMENT_BYTES
    for task in report.tasks:
        assert f"`{task}`" in made.text + made.overflow
    left_out = made.overflow.split("\n\n")
    assert all(part in whole.text for part in left_out)


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=80), st.one_of(st.none(), st.integers(0, 9))), max_size=12),
    st.integers(300, 1200),
)
def test_every_block_is_either_shown_or_handed_on(parts: list[tuple[str, int | None]], limit: int) -> None:
    blocks = [Block(text=text.encode(errors="replace").decode(), importance=rank) for text, rank in parts]
    made = fit(blocks, footer="the end", limit_bytes=limit, rest_at="the summary")
    assert len(made.text.encode()) <= limit
    handed_on = made.overflow
    for block in blocks:
        if block.importance is not None:
            assert block.text in made.text or block.text in handed_on


@pytest.mark.parametrize("size", [65_534, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("character", ["x", "é", "😀", "`"])
def test_texts_of_a_check_run_fit_at_the_limit(size: int, character: str) -> None:
    output = character * (size // len(character.encode()))
    report = report_of(play([Job(id="it", ends=TaskState.FAILED, output=output)]))
    made = markdown.check_output(report, "it")
    assert len(made.text.encode()) <= markdown.CHECK_BYTES
    assert len(made.summary.encode()) <= markdown.CHECK_BYTES
    assert len(made.title) <= markdown.TITLE_CHARACTERS
    assert f"{character * 20}\n" in made.text


def test_a_graph_names_its_nodes_by_numbers_and_its_labels_end_where_they_should() -> None:
    jobs = [Job(id='a"] --> b'), Job(id="end", needs=('a"] --> b',)), Job(id="c;click x", needs=("end",))]
    drawn = mermaid.graph_of_report(report_of(play(jobs)))
    labels = re.findall(r'^  t\d+\["([^"]*)"\]$', drawn, re.MULTILINE)
    assert len(labels) == 3
    assert re.findall(r"^  (t\d+) --> (t\d+)$", drawn, re.MULTILINE) == [("t0", "t1"), ("t1", "t2")]


def test_a_graph_leaves_out_the_arrows_that_others_imply() -> None:
    jobs = [Job(id="a"), Job(id="b", needs=("a",)), Job(id="c", needs=("a", "b"))]
    drawn = mermaid.graph_of_report(report_of(play(jobs)))
    assert re.findall(r"^  (t\d+) --> (t\d+)$", drawn, re.MULTILINE) == [("t0", "t1"), ("t1", "t2")]
