"""What worktrees refuse to take, what never runs, and repositories that are not like others."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from maos_bot.agents.places import PlaceError, RefusedError
from maos_bot.execution.confined import AgentCommands
from maos_bot.execution.confinement import Confinement
from maos_bot.redact import Redactor
from tests.worktree_parts import TEXT, agent, files_of, git, places, play, repository, state_of


def _try(root: Path, edit: Callable[[Path], object], writes: tuple[str, ...] | None) -> str:
    """What is said to a change; empty where it is taken."""
    task = agent("one", writes=writes)

    async def work() -> str:
        trees = places(root, task)
        folder = await trees.open(task)
        edit(folder)
        try:
            await trees.take(task)
            return ""
        except RefusedError as error:
            return str(error)
        finally:
            await trees.close()

    return play(work())


def _replaced_by_link(folder: Path) -> None:
    (folder / "src/b.txt").unlink()
    (folder / "src").rmdir()
    (folder / "src").symlink_to("/etc")


def _nested(folder: Path) -> None:
    (folder / "docs").mkdir()
    repository(folder / "docs" / "inner")


def _pipe(folder: Path) -> None:
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")


def _without_submodule(folder: Path) -> None:
    (folder / "sub").rmdir()


def _file_for_submodule(folder: Path) -> None:
    _without_submodule(folder)
    (folder / "sub").write_text("x")


def _nested_and_outside(folder: Path) -> None:
    _nested(folder)
    (folder / "src/new.py").write_text("x\n")


def _link(target: str, at: str = "docs/link") -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / at).parent.mkdir(exist_ok=True)
        (folder / at).symlink_to(target)

    return edit


def _write(path: str, text: str = "x\n") -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)

    return edit


@pytest.mark.parametrize(
    ("edit", "writes", "said"),
    [
        pytest.param(_write("src/new.py"), ("docs/**",), r"src/new\.py \(added\): changed outside", id="new file"),
        pytest.param(_write("a.txt"), ("docs/**",), r"a\.txt \(changed\)", id="changed"),
        pytest.param(lambda f: (f / "a.txt").unlink(), ("docs/**",), r"a\.txt \(deleted\)", id="deleted"),
        pytest.param(
            lambda f: (f / "src/b.txt").rename(f / "src/c.md"),
            ("**/*.md",),
            r"src/b\.txt \(deleted\)",
            id="renamed from",
        ),
        pytest.param(lambda f: (f / "a.txt").rename(f / "z.txt"), ("a.txt",), r"z\.txt \(added\)", id="renamed to"),
        pytest.param(
            lambda f: (f / "a.txt").chmod(0o755), ("docs/**",), r"a\.txt \(mode 100644 to 100755\)", id="mode"
        ),
        pytest.param(_replaced_by_link, ("docs/**",), r"src \(.*src/b\.txt \(deleted\)", id="folder to link"),
        pytest.param(_link("/etc/passwd"), None, "leads out of the repository", id="absolute link"),
        pytest.param(_link("../../etc/passwd"), None, "leads out of the repository", id="link above the root"),
        pytest.param(_link("../.git/config"), None, "leads out of the repository", id="link into .git"),
        pytest.param(
            lambda f: (_link("..", "up")(f), _link("up/../..", "out")(f)), None, "leads out", id="link by way of a link"
        ),
        pytest.param(_write(".GIT/config"), None, r"\.GIT/config \(added\): can't be changed", id="another .git"),
        pytest.param(_write("src/.git./x"), None, "can't be changed", id="a .git to Windows"),
        pytest.param(_write("src/.g\u200cit/x"), None, "can't be changed", id="a .git to macOS"),
        pytest.param(_write(".maos.yml"), ("**",), "doesn't name it in so many words", id="the spec"),
        pytest.param(_write(".gitattributes"), ("**",), "doesn't name it in so many words", id="attributes"),
        pytest.param(_write("src/.gitattributes"), None, "doesn't name it in so many words", id="attributes below"),
        pytest.param(_write(".gitmodules"), ("*",), "doesn't name it in so many words", id="submodules' list"),
        pytest.param(_write(".github/workflows/x.yml"), (".github/**",), "so many words", id="a workflow"),
        pytest.param(_nested, ("docs/**",), "docs/inner/ is a repository of its own", id="a repository inside"),
        pytest.param(_pipe, None, "neither a file nor a link", id="a pipe"),
    ],
)
def test_a_change_that_may_not_be_taken_is_refused_in_words(
    tmp_path: Path, edit: Callable[[Path], object], writes: tuple[str, ...] | None, said: str
) -> None:
    assert re.search(said, _try(repository(tmp_path / "r"), edit, writes), re.DOTALL)


@pytest.mark.parametrize(
    ("edit", "writes"),
    [
        pytest.param(_link("../a.txt"), ("docs/**",), id="link inside"),
        pytest.param(_write("docs/.gitattributes"), ("docs/.gitattributes",), id="attributes by name"),
        pytest.param(_write(".github/workflows/x.yml"), (".github/workflows/*.yml",), id="workflow by name"),
        pytest.param(_write("build.log"), ("docs/**",), id="ignored file"),
        pytest.param(_write("docs/.git/config"), ("docs/**",), id="what git itself never lists"),
        pytest.param(lambda f: (f / ".git").write_text("gitdir: /nowhere\n"), ("docs/**",), id="its own .git"),
    ],
)
def test_a_change_within_bounds_is_taken(
    tmp_path: Path, edit: Callable[[Path], object], writes: tuple[str, ...]
) -> None:
    assert _try(repository(tmp_path / "r"), edit, writes) == ""


def test_what_the_commands_of_a_task_that_only_looks_leave_behind_is_nobodys_work(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    looks, empty = agent("looks", tools=("read", "run")), agent("empty", writes=())

    async def work() -> None:
        trees = places(root, looks, empty)
        for task in (looks, empty):
            (await trees.open(task) / "coverage.xml").write_text("x")
            assert await trees.take(task) is None
        await trees.close()
        assert await trees.result() is None

    play(work())


def test_what_an_agent_wrote_is_tried_confined(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    (root / "own.txt").write_text("the user's own file\n")
    environ = {**os.environ, "API_TOKEN": "a-secret-of-ours"}
    commands = AgentCommands(redactor=Redactor(()), environ=environ)
    if not commands.holds:
        pytest.skip(f"nothing here can hold a command: {commands.refusal}")
    text = f"env; cat /proc/{os.getpid()}/environ {root}/own.txt; echo over > {root}/a.txt; echo mine > a.txt; exit 3\n"
    task = agent("one", verify="sh ./check.sh")

    async def work() -> str:
        trees = places(root, task, commands=commands, base=git(root, "rev-parse", "HEAD"))
        folder = await trees.open(task)
        (folder / "check.sh").write_text(text)
        said = await trees.verify(task, folder)
        (folder / "check.sh").write_text("exit 0\n")
        assert await trees.verify(task, folder) == ""
        taken = await trees.take(task)
        assert taken
        assert taken.files == ("check.sh",)
        await trees.close()
        return said

    said = play(work())
    commands.close()
    assert "PATH=" in said
    assert "a-secret-of-ours" not in said
    assert "the user's own file" not in said
    assert (root / "a.txt").read_text() == TEXT


def test_where_nothing_can_confine_verify_no_token_is_spent(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    commands = AgentCommands(redactor=Redactor(()), environ=dict(os.environ), held_by=Confinement())
    task = agent("one", verify="true")

    async def work() -> None:
        trees = places(root, task, commands=commands)
        with pytest.raises(PlaceError, match="`verify` would run what an agent wrote"):
            await trees.open(task)
        await trees.close()

    play(work())


@pytest.mark.parametrize("env", [{"A": "x\0y"}, {"A=B": "1"}])
def test_a_command_that_cant_be_given_a_variable_says_so(tmp_path: Path, env: dict[str, str]) -> None:
    commands = AgentCommands(redactor=Redactor(()), environ=dict(os.environ))
    ran = asyncio.run(commands.run(("true",), folder=tmp_path, timeout_s=5.0, env=env, held=False))
    commands.close()
    assert ran.code is None
    assert ran.reason.startswith("could not start: ")


def test_refused_work_is_kept_all_the_same(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    assert _try(root, _nested_and_outside, ("docs/**",))
    kept = files_of(root, "maos/run-1/one")
    assert kept["src/new.py"] == "100644 x"
    assert "docs/inner/a.txt" in kept


def test_nothing_that_a_repository_names_ever_runs(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\ncat\n")
    trap.chmod(0o755)
    (root / ".gitattributes").write_text("* filter=trap diff=trap merge=trap\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=attributes")
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-commit", "post-commit"):
        (root / ".git/hooks" / hook).write_text(trap.read_text())
        (root / ".git/hooks" / hook).chmod(0o755)
    for key in ("filter.trap.clean", "filter.trap.smudge", "filter.trap.process", "diff.trap.command"):
        git(root, "config", key, str(trap))
    for key in ("diff.trap.textconv", "merge.trap.driver", "core.fsmonitor", "gpg.program", "core.sshCommand"):
        git(root, "config", key, str(trap))
    git(root, "config", "commit.gpgSign", "true")
    sprung.unlink(missing_ok=True)
    (root / "a.txt").write_text(TEXT + "more\n")
    one, two = agent("one"), agent("two")

    async def work() -> None:
        trees = places(root, one, two)
        ours, theirs = await trees.open(one), await trees.open(two)
        # The agent's own `.git` leads to a repository with traps in its configuration.
        (ours / ".git").write_text(f"gitdir: {root / '.git'}\n")
        (ours / "src/b.txt").write_text(TEXT.replace("line 1\n", "1\n"))
        (theirs / "src/b.txt").write_text(TEXT.replace("line 1\n", "one\n"))
        await trees.take(one)
        taken = await trees.take(two)
        assert taken
        assert taken.conflicts
        await trees.close()
        await trees.apply()
        await trees.commit_on_branch("result")

    play(work())
    assert not sprung.exists()
    assert "1\n" in (root / "src/b.txt").read_text()
    git(root, "status", check=False)
    assert sprung.exists(), "the traps are set: plain git springs them"


def test_line_ends_and_stale_attributes_change_nothing_that_the_agent_left_alone(tmp_path: Path) -> None:
    root = repository(tmp_path / "r", {"dos.txt": "x\n", "unix.txt": "one\n", ".gitattributes": ""})
    (root / "dos.txt").write_bytes(b"one\r\ntwo\r\n")
    git(root, "-c", "core.autocrlf=false", "add", "--all")
    (root / ".gitattributes").write_text("*.txt text eol=crlf\n")
    git(root, "add", ".gitattributes")
    git(root, "commit", "--quiet", "--message=attributes without renormalising")
    head = git(root, "rev-parse", "HEAD")
    task = agent("one", writes=("unix.txt",))

    async def work() -> None:
        trees = places(root, task, base=head)
        folder = await trees.open(task)
        assert (folder / "dos.txt").read_bytes() == b"one\r\ntwo\r\n"
        (folder / "unix.txt").write_text("two\n")
        taken = await trees.take(task)
        assert taken
        assert taken.files == ("unix.txt",)
        await trees.close()

    play(work())


def test_files_in_git_lfs_are_pointers_and_stay_so(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
    files = {"big.bin": pointer, ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n"}
    root = repository(tmp_path / "r", files)
    git(root, "config", "filter.lfs.smudge", "false")
    git(root, "config", "filter.lfs.required", "true")
    (root / "big.bin").write_text("the content\n")  # as Git LFS has it in a work tree
    assert "Git LFS" in _try(root, _write("big.bin", "other content\n"), None)
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        folder = await trees.open(task)
        assert (folder / "big.bin").read_text() == pointer
        await trees.close()

    play(work())


def test_a_submodule_is_an_empty_folder_that_stays_empty(tmp_path: Path) -> None:
    inner = repository(tmp_path / "inner")
    root = repository(tmp_path / "r")
    git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    git(root, "commit", "--quiet", "--message=submodule")
    (root / "sub" / "a.txt").write_text("changed in the user's submodule\n")
    before = state_of(root)
    assert _try(root, _write("b.txt"), None) == ""
    assert "sub is a submodule" in _try(root, _write("sub/new.txt"), None)
    assert "sub is a submodule" in _try(root, _file_for_submodule, None)
    assert "sub is a submodule" in _try(root, _without_submodule, None)
    after = state_of(root)
    assert {name: after[name] for name in before if name != "refs"} == {
        name: before[name] for name in before if name != "refs"
    }


def test_a_shallow_clone_serves(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin")
    for number in range(3):
        (origin / "a.txt").write_text(f"{number}\n")
        git(origin, "commit", "--quiet", "--all", f"--message={number}")
    root = tmp_path / "r"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{origin}", str(root))
    task = agent("one", verify="git log --oneline && git fsck --no-dangling")

    async def work() -> None:
        trees = places(root, task, base=git(root, "rev-parse", "HEAD"))
        folder = await trees.open(task)
        (folder / "a.txt").write_text("of the agent\n")
        assert await trees.verify(task, folder) == ""
        await trees.take(task)
        await trees.close()
        commit = await trees.commit_on_branch("result")
        assert files_of(root, commit)["a.txt"] == "100644 of the agent"

    play(work())
    subprocess.run(["git", "fsck", "--strict"], cwd=root, check=True, capture_output=True)


def test_a_sparse_checkout_stays_sparse_and_what_is_not_in_it_stays_in_the_result(tmp_path: Path) -> None:
    root = repository(tmp_path / "r", {"in/a.txt": TEXT, "out/b.txt": TEXT, "top.txt": "x\n"})
    git(root, "sparse-checkout", "set", "in")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        folder = await trees.open(task)
        assert (folder / "in/a.txt").exists()
        assert not (folder / "out").exists()
        (folder / "in/a.txt").write_text("changed\n")
        _write("out/c.txt")(folder)
        taken = await trees.take(task)
        assert taken
        assert taken.files == ("in/a.txt", "out/c.txt")
        await trees.close()
        merged = await trees.result()
        assert merged
        assert sorted(files_of(root, merged.commit)) == ["in/a.txt", "out/b.txt", "out/c.txt", "top.txt"]

    play(work())


def test_a_linked_worktree_of_the_users_serves(tmp_path: Path) -> None:
    main = repository(tmp_path / "main")
    root = tmp_path / "linked"
    git(main, "worktree", "add", "--quiet", "-b", "other", str(root))
    (root / "a.txt").write_text("of the user\n")
    assert _try(root, _write("b.txt"), ("b.txt",)) == ""
    assert git(root, "status", "--short") == "M a.txt"


def test_before_the_first_commit_agents_start_from_the_files(tmp_path: Path) -> None:
    root = tmp_path / "r"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "a.txt").write_text("a\n")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        base, _ = await trees.start()
        assert base.notice.startswith("there is no commit yet")
        folder = await trees.open(task)
        (folder / "a.txt").write_text("b\n")
        await trees.take(task)
        await trees.close()
        await trees.apply()

    play(work())
    assert (root / "a.txt").read_text() == "b\n"


def test_without_a_repository_agents_work_on_a_copy_and_what_is_kept_is_a_patch(tmp_path: Path) -> None:
    root = tmp_path / "r"
    root.mkdir()
    (root / "a.txt").write_text("a\n")
    (root / ".gitignore").write_text("secret\n")
    (root / "secret").write_text("not for agents\n")
    one, two = agent("one"), agent("two")

    async def work() -> None:
        trees = places(root, one, two)
        ours, theirs = await trees.open(one), await trees.open(two)
        assert not (ours / "secret").exists()
        (ours / "a.txt").write_text("one\n")
        (theirs / "a.txt").write_text("two\n")
        await trees.take(one)
        taken = await trees.take(two)
        assert taken
        assert taken.branch == str(root / ".maos/kept/run-1/two.patch")
        await trees.close()
        await trees.apply()

    play(work())
    assert (root / "a.txt").read_text() == "one\n"
    assert "+two" in (root / ".maos/kept/run-1/two.patch").read_text()
    assert not (root / ".git").exists()


def test_a_link_put_in_the_way_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "b.txt").write_text("a secret\n")

    def edit(folder: Path) -> None:
        (folder / "src/b.txt").unlink()
        (folder / "src").rmdir()
        (folder / "src").symlink_to(secret)

    assert "leads out" in _try(root, edit, None)
    kept = files_of(root, "maos/run-1/one")
    assert "a secret" not in " ".join(kept.values())


def test_without_git_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    task = agent("one")

    async def work() -> None:
        trees = places(tmp_path, task)
        with pytest.raises(PlaceError, match="install git"):
            await trees.open(task)
        await trees.close()

    play(work())
