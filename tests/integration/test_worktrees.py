"""Worktrees of agents: where they start, what is taken, how changes become one, and what is kept."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maos_bot.agents.handover import READABLE
from maos_bot.agents.places import PlaceError, RefusedError
from tests.worktree_parts import TEXT, agent, files_of, git, places, play, repository, state_of


def test_changes_become_one_in_the_plans_order_and_are_handed_over(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    head = git(root, "rev-parse", "HEAD")
    first, second = agent("first"), agent("second")

    async def work() -> None:
        trees = places(root, first, second)
        one, two = await trees.open(first), await trees.open(second)
        assert one != two
        (one / "a.txt").write_text(TEXT.replace("line 1\n", "line one\n"))
        (two / "a.txt").write_text(TEXT + "the end\n")
        (two / "src/b.txt").rename(two / "src/c.txt")
        (two / "new.bin").write_bytes(bytes(range(256)))
        (two / "new.bin").chmod(0o755)
        taken = await trees.take(second)
        assert taken
        assert (taken.files, taken.added, taken.removed) == (
            ("a.txt", "new.bin", "src/b.txt", "src/c.txt"),
            31,
            30,
        )
        assert await trees.take(first)
        await trees.close()
        merged = await trees.result()
        assert merged
        assert (merged.base, merged.tasks, merged.kept, dict(merged.conflicts)) == (head, ("first", "second"), (), {})
        await trees.write_patch(tmp_path / "result.patch")
        await trees.apply()
        assert await trees.commit_on_branch("agents/result") == merged.commit

    play(work())
    assert (root / "a.txt").read_text() == TEXT.replace("line 1\n", "line one\n") + "the end\n"
    assert not (root / "src/b.txt").exists()
    assert os.access(root / "new.bin", os.X_OK)
    assert git(root, "log", "--format=%s", "main..agents/result").splitlines() == ["second", "first"]
    clean = repository(tmp_path / "clean")
    git(clean, "apply", "--index", str(tmp_path / "result.patch"))
    assert git(clean, "write-tree") == git(root, "rev-parse", "agents/result^{tree}")
    assert not (root / ".maos" / "agents").exists()


def test_what_needs_others_starts_from_what_they_came_to_also_through_commands(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    one, other = agent("one"), agent("other")
    last = agent("last", needs=("check",))

    async def work() -> None:
        trees = places(root, one, other, agent("check", needs=("one",)), last)
        (await trees.open(one) / "a.txt").write_text("of one\n")
        (await trees.open(other) / "b.txt").write_text("of other\n")
        await trees.take(one)
        await trees.take(other)
        folder = await trees.open(last)
        assert (folder / "a.txt").read_text() == "of one\n"
        assert not (folder / "b.txt").exists(), "it doesn't need that one"
        await trees.close()

    play(work())


def test_a_conflict_comes_back_with_both_texts_and_is_mended(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    one, two = agent("one"), agent("two")

    async def work() -> None:
        trees = places(root, one, two)
        ours, theirs = await trees.open(one), await trees.open(two)
        (ours / "a.txt").write_text(TEXT.replace("line 5\n", "line five\n"))
        (theirs / "a.txt").write_text(TEXT.replace("line 5\n", "LINE 5\n"))
        (theirs / "more.txt").write_text("more\n")
        await trees.take(one)
        taken = await trees.take(two)
        assert taken
        assert (taken.conflicts, taken.branch) == (("a.txt",), "maos/run-1/two")
        assert "a.txt" in taken.advice
        assert await trees.open(two) == theirs
        text = (theirs / "a.txt").read_text()
        assert "<<<<<<< current\nline five\n=======\nLINE 5\n>>>>>>> yours\n" in text
        assert (theirs / "more.txt").read_text() == "more\n"
        with pytest.raises(RefusedError, match=r"a\.txt: conflict marks are left"):
            await trees.take(two)
        (theirs / "a.txt").write_text(TEXT.replace("line 5\n", "LINE FIVE\n"))
        again = await trees.take(two)
        assert again
        assert (again.files, again.conflicts) == (("a.txt", "more.txt"), ())
        await trees.close()
        merged = await trees.result()
        assert merged
        assert not merged.conflicts
        assert "LINE FIVE" in files_of(root, merged.commit)["a.txt"]
        assert "LINE 5" in files_of(root, "maos/run-1/two")["a.txt"]

    play(work())


def test_a_conflict_that_stays_is_reported_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    one, two, dead = agent("one"), agent("two"), agent("dead")

    async def work() -> None:
        trees = places(root, one, two, dead)
        (await trees.open(one) / "a.txt").unlink()
        folder = await trees.open(two)
        (folder / "a.txt").write_text("changed\n")
        (await trees.open(dead) / "half.txt").write_text("half done\n")
        await trees.take(one)
        taken = await trees.take(two)
        assert taken
        assert taken.conflicts == ("a.txt",)
        (folder / "second.txt").write_text("a second try\n")
        await trees.close()
        merged = await trees.result()
        assert merged
        assert merged.conflicts == {"two": ("a.txt",)}
        assert [(each.task, each.branch, each.why) for each in merged.kept] == [
            ("dead", "maos/run-1/dead", "it was not taken"),
            ("two", "maos/run-1/two", "conflicts in a.txt"),
            ("two", "maos/run-1/two-2", "it was not taken"),
        ]

    play(work())
    assert files_of(root, "maos/run-1/dead")["half.txt"] == "100644 half done"
    assert files_of(root, "maos/run-1/two")["a.txt"] == "100644 changed"
    assert files_of(root, "maos/run-1/two-2")["second.txt"] == "100644 a second try"


def test_the_users_uncommitted_work_is_in_the_base_and_nothing_of_theirs_is_touched(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    (root / "a.txt").write_text(TEXT + "not committed\n")
    (root / "staged.txt").write_text("staged\n")
    git(root, "add", "staged.txt")
    (root / "staged.txt").write_text("staged, then changed\n")
    (root / "untracked.txt").write_text("untracked\n")
    (root / "secret.log").write_text("ignored\n")
    (root / "src/b.txt").unlink()
    git(root, "stash", "store", "-m", "theirs", git(root, "stash", "create"))
    before, status = state_of(root), git(root, "status", "--short")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        base, _ = await trees.start()
        assert base.notice.endswith("a.txt, src/b.txt, staged.txt, untracked.txt")
        folder = await trees.open(task)
        assert sorted(each.name for each in folder.iterdir()) == sorted(
            [".git", ".gitignore", "a.txt", "staged.txt", "untracked.txt"]
        )
        assert (folder / "staged.txt").read_text() == "staged, then changed\n"
        (folder / "a.txt").write_text((folder / "a.txt").read_text() + "of the agent\n")
        await trees.take(task)
        await trees.close()
        assert (state_of(root), git(root, "status", "--short")) == (before, status)
        await trees.apply()

    play(work())
    assert (root / "a.txt").read_text() == TEXT + "not committed\nof the agent\n"
    assert state_of(root) == before


def test_a_recorded_commit_is_the_base_whatever_lies_in_the_folder(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    first = git(root, "rev-parse", "HEAD")
    (root / "later.txt").write_text("later")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=second")
    git(root, "checkout", "--quiet", "--detach")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task, base=first)
        folder = await trees.open(task)
        assert not (folder / "later.txt").exists()
        (folder / "new").write_text("new")
        await trees.take(task)
        await trees.close()
        merged = await trees.result()
        assert merged
        assert (merged.base, merged.files) == (first, ("new",))

    play(work())


def test_files_that_changed_since_are_not_written_over(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        folder = await trees.open(task)
        (folder / "a.txt").write_text("of the agent\n")
        (folder / "b.txt").write_text("another\n")
        await trees.take(task)
        await trees.close()
        (root / "a.txt").write_text("of the user\n")
        with pytest.raises(PlaceError, match="none was applied"):
            await trees.apply()

    play(work())
    assert (root / "a.txt").read_text() == "of the user\n"
    assert not (root / "b.txt").exists()


def test_verify_sees_the_work_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent(
        "one", writes=("a.txt",), verify="echo out > coverage.xml; echo x > a.txt; mkdir d; touch d/e; git log"
    )

    async def work() -> None:
        trees = places(root, task)
        folder = await trees.open(task)
        (folder / "a.txt").write_text("of the agent\n")
        assert await trees.verify(task, folder) == ""
        assert (folder / "a.txt").read_text() == "of the agent\n"
        assert not (folder / "coverage.xml").exists()
        taken = await trees.take(task)
        assert taken
        assert taken.files == ("a.txt",)
        await trees.close()

    play(work())


def test_a_verify_that_fails_or_hangs_says_so(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent("one")

    async def work(timeout_s: float, *commands: str) -> list[str]:
        environ = {"PATH": os.environ["PATH"], "SEEN": "yes"}
        trees = places(root, task, environ=environ, verify_timeout_s=timeout_s)
        folder = await trees.open(task)
        said = [await trees.verify(agent("one", verify=command), folder) for command in commands]
        await trees.close()
        return said

    commands = ("echo first; echo $SEEN >&2; exit 3", "exit 4", "sleep 600 & echo left")
    assert play(work(60.0, *commands)) == ["first\nyes", "exit code 4", ""]
    (said,) = play(work(0.3, "echo slow; sleep 600"))
    assert said.endswith("it was ended after 0.3 s")


def test_what_the_agent_commits_or_stages_makes_no_difference(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    before = state_of(root)
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        folder = await trees.open(task)
        (folder / "a.txt").write_text("committed\n")
        subprocess.run(["git", "commit", "--quiet", "--all", "--message=mine"], cwd=folder, check=True)
        git(folder, "stash", "store", git(folder, "rev-parse", "HEAD"))
        git(folder, "branch", "mine")
        git(folder, "config", "core.pager", "false")
        (folder / "b.txt").write_text("staged\n")
        git(folder, "add", "b.txt")
        git(folder, "update-index", "--assume-unchanged", "src/b.txt")
        (folder / "src/b.txt").write_text("hidden\n")
        taken = await trees.take(task)
        assert taken
        assert taken.files == ("a.txt", "b.txt", "src/b.txt")
        await trees.close()

    play(work())
    assert state_of(root) == before


def test_an_attempt_that_is_cancelled_while_it_is_taken_leaves_the_result_without_it(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        (await trees.open(task) / "a.txt").write_text("late\n")
        taking = asyncio.ensure_future(trees.take(task))
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await trees.close()
        merged = await trees.result()
        assert merged
        assert (merged.tasks, [each.branch for each in merged.kept]) == ((), ["maos/run-1/one"])

    play(work())
    assert files_of(root, "maos/run-1/one")["a.txt"] == "100644 late"


_DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.worktree_parts import agent, places

async def main():
    root = Path(sys.argv[1])
    tasks = [agent("done"), agent("open")]
    trees = places(root, *tasks, run_id="dead")
    (await trees.open(tasks[0]) / "done.txt").write_text("accepted")
    await trees.take(tasks[0])
    (await trees.open(tasks[1]) / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def _die(root: Path) -> None:
    died = subprocess.run([sys.executable, "-c", _DYING, str(root)], check=False, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL


def test_a_killed_runs_work_is_kept_by_the_next_run_and_its_folders_go(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    _die(root)
    (left,) = (root / ".maos" / "agents").iterdir()
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        _, saved = await trees.start()
        assert [each.branch for each in saved] == ["maos/dead/open", "maos/dead/result"]
        await trees.close()

    play(work())
    assert files_of(root, "maos/dead/open")["half.txt"] == "100644 half"
    assert files_of(root, "maos/dead/result")["done.txt"] == "100644 accepted"
    assert not left.exists()


def test_a_killed_run_that_is_resumed_goes_on_with_what_it_had_accepted(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    _die(root)
    done, rest = agent("done"), agent("open", needs=("done",))

    async def work() -> None:
        trees = places(root, done, rest, run_id="dead")
        _, saved = await trees.start()
        assert [each.branch for each in saved] == ["maos/dead/open"]
        folder = await trees.open(rest)
        assert (folder / "done.txt").read_text() == "accepted"
        (folder / "rest.txt").write_text("rest")
        await trees.take(rest)
        await trees.close()
        merged = await trees.result()
        assert merged
        assert (merged.tasks, merged.files) == (("done", "open"), ("done.txt", "rest.txt"))

    play(work())


def test_two_runs_in_one_repository_leave_each_other_alone(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent("one")

    async def one(run_id: str, text: str) -> None:
        trees = places(root, task, run_id=run_id)
        _, saved = await trees.start()
        assert saved == ()
        folder = await trees.open(task)
        (folder / "a.txt").write_text(text)
        await asyncio.sleep(0)
        await trees.take(task)
        await trees.close()
        merged = await trees.result()
        assert merged
        assert files_of(root, merged.commit)["a.txt"] == f"100644 {text}"

    async def work() -> None:
        await asyncio.gather(*(one(f"run-{number}", f"text {number}") for number in range(4)))

    play(work())


def test_a_branch_of_the_users_with_our_name_is_left_alone(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    head = git(root, "rev-parse", "HEAD")
    git(root, "branch", "maos/run-1/one")
    task = agent("one")

    async def work(run_id: str) -> str:
        trees = places(root, task, run_id=run_id)
        (await trees.open(task) / "a.txt").write_text("kept\n")
        await trees.close()
        merged = await trees.result()
        assert merged
        return merged.kept[0].branch

    assert play(work("run-1")) == "maos/run-1/one-2"
    assert git(root, "rev-parse", "maos/run-1/one") == head
    for branch in ("maos/run-1/one", "maos/run-1/one-2"):
        git(root, "branch", "-D", branch)
    git(root, "branch", "maos")
    assert play(work("run-2")) == "maos-kept/run-2/one"
    assert git(root, "rev-parse", "maos") == head


def test_a_branch_that_is_there_is_not_moved_by_a_result(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        (await trees.open(task) / "a.txt").write_text("x\n")
        await trees.take(task)
        await trees.close()
        with pytest.raises(PlaceError, match="there is a branch main already"):
            await trees.commit_on_branch("main")
        with pytest.raises(PlaceError, match="can't be the name of a branch"):
            await trees.commit_on_branch("a..b")

    play(work())


def test_names_that_no_branch_can_have_stay_apart(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    tasks = [agent(name) for name in ("unit (3.11, linux)", "unit (3.11; linux)", "..", "x.lock", "Ä")]

    async def work() -> set[str]:
        trees = places(root, *tasks)
        for task in tasks:
            (await trees.open(task) / "a.txt").write_text(task.id)
        await trees.close()
        merged = await trees.result()
        assert merged
        return {each.branch for each in merged.kept}

    branches = play(work())
    assert len(branches) == 5
    assert all(git(root, "rev-parse", "--verify", branch) for branch in branches)


def test_a_folder_that_its_agent_removes_is_made_again(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task, other = agent("one"), agent("two")

    async def work() -> None:
        trees = places(root, task, other)
        folder = await trees.open(task)
        shutil.rmtree(folder)
        with pytest.raises(PlaceError, match="is gone"):
            await trees.take(task)
        assert (await trees.open(task) / "a.txt").read_text() == TEXT
        shutil.rmtree(await trees.open(other))
        await trees.close()
        merged = await trees.result()
        assert merged
        assert [(each.task, each.why) for each in merged.kept] == [("two", "its folder was removed")]

    play(work())
    assert not (root / ".maos/agents").exists()


def test_what_could_not_be_handed_over_is_told_and_kept_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path / "r")
    real = shutil.which("git")
    failing = tmp_path / "bin" / "git"
    failing.parent.mkdir()
    failing.write_text(
        f'#!/bin/sh\ncase "$*" in *unpack-objects*) echo no space >&2; exit 1;; esac\nexec {real} "$@"\n'
    )
    failing.chmod(0o755)
    done, half = agent("done"), agent("half")

    async def work(run_id: str) -> tuple[str, ...]:
        trees = places(root, done, half, run_id=run_id)
        await trees.start()
        if run_id == "full":
            (await trees.open(done) / "done.txt").write_text("done")
            await trees.take(done)
            (await trees.open(half) / "half.txt").write_text("half")
        await trees.close()
        return trees.notices

    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{failing.parent}:{os.environ['PATH']}")
        (notice,) = play(work("full"))
    assert "no space" in notice
    assert len(play(work("next"))) == 2
    assert files_of(root, "maos/full/half")["half.txt"] == "100644 half"
    assert files_of(root, "maos/full/result")["done.txt"] == "100644 done"
    assert not (root / ".maos/agents").exists()


def test_without_anything_changed_there_is_no_result(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent("one")

    async def work() -> None:
        trees = places(root, task)
        await trees.open(task)
        assert await trees.take(task) is None
        await trees.close()
        assert await trees.result() is None
        await trees.apply()
        await trees.write_patch(tmp_path / "patch")
        with pytest.raises(PlaceError, match="no change"):
            await trees.commit_on_branch("x")

    play(work())
    assert (tmp_path / "patch").read_bytes() == b""


def test_a_taken_change_comes_with_a_patch_that_people_can_read(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    one, long = agent("one"), agent("long")

    async def work() -> None:
        trees = places(root, one, long)
        folder = await trees.open(one)
        (folder / "a.txt").write_text(TEXT.replace("line 5\n", "line five\n"))
        (folder / "picture.bin").write_bytes(bytes(range(256)) * 40)
        taken = await trees.take(one)
        assert taken
        assert "-line 5\n+line five\n" in taken.patch
        assert "Binary files /dev/null and b/picture.bin differ" in taken.patch
        assert len(taken.patch) < 2000
        (await trees.open(long) / "b.txt").write_text("x" * 99 + "\n" + "many words\n" * 24_000)
        taken = await trees.take(long)
        assert taken
        assert READABLE - 200 < len(taken.patch) <= READABLE
        assert taken.patch.endswith("+many words\n")
        await trees.close()

    play(work())
