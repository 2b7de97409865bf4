"""The cache with real files: what is unchanged isn't run and looks as if it had; what may have changed is run."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from maos_bot.events import OutputChunk, RunStarted, TaskFinished, TaskStarted
from maos_bot.execution.cache import FOLDER, TaskCache
from maos_bot.execution.past import past_of
from maos_bot.model import Task, TaskState
from maos_bot.reporting.report import report_of
from tests.integration.running import Ran, command
from tests.integration.running import run as run_tasks

S = TaskState
SUM = "cat in.txt > out.txt; echo summed"


def run(root: Path, *tasks: Task, max_bytes: int = 2**30, **options: Any) -> Ran:
    cache = TaskCache(root, run_id="20261126-080000-4f2a9c", max_bytes=max_bytes)
    return run_tasks(root, *tasks, cache=cache, **options)


def summing(**values: Any) -> Task:
    return command("sum", SUM, **{"inputs": ("in.txt",), "outputs": ("out.txt",), **values})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("one\n")
    return tmp_path


def test_what_is_unchanged_is_not_run_and_looks_as_if_it_had(root: Path) -> None:
    first = run(root, summing())
    assert first.states() == {"sum": S.SUCCEEDED}
    (root / "out.txt").unlink()
    again = run(root, summing())
    end = again.end("sum")
    assert (end.state, end.attempt, end.reason) == (S.CACHED, 0, "unchanged since run 20261126-080000-4f2a9c")
    assert end.saved_s == first.end("sum").duration_s
    assert end.result == first.end("sum").result
    assert not again.of(TaskStarted)
    assert (root / "out.txt").read_text() == "one\n"
    assert [(chunk.attempt, chunk.text) for chunk in again.of(OutputChunk)] == [(0, "summed\n")]
    assert (again.finished.status, again.finished.exit_code) == ("succeeded", 0)
    report = report_of(again.events)
    task = report.tasks["sum"]
    assert (task.attempts, task.ran, task.saved_s, report.saved_s) == (0, False, end.saved_s, end.saved_s)
    assert task.log is not None
    assert task.log.text == "summed\n"


@pytest.mark.parametrize(
    "change",
    [
        {"run": SUM + " "},
        {"shell": "bash"},
        {"env": {"LEVEL": "2"}},
        {"outputs": ("out.txt", "in.txt")},
        {"inputs": ("in.txt", "other.txt")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_spec_says_is_part_of_the_key(root: Path, change: dict[str, Any]) -> None:
    run(root, summing())
    script = change.pop("run", SUM)
    assert run(root, summing()).states() == {"sum": S.CACHED}
    assert run(root, command("sum", script, **{"inputs": ("in.txt",), "outputs": ("out.txt",), **change})).states() == {
        "sum": S.SUCCEEDED
    }


def test_changed_inputs_run_again_and_the_old_ones_are_remembered(root: Path) -> None:
    run(root, summing())
    (root / "in.txt").write_text("two\n")
    assert run(root, summing()).states() == {"sum": S.SUCCEEDED}
    (root / "in.txt").chmod(0o755)
    assert run(root, summing()).states() == {"sum": S.SUCCEEDED}
    (root / "in.txt").chmod(0o644)
    (root / "in.txt").write_text("one\n")
    assert run(root, summing()).states() == {"sum": S.CACHED}
    assert (root / "out.txt").read_text() == "one\n"


def test_a_variable_handed_on_counts_with_its_value(root: Path) -> None:
    task = summing(env={"TOKEN": "${MY_TOKEN}"})
    first, second = ({**os.environ, "MY_TOKEN": value} for value in ("a-secret-1", "a-secret-2"))
    run(root, task, environ=first)
    assert run(root, task, environ=first).states() == {"sum": S.CACHED}
    assert run(root, task, environ=second).states() == {"sum": S.SUCCEEDED}
    assert not any(b"a-secret" in path.read_bytes() for path in (root / FOLDER).rglob("*") if path.is_file())


def test_another_version_of_a_program_runs_again(root: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "shout"

    def version(text: str) -> None:
        tool.write_text(f"#!/bin/sh\necho {text}\n")
        tool.chmod(0o755)

    environ = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    task = command("it", "true; shout > out.txt", inputs=("in.txt",), outputs=("out.txt",))
    version("one")
    run(root, task, environ=environ)
    assert run(root, task, environ=environ).states() == {"it": S.CACHED}
    version("two")
    assert run(root, task, environ=environ).states() == {"it": S.SUCCEEDED}
    assert (root / "out.txt").read_text() == "two\n"


@pytest.mark.parametrize(
    "task",
    [
        command("it", "echo x >> ran"),
        command("it", "echo x >> ran", inputs=("in.txt",), cache=False),
        command("it", "echo x >> ran; false", inputs=("in.txt",), continue_on_error=True),
    ],
    ids=["no inputs", "cache: false", "failed"],
)
def test_what_is_never_cached(root: Path, task: Task) -> None:
    for count in (1, 2):
        run(root, task)
        assert (root / "ran").read_text() == "x\n" * count


def test_a_task_without_inputs_is_cached_where_it_says_so(root: Path) -> None:
    task = command("it", "echo x >> ran", cache=True)
    assert run(root, task).states() == {"it": S.SUCCEEDED}
    assert run(root, task).states() == {"it": S.CACHED}


def test_a_task_that_rewrites_its_inputs_is_not_kept(root: Path) -> None:
    task = command("it", "echo more >> in.txt", inputs=("*.txt",))
    for _ in range(2):
        end = run(root, task).end("it")
        assert (end.state, end.reason) == (S.SUCCEEDED, "not kept for next time: its inputs changed while it ran")
    settled = command("sorts", "sort -o in.txt in.txt", inputs=("*.txt",))
    assert run(root, settled).end("sorts").state is S.SUCCEEDED
    run(root, settled)
    assert run(root, settled).states() == {"sorts": S.CACHED}


def test_a_missing_output_is_said_and_not_kept(root: Path) -> None:
    task = command("it", "touch made", inputs=("in.txt",), outputs=("made", "dist/**"))
    for _ in range(2):
        end = run(root, task).end("it")
        assert (end.state, end.reason) == (S.SUCCEEDED, "not kept for next time: its output dist/** was not made")


def tree(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """All there is below a folder: kind, mode, content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()).encode())
        elif path.is_dir():
            found[name] = ("dir", path.stat().st_mode & 0o777, b"")
        else:
            found[name] = ("file", path.stat().st_mode & 0o777, path.read_bytes())
    return found


def test_outputs_come_back_to_the_byte(root: Path) -> None:
    script = (
        "rm -rf dist; mkdir -p dist/deep/empty; head -c 100000 /dev/urandom > dist/blob; : > dist/nothing;"
        " cat in.txt > dist/deep/run; chmod 750 dist/deep/run; chmod 400 dist/blob; ln -s deep/run dist/link;"
        " ln -s /nowhere dist/dangling; printf x > 'dist/with space and é'; chmod 711 dist/deep"
    )
    task = command("it", script, inputs=("in.txt",), outputs=("dist/**",))
    run(root, task)
    before = tree(root / "dist")
    assert len(before) == 8
    shutil.rmtree(root / "dist")
    assert run(root, task).states() == {"it": S.CACHED}
    assert tree(root / "dist") == before
    (root / "dist/deep/run").chmod(0o644)
    (root / "dist/link").unlink()
    (root / "dist/link").write_text("now a file")
    (root / "dist/blob").unlink()
    (root / "dist/blob").symlink_to("/etc/passwd")
    (root / "dist/mine").write_text("not made by the task")
    assert run(root, task).states() == {"it": S.CACHED}
    assert (root / "dist/mine").exists()
    (root / "dist/mine").unlink()
    assert tree(root / "dist") == before


def test_what_an_earlier_run_made_and_this_result_lacks_is_removed(root: Path) -> None:
    task = command("it", "rm -rf dist; mkdir dist; touch dist/$(cat in.txt)", inputs=("in.txt",), outputs=("dist/*",))
    run(root, task)
    (root / "in.txt").write_text("two")
    run(root, task)
    (root / "in.txt").write_text("one\n")
    assert run(root, task).states() == {"it": S.CACHED}
    assert list(tree(root / "dist")) == ["one"]


def test_files_that_are_right_are_left_alone(root: Path) -> None:
    run(root, summing())
    before = (root / "out.txt").stat()
    run(root, summing())
    after = (root / "out.txt").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_nothing_is_written_through_a_link(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    task = command(
        "it", "test -L dist && exit 0; mkdir -p dist; echo x > dist/a", inputs=("in.txt",), outputs=("dist/a",)
    )
    run(root, task)
    shutil.rmtree(root / "dist")
    (root / "dist").symlink_to(outside)
    ran = run(root, task)
    assert ran.end("it").state is S.SUCCEEDED  # the command has seen to it
    assert not list(outside.iterdir())


def test_inputs_behind_links_count(root: Path, tmp_path: Path) -> None:
    (root / "real").mkdir()
    (root / "real/a").write_text("1")
    (root / "linked").symlink_to("real")
    (root / "real/loop").symlink_to("..")
    (root / "single").symlink_to("in.txt")
    task = command("it", "true; echo", inputs=("linked/**", "single"))
    run(root, task)
    assert run(root, task).states() == {"it": S.CACHED}
    (root / "real/a").write_text("2")
    assert run(root, task).states() == {"it": S.SUCCEEDED}
    (root / "in.txt").write_text("other")
    assert run(root, task).states() == {"it": S.SUCCEEDED}


def chain(**values: Any) -> list[Task]:
    return [
        command("first", "cat in.txt | tr -d ' ' > mid.txt", inputs=("in.txt",), outputs=("mid.txt",)),
        command("second", "cat mid.txt > end.txt", needs=("first",), inputs=("mid.txt",), outputs=("end.txt",)),
        command("check", "test -s end.txt", needs=("second",), inputs=("end.txt",), **values),
    ]


def test_a_change_that_makes_no_difference_stops_there(root: Path) -> None:
    run(root, *chain())
    (root / "in.txt").write_text("o n e\n")
    assert run(root, *chain()).states() == {"first": S.SUCCEEDED, "second": S.CACHED, "check": S.CACHED}
    (root / "in.txt").write_text("two\n")
    assert set(run(root, *chain()).states().values()) == {S.SUCCEEDED}
    assert set(run(root, *chain()).states().values()) == {S.CACHED}


def test_what_a_need_came_to_counts_without_outputs_too(root: Path) -> None:
    (root / "other.txt").write_text("1")
    tasks = [
        command("need", "true; :", inputs=("other.txt",)),
        command("it", "true; :", needs=("need",), inputs=("in.txt",)),
    ]
    run(root, *tasks)
    assert set(run(root, *tasks).states().values()) == {S.CACHED}
    (root / "other.txt").write_text("2")
    assert set(run(root, *tasks).states().values()) == {S.SUCCEEDED}


def test_a_need_of_which_nothing_is_known_keeps_a_task_from_the_cache(root: Path) -> None:
    tasks = [command("need", "true; :"), summing(needs=("need",))]
    for _ in range(2):
        end = run(root, *tasks).end("sum")
        assert end.state is S.SUCCEEDED
        assert "what its need need came to isn't known" in end.reason
    told = [command("need", "echo 1 > made", outputs=("made",)), summing(needs=("need",))]
    run(root, *told)
    assert run(root, *told).states() == {"need": S.SUCCEEDED, "sum": S.CACHED}


def test_a_resumed_run_knows_what_its_first_half_came_to(root: Path) -> None:
    tasks = chain()
    whole = run(root, *tasks)
    cut = next(i for i, e in enumerate(whole.events) if isinstance(e, TaskFinished) and e.task == "first") + 1
    past = past_of(whole.events[:cut])
    assert isinstance(past.started, RunStarted)
    resumed = run(root, *tasks, past=past)
    assert resumed.states() == {"second": S.CACHED, "check": S.CACHED}


def files_of(root: Path, part: str) -> list[Path]:
    return [path for path in (root / FOLDER / part).rglob("*") if path.is_file()]


@pytest.mark.parametrize("part", ["entries", "blobs", "digests"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer", "gone"])
def test_damage_of_any_kind_is_noticed_and_made_good(root: Path, part: str, damage: str) -> None:
    os.utime(root / "in.txt", (1, 1))
    run(root, summing())
    (path,) = files_of(root, part) if part != "digests" else [root / FOLDER / "digests"]
    data = path.read_bytes()
    rng = random.Random(f"{part} {damage}")
    for _ in range(12 if damage in {"flip", "cut"} else 1):
        if damage == "flip":
            place = rng.randrange(len(data))
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :])
        elif damage == "cut":
            path.write_bytes(data[: rng.randrange(len(data))])
        elif damage == "gone":
            path.unlink()
        else:
            path.write_bytes(b"" if damage == "empty" else data + b"x")
        (root / "out.txt").unlink()
        ran = run(root, summing())
        assert ran.states() == {"sum": S.CACHED if part == "digests" else S.SUCCEEDED}
        assert (root / "out.txt").read_text() == "one\n"
        (root / "out.txt").unlink()
        assert run(root, summing()).states() == {"sum": S.CACHED}
        assert (root / "out.txt").read_text() == "one\n"
        (path,) = files_of(root, part) if part != "digests" else [root / FOLDER / "digests"]
        data = path.read_bytes()


def test_a_cache_that_cannot_be_written_costs_a_word(root: Path) -> None:
    (root / ".maos").mkdir()
    (root / ".maos/cache").write_text("a file where the folder should be")
    ran = run(root, summing())
    assert ran.end("sum").state is S.SUCCEEDED
    assert ran.end("sum").reason.startswith("not kept for next time: ")
    assert ran.finished.exit_code == 0


def test_outputs_larger_than_the_cache_are_not_kept(root: Path) -> None:
    end = run(root, command("it", "head -c 5000 /dev/zero > big", inputs=("in.txt",), outputs=("big",)), max_bytes=4000)
    assert end.end("it").reason == "not kept for next time: its outputs are larger than the cache may be"


def test_what_was_used_longest_ago_goes_first(root: Path) -> None:
    for number in range(4):
        task = command(
            f"t{number}", f"head -c 3000 /dev/urandom > big{number}", inputs=("in.txt",), outputs=(f"big{number}",)
        )
        run(root, task)
        for path in files_of(root, "entries"):
            os.utime(path, (path.stat().st_mtime - 100,) * 2)
    store = TaskCache(root, run_id="x", max_bytes=1).store
    removed = store.prune(8500, grace_s=0)
    assert removed is not None
    assert (removed.entries, removed.blobs, removed.left_entries) == (2, 2, 2)
    assert removed.left_bytes == store.size() <= 8500
    assert {found.entry.task for found in store.all()} == {"t2", "t3"}
    assert store.verify() == []


def test_cancelling_while_the_cache_is_asked_leaves_nothing_begun(root: Path) -> None:
    ran = run(root, summing(), during=lambda orchestrator: orchestrator.cancel("stopped"))
    assert ran.end("sum").attempt == 0
    assert ran.end("sum").state is S.CANCELLED


def test_several_runs_at_once_share_one_cache(root: Path) -> None:
    """Four threads with a cache each keep, restore, prune and verify the same few results over and over."""
    from maos_bot.execution.cache_store import CacheStore, CorruptError, Entry, Output
    from maos_bot.execution.digests import Digests

    folder = root / FOLDER
    contents = [bytes([n]) * 20_000 for n in range(6)]
    for number, content in enumerate(contents):
        (root / f"f{number}").write_bytes(content)
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        store = CacheStore(folder)
        for _ in range(150):
            number = rng.randrange(len(contents))
            path = str(root / f"f{number}")
            digest = Digests().of(path)
            entry = Entry(
                key=f"{number:064x}",
                task="t",
                run_id="r",
                made_at=0.0,
                duration_s=1.0,
                outputs=(Output("out", "file", 0o644, len(contents[number]), digest),),
            )
            try:
                if rng.random() < 0.1:
                    store.prune(rng.choice([0, 50_000]), grace_s=rng.choice([0.0, 60.0]))
                found = store.entry("t", entry.key)
                if found is None:
                    store.put(path, digest, len(contents[number]))
                    store.add(entry)
                    continue
                name = store.take(digest, 0o600)
                if Path(name).read_bytes() != contents[number]:
                    wrong.append("another content")
                Path(name).unlink()
            except CorruptError as error:
                if "damaged" in str(error):
                    wrong.append(str(error))
            except FileNotFoundError:  # pruned under it, temporary files without grace among them: a miss
                pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_attempts_of_the_same_content_say_so_whether_they_pass_or_not(root: Path) -> None:
    """What a flaky task is told by: a failed attempt carries its key too."""
    unsteady = "test -e seen || { touch seen; exit 1; }"
    first = run(root, command("unsteady", unsteady, inputs=("in.txt",), max_attempts=2, retry_delay_s=0.0))
    ends = first.of(TaskFinished)
    assert [end.state for end in ends] == [S.FAILED, S.SUCCEEDED]
    assert len({end.key for end in ends}) == 1
    assert ends[0].key
    (root / "in.txt").write_text("two\n")
    other = run(root, command("unsteady", unsteady, inputs=("in.txt",), max_attempts=2, retry_delay_s=0.0))
    assert other.end("unsteady").key not in {"", ends[0].key}
    assert not run(root, command("plain", "true")).end("plain").key
