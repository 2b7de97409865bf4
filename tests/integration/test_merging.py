"""Many agents' changes made one: the same bytes whatever the number of workers and the timing, and nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks._merge_sets import PROFILES, TaskSet, apply, make_repository, make_set, run_set
from benchmarks.merge import measure
from maos_bot.model import Task
from tests.worktree_parts import TEXT, agent, files_of, git, places, play, repository

_SETS = 40  # less than half a second of the CPU each; benchmarks/merge runs hundreds, and larger ones


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("merging")
    return root, make_repository(root)


@pytest.mark.slow
@settings(
    max_examples=_SETS,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # a smaller example would cost minutes; the seed is enough to see it again
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**32),
    profile=st.sampled_from(PROFILES),
    most=st.sampled_from((3, 6, 12)),
)
def test_any_number_of_workers_comes_to_the_same_bytes_and_loses_nothing(
    base: tuple[Path, str], seed: int, profile: str, most: int
) -> None:
    root, commit = base
    tasks = make_set(random.Random(seed), most=most, profile=profile)
    rans = [
        asyncio.run(
            run_set(root, commit, tasks, at_once=at_once, rng=random.Random(seed), name=f"{seed}-{most}-{at_once}")
        )
        for at_once in (1, 4, 8)
        if at_once < 8 or len(tasks.order) > 4  # so many never are at work
    ]
    for ran in rans:
        assert (ran.lost, ran.unreported) == ([], [])
        assert profile == "conflicting" or not ran.conflicts
    if not rans[0].conflicts:
        assert [(ran.tree, ran.conflicts) for ran in rans] == [(rans[0].tree, {})] * len(rans)


def _by_plain_git(root: Path, commit: str, tasks: TaskSet) -> str | None:
    """The tree that git comes to if a person merges one branch after the other; None where it meets a conflict."""
    above: dict[str, list[str]] = {}

    def merge(branch: str) -> bool:
        settings = ("-c", "merge.directoryRenames=false", "-c", "merge.renameLimit=1000")
        git(root, *settings, "merge", "--quiet", "--no-ff", "--no-edit", branch, check=False)
        return not git(root, "status", "--porcelain", "--untracked-files=no")

    for task in tasks.order:
        needs = {each for need in tasks.needs[task] for each in (need, *above[need])}
        above[task] = [each for each in tasks.order if each in needs]
        git(root, "checkout", "--quiet", "-B", f"work-{task}", commit)
        if not all(merge(f"work-{need}") for need in above[task]):
            return None
        apply(root, tasks.actions[task], set())
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--allow-empty", f"--message={task}")
    git(root, "checkout", "--quiet", "-B", "all", commit)
    if not all(merge(f"work-{task}") for task in tasks.order):
        return None
    return git(root, "rev-parse", "HEAD^{tree}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_the_result_is_what_plain_git_comes_to(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    tasks = make_set(rng, most=7, profile=PROFILES[seed % 3])
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    commit = make_repository(tmp_path / "ours")
    ran = asyncio.run(run_set(tmp_path / "ours", commit, tasks, at_once=4, rng=rng, name="run"))
    theirs = _by_plain_git(tmp_path / "theirs", make_repository(tmp_path / "theirs"), tasks)
    if theirs is None:
        assert ran.conflicts
    else:
        assert (ran.tree, ran.conflicts) == (theirs, {})


def test_a_rename_takes_the_edits_of_others_along(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    mover, editor = agent("mover"), agent("editor")

    async def work() -> Mapping[str, str]:
        trees = places(root, mover, editor)
        one, two = await trees.open(mover), await trees.open(editor)
        (one / "a.txt").rename(one / "moved.txt")
        (two / "a.txt").write_text(TEXT.replace("line 3\n", "line three\n"))
        for task in (editor, mover):
            taken = await trees.take(task)
            assert taken
            assert not taken.conflicts
        await trees.close()
        await trees.apply()
        return {path.name: path.read_text() for path in root.glob("*.txt")}

    assert play(work()) == {"moved.txt": TEXT.replace("line 3\n", "line three\n")}


def test_what_others_add_can_not_undo_a_merge_that_was_made(tmp_path: Path) -> None:
    """A copy of a file that one task moved and another edited: git may take either for where the file went."""
    root = repository(tmp_path / "r")
    mover, copier, editor = agent("mover"), agent("copier"), agent("editor")

    async def work(*order: Task) -> None:
        trees = places(root, mover, copier, editor, run_id="-".join(task.id for task in order))
        one, two, three = [await trees.open(task) for task in (mover, copier, editor)]
        (one / "a.txt").unlink()
        (one / "moved.txt").write_text(TEXT.replace("line 1", "row 1").replace("line 20", "row 20"))
        (two / "copy.txt").write_text(TEXT.replace("line 3\n", "line iii\n"))
        (three / "a.txt").write_text(TEXT.replace("line 3\n", "line three\n"))
        for task in order:
            await trees.take(task)
        await trees.close()
        merged = await trees.result()
        assert merged
        kept = {each.task for each in merged.kept}
        assert kept | set(merged.tasks) == {"mover", "copier", "editor"}
        said = "".join(files_of(root, merged.commit).values()) + "".join(
            "".join(files_of(root, each.branch).values()) for each in merged.kept
        )
        assert all(word in said for word in ("row 20", "line iii", "line three"))

    for order in itertools.permutations((mover, copier, editor)):
        play(work(*order))


def test_an_edit_that_went_along_with_a_rename_stays_when_others_come_after(tmp_path: Path) -> None:
    """In its own place the edit meets another; after all it goes to where the file was moved and the other undone."""
    root = repository(tmp_path / "r")
    first, editor, other = agent("first"), agent("editor"), agent("other")
    mover = agent("mover", needs=("first",))

    async def work() -> str:
        trees = places(root, first, editor, other, mover)
        one, two, three = [await trees.open(task) for task in (first, editor, other)]
        (one / "a.txt").write_text(TEXT.replace("line 3\n", "line iii\n"))
        (two / "a.txt").write_text(TEXT.replace("line 3\n", "line three\n"))
        (three / "src/b.txt").write_text("other\n" + TEXT)
        await trees.take(first)
        four = await trees.open(mover)
        (four / "a.txt").unlink()
        (four / "moved.txt").write_text(TEXT)
        for task in (mover, editor, other):
            taken = await trees.take(task)
            assert taken
            assert not taken.conflicts
        await trees.close()
        await trees.apply()
        return (root / "moved.txt").read_text()

    assert play(work()) == TEXT.replace("line 3\n", "line three\n")


@pytest.mark.parametrize("order", list(itertools.permutations(("deleter", "mover", "editor"))))
def test_a_deletion_and_a_rename_of_the_same_file_conflict_whoever_is_first(
    tmp_path: Path, order: Sequence[str]
) -> None:
    root = repository(tmp_path / "r")
    tasks = {name: agent(name) for name in ("mover", "deleter", "editor")}

    async def work() -> bool:
        trees = places(root, *tasks.values())
        folders = {name: await trees.open(task) for name, task in tasks.items()}
        (folders["mover"] / "a.txt").rename(folders["mover"] / "moved.txt")
        (folders["deleter"] / "a.txt").unlink()
        (folders["editor"] / "a.txt").write_text(TEXT.replace("line 3\n", "line three\n"))
        met = [bool(taken.conflicts) for name in order if (taken := await trees.take(tasks[name]))]
        await trees.close()
        return any(met)

    assert play(work())


def test_what_is_handed_back_lacks_nothing_of_the_current_side(tmp_path: Path) -> None:
    """Where both can't stand at one path, the current one stays there, and who leaves it so takes nothing away."""
    texts = {name: TEXT.replace("line", name) for name in ("a", "b", "c", "d", "own")}  # none is like another
    root = repository(tmp_path / "r", {f"{name}.txt": text for name, text in texts.items()})
    one, two = agent("one"), agent("two")

    async def work() -> None:
        trees = places(root, one, two)
        ours, theirs = await trees.open(one), await trees.open(two)
        (ours / "new").write_text("a file\n")
        (ours / "kind").write_text("a text\n")
        (ours / "a.txt").write_text("edited\n" + texts["a"])
        (ours / "b.txt").rename(ours / "moved.txt")
        (ours / "c.txt").write_text(texts["c"].replace("c 3\n", "c three\n"))
        (ours / "d.txt").unlink()
        (ours / "d.txt").mkdir()
        (ours / "d.txt/inside").write_text("in a folder\n")
        (ours / "new~yours").write_text("a name that is taken\n")
        await trees.take(one)
        (theirs / "new").mkdir()
        (theirs / "new/inside").write_text("in a folder\n")
        (theirs / "kind").symlink_to("a.txt")
        (theirs / "a.txt").unlink()
        (theirs / "a.txt").mkdir()
        (theirs / "a.txt/inside").write_text("in another folder\n")
        (theirs / "b.txt").rename(theirs / "elsewhere.txt")
        (theirs / "c.txt").write_text(texts["c"].replace("c 3\n", "c iii\n"))
        (theirs / "d.txt").write_text(texts["d"] + "last\n")
        (theirs / "own.txt").unlink()
        (theirs / "own.txt").mkdir()
        (theirs / "own.txt/inside").write_text("nobody else's\n")
        taken = await trees.take(two)
        assert taken
        beside = ("a.txt~yours", "d.txt~yours", "kind~yours", "new~yours-2")
        moved = ("elsewhere.txt", "moved.txt", "b.txt")
        assert set(taken.conflicts) == {"a.txt", "c.txt", "d.txt", "kind", "new", *beside, *moved}
        assert all(f"yours is {path}." in taken.advice for path in ("a.txt~yours", "kind~yours", "new~yours-2"))
        assert "~current" not in taken.advice
        assert "own.txt" not in taken.advice
        assert not list(theirs.glob("*~current"))
        (theirs / "c.txt").write_text(texts["c"].replace("c 3\n", "c three and iii\n"))
        again = await trees.take(two)
        assert again
        assert not again.conflicts
        await trees.close()
        await trees.apply()

    play(work())
    assert (root / "new").read_text() == "a file\n"
    assert (root / "new~yours").read_text() == "a name that is taken\n"
    assert (root / "new~yours-2/inside").read_text() == "in a folder\n"
    assert (root / "kind").read_text() == "a text\n"
    assert (root / "kind~yours").readlink() == Path("a.txt")
    assert (root / "a.txt").read_text() == "edited\n" + texts["a"]
    assert (root / "a.txt~yours/inside").read_text() == "in another folder\n"
    assert (root / "moved.txt").read_text() == (root / "elsewhere.txt").read_text() == texts["b"]
    assert (root / "c.txt").read_text() == texts["c"].replace("c 3\n", "c three and iii\n")
    assert (root / "d.txt/inside").read_text() == "in a folder\n"
    assert (root / "d.txt~yours").read_text() == texts["d"] + "last\n"
    assert (root / "own.txt/inside").read_text() == "nobody else's\n"


def test_an_older_git_takes_every_meeting_for_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path / "r")
    real = next(f"{folder}/git" for folder in os.environ["PATH"].split(":") if os.access(f"{folder}/git", os.X_OK))
    older = tmp_path / "bin" / "git"
    older.parent.mkdir()
    older.write_text(f'#!/bin/sh\ncase "$*" in *merge-tree*) exit 129;; esac\nexec {real} "$@"\n')
    older.chmod(0o755)
    monkeypatch.setenv("PATH", f"{older.parent}:{os.environ['PATH']}")
    one, two = agent("one"), agent("two")

    async def work() -> None:
        trees = places(root, one, two)
        ours, theirs = await trees.open(one), await trees.open(two)
        (ours / "a.txt").write_text("first\n" + TEXT)
        (theirs / "a.txt").write_text(TEXT + "last\n")
        (theirs / "new.txt").write_text("new\n")
        await trees.take(one)
        taken = await trees.take(two)
        assert taken
        assert taken.conflicts == ("a.txt",)
        assert "git 2.38" in taken.advice
        assert (theirs / "a.txt").read_text() == "first\n" + TEXT
        (theirs / "a.txt").write_text("first\n" + TEXT + "last\n")
        again = await trees.take(two)
        assert again
        assert again.files == ("a.txt", "new.txt")
        assert not again.conflicts
        await trees.close()

    play(work())


def test_the_benchmark_counts_what_it_ran() -> None:
    result = measure(sets=1)
    assert (result["sets"], result["runs"], result["differing"], result["lost"]) == (1, 3, 0, 0)
