"""Findings in what tasks print and write: read, told apart over pushes, and never a way out of the repository."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.reporting.findings import Finding, Lines, Standing, from_sarif, named, read_line, to_sarif


def test_a_line_as_linters_print_it_for_github_is_a_finding() -> None:
    found = read_line(
        "::error title=Ruff (F401),file=/github/workspace/src/a.py,line=3,endLine=4::`os`%0Aunused 100%25"
    )
    assert found == Finding(
        path="src/a.py", line=3, end_line=4, severity="error", title="Ruff (F401)", message="`os`\nunused 100%"
    )
    assert read_line("::warning file=a%3Ab%2Cc.py::said") == Finding(path="a:b,c.py", line=1, message="said")


@pytest.mark.parametrize(
    "line",
    [
        "error file=a.py::x",
        "::error::no place",
        "::error file=::x",
        "::error file=/etc/passwd,line=1::x",
        "::error file=../secret,line=1::x",
        "::error file=a/../../b,line=1::x",
        "::error file=.git/config,line=1::x",
        "::error file=a%0Ab,line=1::x",
        "::error file=a.py,line=0::",
        "::error file=-rf,line=1::x",
        "::set-output name=a::b",
        "::add-mask::x",
        "::error file=a.py,line=1::" + "x" * 20_000,
    ],
)
def test_what_is_no_finding(line: str) -> None:
    assert read_line(line) is None


@given(st.text(alphabet=st.sampled_from("::errorfile=a.py,line3\n \x00☃"), max_size=300), st.lists(st.integers(0, 300)))
def test_pieces_give_what_the_whole_gives(text: str, cuts: list[int]) -> None:
    text += "\n::error file=a.py,line=3::x\n"
    whole, pieces = Lines(), Lines()
    whole.add(0, text)
    places = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    for begin, end in pairwise(places):
        pieces.add(begin, text[begin:end])
    assert pieces.all() == whole.all()
    assert Finding(path="a.py", line=3, severity="error", message="x") in whole.all()


def test_ten_thousand_are_all_kept_and_have_ids_of_their_own() -> None:
    lines = Lines()
    lines.add(0, "".join(f"::notice file=a{n % 7}.py,line={n + 1}::the same words\n" for n in range(10_000)))
    found = named(lines.all(), "lint")
    assert len(found) == len({each.id for each in found}) == 10_000


def test_what_moves_keeps_its_id_and_is_told_from_new_and_fixed() -> None:
    before = named([Finding(path="a.py", line=1, message="one"), Finding(path="a.py", line=2, message="two")], "lint")
    now = named([Finding(path="a.py", line=9, message="one"), Finding(path="a.py", line=3, message="three")], "lint")
    standing = Standing(before=frozenset(each.id for each in before))
    assert [standing.state(each) for each in now] == ["persisting", "new"]
    assert [each.message for each in standing.open(now)] == ["three", "one"]
    assert standing.fixed(now) == {before[1].id}
    dismissed = Standing(before=standing.before, dismissed=frozenset({now[1].id}))
    assert [each.message for each in dismissed.open(now)] == ["one"]
    assert Standing().state(now[0]) == ""


def test_sarif_is_read_as_it_is_written() -> None:
    found = named([Finding(path="a b.py", line=2, end_line=3, message="x", severity="notice", title="R1")], "scan")
    (again,) = named(from_sarif(json.loads(to_sarif(found, version="1"))), "scan")
    assert again == found[0]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda v: (
            st.lists(v)
            | st.dictionaries(
                st.sampled_from(
                    ["runs", "results", "locations", "physicalLocation", "region", "message", "text", "uri"]
                ),
                v,
            )
        ),
    )
)
def test_any_document_is_read(value: object) -> None:
    assert list(from_sarif(value)) is not None
    list(from_sarif({"runs": [{"results": [value, {"locations": value, "message": value}]}]}))
