"""The tools of a worker: what they answer, how they bound it, and what they say where a call can't be done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maos_bot.agents import search, tools
from maos_bot.agents.tools import granted
from maos_bot.execution.confinement import Confinement
from maos_bot.model import Task
from maos_bot.models.protocol import ToolCall
from tests.agent_ground import ALL, KEY, Ground, ask, processes_with


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with contextlib.closing(Ground(tmp_path)) as made:
        yield made


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"read", "list", "search", "finish"}),
        ({"tools": ("read",)}, {"read", "list", "finish"}),
        ({"writes": ("docs/**",)}, {"read", "list", "search", "edit", "write", "finish"}),
        ({"writes": ()}, {"read", "list", "search", "finish"}),
        ({"tools": ("edit",)}, {"read", "list", "edit", "write", "finish"}),
        ({"tools": ("read", "run"), "writes": ("docs/**",)}, {"read", "list", "run", "finish"}),
    ],
)
def test_a_task_has_the_tools_that_its_spec_gives_it(
    ground: Ground, values: dict[str, Any], expected: set[str]
) -> None:
    made = ground.tools(*values.get("tools", ()), writes=values.get("writes"))
    assert {tool.name for tool in made.tools} == expected
    assert granted(Task(id="a", agent="x", **values))


def test_only_a_task_that_reports_findings_is_told_of_them(ground: Ground) -> None:
    for report, expected in (("findings", True), ("text", False)):
        (finish,) = (tool for tool in ground.tools(report=report).tools if tool.name == "finish")
        assert ("findings" in finish.schema["properties"]) is expected


def test_reading_numbers_lines_and_goes_on_where_it_stopped(ground: Ground) -> None:
    (ground.work / "long.txt").write_text("".join(f"line {number}\n" for number in range(1, 1001)))
    made = ground.tools()
    first = ask(made, "read", path="long.txt", start=10, lines=2).text
    assert "10\tline 10\n11\tline 11\n" in first
    assert "(1000 lines in all; go on from line 12)" in first
    assert "12\t" not in first
    assert "beyond its end" in ask(made, "read", path="long.txt", start=1001).text
    assert ask(made, "read", path="README.md").text.startswith('<data name="README.md"')


def test_what_is_read_is_bounded(ground: Ground) -> None:
    (ground.work / "wide.txt").write_text("x" * 500_000 + "\nend\n")
    (ground.work / "many.txt").write_text("some words on a line\n" * 5000)
    with (ground.work / "huge.bin").open("wb") as file:
        file.truncate(9 * 2**20)
    (ground.work / "data.bin").write_bytes(b"a\0b")
    (ground.work / "empty.txt").touch()
    made = ground.tools()
    assert len(ask(made, "read", path="wide.txt").text) < 2000
    assert len(ask(made, "read", path="many.txt", lines=2000).text) < 31_000
    assert "too large to read: 9,437,184 bytes" in ask(made, "read", path="huge.bin").text
    assert "a binary file of 3 bytes" in ask(made, "read", path="data.bin").text
    assert "is empty" in ask(made, "read", path="empty.txt").text
    assert "does not exist" in ask(made, "read", path="none.txt").text
    assert "src is a folder" in ask(made, "read", path="src").text


def test_a_folder_is_listed_without_git(ground: Ground) -> None:
    (ground.work / "link").symlink_to("README.md")
    listed = ask(ground.tools(), "list").text
    assert "README.md (9 bytes)\ndocs/\nlink (a link)\nsrc/" in listed
    assert ".git" not in listed
    assert "not a folder" in ask(ground.tools(), "list", path="README.md").text


PROGRAMS = ["python", pytest.param("ripgrep", marks=pytest.mark.skipif(not shutil.which("rg"), reason="no ripgrep"))]


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which program searches."""
    if request.param == "python":
        monkeypatch.setattr(search.shutil, "which", lambda _: None)  # type: ignore[attr-defined]
    return str(request.param)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"pattern": r"def \w+"}, ["src/a.py:1: def foo():", "src/a.py:5: def bar():"]),
        ({"pattern": "DEF FOO", "ignore_case": True}, ["src/a.py:1: def foo():"]),
        ({"pattern": "foo()", "literal": True}, ["src/a.py:1: def foo():"]),
        ({"pattern": "e", "glob": "*.md"}, ["README.md:1: Read me."]),
        ({"pattern": "[Dd]o", "glob": "docs"}, ["docs/a.md:1: # Docs"]),
        ({"pattern": "[Dd]o", "glob": "docs/**"}, ["docs/a.md:1: # Docs"]),
        ({"pattern": "return", "path": "./src//"}, ["src/a.py:2:     return 1", "src/a.py:6:     return 2"]),
        ({"pattern": "return", "path": "src/a.py"}, ["src/a.py:2:     return 1", "src/a.py:6:     return 2"]),
        ({"pattern": "^$"}, ["src/a.py:3: ", "src/a.py:4: "]),
        ({"pattern": "ü.ü"}, ["üben.txt:1: üäü"]),
        ({"pattern": r"foo(?!\()"}, []),  # one that ripgrep doesn't know
        ({"pattern": "nowhere"}, []),
        ({"pattern": "hidden"}, [".hidden:1: hidden", "build/ignored.txt:1: hidden"]),
        ({"pattern": "binary"}, []),
    ],
    ids=lambda value: str(value.get("pattern", "")) if isinstance(value, dict) else "",
)
def test_searching_gives_the_same_answer_by_either_program(
    ground: Ground, program: str, asked: dict[str, Any], expected: list[str]
) -> None:
    (ground.work / "üben.txt").write_text("üäü\n")
    (ground.work / ".hidden").write_text("hidden\n")
    (ground.work / ".gitignore").write_text("build/\n")
    (ground.work / "build").mkdir()
    (ground.work / "build/ignored.txt").write_text("hidden\n")
    (ground.work / "data.bin").write_bytes(b"binary\n" + b"x" * 100_000 + b"\0")
    (ground.work / "link.txt").symlink_to("README.md")
    result = ask(ground.tools(), "search", **asked)
    assert not result.failed, result.text
    assert result.text.splitlines()[1:-1] == expected or (not expected and result.text == "nothing fits")


def test_what_is_found_is_bounded_and_says_so(ground: Ground, program: str) -> None:
    for number in range(10):
        (ground.work / f"many-{number}.txt").write_text(f"needle {'x' * 5000}\n" * 100)
    text = ask(ground.tools(), "search", pattern="needle").text
    assert len(text) < 31_000
    assert "there is more" in text


def test_a_pattern_that_takes_forever_is_ended(ground: Ground, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    (ground.work / "a.txt").write_text("a" * 60 + "!\n")
    monkeypatch.setattr(tools, "SEARCH_S", 0.6)
    begun = time.monotonic()
    result = ask(ground.tools(), "search", pattern=r"(a+)+\b(?=$)(?!.)z|(a|aa)+(?=z)")  # not ripgrep's: ours runs
    assert time.monotonic() - begun < 8
    assert result.failed
    assert "the search was ended (timed out" in result.text


def test_a_bad_search_says_what_is_wrong(ground: Ground, program: str) -> None:
    made = ground.tools()
    assert "no regular expression" in ask(made, "search", pattern="(").text
    assert "is empty" in ask(made, "search", pattern="").text
    assert "single lines" in ask(made, "search", pattern="a\nb").text
    assert "does not exist" in ask(made, "search", pattern="a", path="none").text


def test_settings_of_ripgrep_change_nothing(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    (tmp_path / "rgrc").write_text("--follow\n--invert-match\n--pre=/bin/cat\n")
    monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(tmp_path / "rgrc"))
    assert "src/a.py:1: def foo():" in ask(ground.tools(), "search", pattern="foo").text


def test_an_edit_changes_exactly_what_was_meant(ground: Ground) -> None:
    path = ground.work / "src/a.py"
    path.chmod(0o755)
    made = ground.tools("edit")
    assert ask(made, "edit", path="src/a.py", old="return 1", new="return 3").text == "src/a.py was changed at line 2"
    assert path.read_text() == "def foo():\n    return 3\n\n\ndef bar():\n    return 2\n"
    assert path.stat().st_mode & 0o777 == 0o755
    assert "there 2 times, at lines 2, 6" in ask(made, "edit", path="src/a.py", old="return", new="x").text
    assert not ask(made, "edit", path="src/a.py", old="return", new="yield", everywhere=True).failed
    assert path.read_text().count("yield") == 2
    wrong = ask(made, "edit", path="src/a.py", old="  def bar():\n", new="x").text
    assert "not in the file; its first line is like line 5" in wrong
    assert "are the same" in ask(made, "edit", path="src/a.py", old="x", new="x").text


def test_an_edit_keeps_line_ends_and_bytes_it_does_not_know(ground: Ground) -> None:
    path = ground.work / "windows.txt"
    path.write_bytes(b"\xff one\r\ntwo\r\nthree\r\n")
    assert not ask(ground.tools("edit"), "edit", path="windows.txt", old="two\nthree", new="2\n3").failed
    assert path.read_bytes() == b"\xff one\r\n2\r\n3\r\n"


def test_writing_makes_replaces_and_removes_files(ground: Ground) -> None:
    made = ground.tools("edit")
    assert ask(made, "write", path="new/deep/file.txt", text="a\nb\n").text == "new/deep/file.txt was made: 2 lines"
    assert ask(made, "write", path="new/deep/file.txt", text="c").text == "new/deep/file.txt was replaced: 1 lines"
    assert (ground.work / "new/deep/file.txt").read_text() == "c"
    assert ask(made, "write", path="new/deep/file.txt", remove=True).text == "new/deep/file.txt was removed"
    assert not (ground.work / "new/deep/file.txt").exists()
    assert "`text` is missing" in ask(made, "write", path="a").text
    assert "src is a folder" in ask(made, "write", path="src", text="x").text
    assert "README.md is not a folder" in ask(made, "write", path="README.md/x", text="x").text
    assert not list((ground.work / "new/deep").iterdir())


def test_a_command_runs_in_the_worktree_and_its_exit_code_is_told(ground: Ground) -> None:
    made = ground.tools("run")
    good = ask(made, "run", command="pwd; echo made > new.txt; cat new.txt | tr a-z A-Z")
    assert not good.failed
    assert good.text.startswith("exit code 0\n<data")
    assert f"{ground.work}\nMADE" in good.text
    assert (ground.work / "new.txt").read_text() == "made\n"
    bad = ask(made, "run", command="echo said; false | true; echo not reached")
    assert bad.failed
    assert bad.text.startswith("exit code 1")
    assert "said" in bad.text
    assert "not reached" not in bad.text
    assert ask(made, "run", command="true").text == "exit code 0, and it printed nothing"


def test_a_command_has_a_home_and_temporary_files_of_its_own(ground: Ground) -> None:
    made = ground.tools("run")
    said = ask(made, "run", command='echo kept > "$HOME/note"; mktemp; touch "$TMPDIR/x"').text
    assert "exit code 0" in said
    assert str(ground.work) not in said
    assert "kept" in ask(made, "run", command='cat "$HOME/note"').text


def test_python_and_its_processes_work_in_a_command(ground: Ground) -> None:
    script = "import subprocess, sys; print(subprocess.run(['echo', 'inner'], capture_output=True, text=True).stdout)"
    assert "inner" in ask(ground.tools("run"), "run", command=f'python3 -c "{script}"').text


def test_variables_of_the_task_reach_its_commands_but_never_ours(ground: Ground) -> None:
    env = {"PLAIN": "as it is", "FORWARDED": "${MAOS_TEST_API_KEY}"}
    said = ask(ground.tools("run", env=env), "run", command="env").text
    assert "PLAIN=as it is" in said
    assert "FORWARDED" not in said
    assert "MAOS_TEST_API_KEY" not in said


def test_a_command_is_ended_whole_at_its_time_limit(ground: Ground) -> None:
    begun = time.monotonic()
    result = ask(ground.tools("run"), "run", command="trap '' TERM; (setsid sleep 60 &); sleep 60", seconds=0.5)
    assert time.monotonic() - begun < 15
    assert result.failed
    assert "timed out after 0.5 s" in result.text


def test_cancelling_a_call_ends_its_command(ground: Ground) -> None:
    made = ground.tools("run")

    async def main() -> None:
        call = ToolCall(id="c", name="run", arguments={"command": "echo $$ > pid; sleep 60"})
        work = asyncio.ensure_future(made.call(call))
        while not (ground.work / "pid").exists():
            await asyncio.sleep(0.02)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    begun = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - begun < 15
    assert not processes_with(str(ground.work))


def test_loud_output_is_cut_in_the_middle(ground: Ground) -> None:
    text = ask(ground.tools("run"), "run", command="echo begin; seq 1000000; echo end").text
    assert len(text) < 31_000
    assert "begin" in text
    assert "end" in text
    assert "left out]" in text


def test_without_landlock_commands_are_refused_unless_one_says_so(tmp_path: Path) -> None:
    none = Confinement(why_not="the kernel has no Landlock")
    refused = ask(Ground(tmp_path / "a", held_by=none).tools("run"), "run", command="echo ran")
    assert refused.failed
    assert "MAOS_UNCONFINED_RUN=1" in refused.text
    environ = {**os.environ, "MAOS_UNCONFINED_RUN": "1"}
    with contextlib.closing(Ground(tmp_path / "b", held_by=none, environ=environ)) as willing:
        assert "ran" in ask(willing.tools("run"), "run", command="echo ran").text


@pytest.mark.parametrize(
    ("held_by", "words"),
    [
        (Confinement(landlock=7, calls=True, namespaces=("mount", "pid", "net", "ipc")), "a network of its own"),
        (Confinement(landlock=4, calls=True), "no network (seccomp)"),
        (Confinement(landlock=4), "no TCP (Landlock), but UDP is open"),
        (Confinement(landlock=3), "the network is OPEN"),
        (Confinement(landlock=2), "files are NOT confined"),
        (Confinement(landlock=2, namespaces=("mount", "pid", "net", "ipc")), "files by Landlock (version 2)"),
        (Confinement(why_not="darwin has no Landlock"), "files are NOT confined"),
    ],
)
def test_what_holds_is_said_in_words(held_by: Confinement, words: str) -> None:
    assert words in held_by.words()


def test_finishing_takes_a_summary_and_findings_that_are_some(ground: Ground) -> None:
    made = ground.tools(report="findings")
    refused = ask(made, "finish", summary="done", findings=[{"path": "../x", "severity": "high", "message": "m"}])
    assert refused.failed
    assert "finding 1: `path` '../x' is not inside the repository" in refused.text
    assert made.finished is None
    finding = {"path": "src/a.py", "line": 1, "severity": "warning", "message": "short"}
    assert not ask(made, "finish", summary=" done ", findings=[finding]).failed
    assert made.finished is not None
    assert (made.finished.summary, made.finished.findings) == ("done", (finding,))
    assert "reports no findings" in ask(ground.tools(), "finish", summary="x", findings=[finding]).text


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("read", {}, "`path`: field required"),
        ("read", {"path": "a", "start": 0}, "`start`"),
        ("read", {"path": "a", "begin": 1}, "`begin`: extra inputs are not permitted"),
        ("read", {"path": ["a"]}, "`path`"),
        ("read", {"path": ""}, "`path`"),
        ("edit", {"path": "a", "old": "", "new": "b"}, "`old`"),
        ("write", {"path": "a", "text": 3}, "`text`"),
        ("run", {"command": "true", "seconds": -1}, "`seconds`"),
        ("run", {"command": "x" * 30_000}, "`command`"),
        ("search", {"pattern": None}, "`pattern`"),
        ("finish", {"summary": ""}, "`summary`"),
        ("fly", {}, "there is no tool 'fly'; there are read, list, search, edit, write, run, finish"),
    ],
)
def test_a_call_that_is_malformed_is_told_what_is_wrong(
    ground: Ground, name: str, arguments: dict[str, Any], words: str
) -> None:
    result = ask(ground.tools(*ALL), name, **arguments)
    assert result.failed
    assert words in result.text


def test_known_secrets_are_in_no_result(ground: Ground) -> None:
    (ground.work / "settings.ini").write_text(f"one\nkey = {KEY}\nthree\n")
    made = ground.tools(*ALL)
    for result in (
        ask(made, "read", path="settings.ini"),
        ask(made, "search", pattern="key"),
        ask(made, "run", command="cat settings.ini"),
        ask(made, "read", path=KEY.replace("/", "-") + KEY),
    ):
        assert KEY not in result.text
        assert "***" in result.text


def test_lines_keep_their_numbers_where_a_key_was_taken_out(ground: Ground) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\n" + ("QUJD" * 16 + "\n") * 3 + "-----END PRIVATE KEY-----\n"
    (ground.work / "key.pem").write_text(f"first\n{pem}last\n")
    made = ground.tools()
    text = ask(made, "read", path="key.pem").text
    assert "7\tlast" in text
    assert "QUJD" not in text
    assert "QUJD" not in ask(made, "search", pattern="QUJD|last").text
    assert "QUJD" not in ask(made, "read", path="key.pem", start=4).text
