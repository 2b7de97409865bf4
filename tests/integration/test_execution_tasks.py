"""What a task does is what a shell would do: exit codes, output, environment, folders, shells."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

import pytest

from maos_bot.events import OutputChunk, RunStarted
from maos_bot.execution.shell import plain_command
from maos_bot.model import TaskState
from tests.integration.running import command, lives, run

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("true", 0, ""),
        ("false", 1, "exit code 1"),
        ("exit 3", 3, "exit code 3"),
        ("no-such-program --flag", 127, "exit code 127: command not found"),
        ("./not-executable", 126, "exit code 126: not executable"),
        ("./no-shebang", 5, "exit code 5"),
        ("kill -USR1 $$", 138, "killed by SIGUSR1"),
        ("false\ntrue", 1, "exit code 1"),
        ("false | true", 0, ""),
    ],
)
def test_a_script_ends_as_it_would_in_a_shell(tmp_path: Path, script: str, code: int, reason: str) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    (tmp_path / "no-shebang").write_text("exit 5\n")
    (tmp_path / "no-shebang").chmod(0o755)
    ran = run(tmp_path, command("it", script))
    end = ran.end("it")
    assert (end.exit_code, end.reason) == (code, reason)
    assert end.state is (TaskState.SUCCEEDED if code == 0 else TaskState.FAILED)
    assert ran.finished.exit_code == (1 if code else 0)
    assert end.cpu_s is not None
    assert 0 < end.duration_s < ran.wall_s


def test_a_plain_command_and_the_same_in_a_shell_print_the_same(tmp_path: Path) -> None:
    (tmp_path / "sub dir").mkdir()
    plain = "env -u _ -u SHLVL -u MAOS_TASK -u PS1"  # of these each shell has its own
    assert plain_command(plain, "")
    assert not plain_command(f"{plain};", "")
    ran = run(tmp_path, *(command(name, script) for name, script in (("direct", plain), ("shell", f"{plain};"))))
    assert sorted(ran.output("direct").splitlines()) == sorted(ran.output("shell").splitlines())
    assert f"PWD={tmp_path}\n" in ran.output("direct")


@pytest.mark.parametrize(
    "script",
    [
        *("a=1 env", "echo hi", "cd /", "ls *", "ls ~", "a|b", "a&&b", "a\nb", "a 'b'", "$x", "a # b", "time ls"),
        *("{ a", ". x", "true --help", "%1", "[ a ]", "é", ""),
    ],
)
def test_whatever_a_shell_would_treat_specially_goes_to_the_shell(script: str) -> None:
    assert plain_command(script, "") is None


def test_start_up_files_and_exported_functions_are_honoured(tmp_path: Path) -> None:
    (tmp_path / "start").write_text("echo started\n")
    environ = {"PATH": os.environ["PATH"], "BASH_FUNC_true%%": "() { echo mine; }"}
    ran = run(
        tmp_path,
        command("file", "true", env={"BASH_ENV": str(tmp_path / "start")}, shell="bash"),
        command("function", "true"),
        environ=environ,
    )
    assert ran.output("file") == "started\nmine\n"
    assert ran.output("function") == "mine\n"


def test_shells_behave_as_in_github_actions(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        command("bash", "false | true", shell="bash"),
        command("sh", "false | true", shell="sh"),
        command("python", "import sys\nprint(sys.argv[0].endswith('.py'))\nraise SystemExit(4)", shell="python"),
        command("template", "hello", shell="cat {0}"),
        command("unknown", "x", shell="fish-and-chips"),
        command("long", "x=1\n" + "# " + "y" * 200_000 + "\necho end"),
    )
    assert ran.end("bash").exit_code == 1
    assert ran.end("sh").exit_code == 0
    assert ran.end("python").exit_code == 4
    assert ran.output("python") == "True\n"
    assert ran.output("template") == "hello"
    assert "shell 'fish-and-chips' is unknown" in ran.end("unknown").reason
    assert ran.output("long") == "end\n"
    assert ran.end("unknown").exit_code is None


@pytest.mark.skipif(not shutil.which("pwsh"), reason="PowerShell is not installed here")
def test_powershell_gives_its_exit_code(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", "Write-Output hi; exit 6", shell="pwsh"))
    assert (ran.end("it").exit_code, ran.output("it")) == (6, "hi\n")


def test_output_is_one_stream_in_order_and_arrives_live(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", "echo one; echo two >&2; sleep 0.4; printf 'thr\\303\\251\\377e'"))
    chunks = ran.of(OutputChunk, "it")
    assert [chunk.text for chunk in chunks] == ["one\ntwo\n", "thré\ufffde"]
    assert [chunk.offset for chunk in chunks] == [0, 8]
    assert chunks[1].at - chunks[0].at > 0.2
    assert ran.end("it").output_bytes == 15


def test_a_character_split_over_writes_stays_whole(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", r"for b in '\342' '\202' '\254'; do printf $b; sleep 0.15; done", shell="bash"))
    assert ran.output("it") == "€"


def test_a_task_has_no_terminal_and_no_input(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", "tty || true; read line || echo no input"))
    assert ran.output("it") == "not a tty\nno input\n"


def test_our_secrets_are_not_in_a_task_s_environment(tmp_path: Path) -> None:
    hidden = (
        *("GITHUB_TOKEN", "GH_TOKEN", "INPUT_TOKEN", "INPUT_SPEC", "ACTIONS_RUNTIME_TOKEN", "ANTHROPIC_API_KEY"),
        *("ACTIONS_ID_TOKEN_REQUEST_URL", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MY_PAT", "SIGNING_PRIVATE_KEY"),
        *("GOOGLE_CREDENTIALS", "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE"),
    )
    shown = ("PATH", "HOME", "CI", "GITHUB_SHA", "GITHUB_WORKSPACE", "TOKENIZERS_PARALLELISM", "GPG_KEY", "PATTERN")
    environ = {**dict.fromkeys(hidden, SECRET), **dict.fromkeys(shown, "/usr/bin:/bin")}
    ran = run(
        tmp_path,
        command("none", "env"),
        command("asked", "env", env={"NPM_TOKEN": "${GH_TOKEN}", "GITHUB_TOKEN": "literal", "MISSING": "${NOPE}"}),
        environ=environ,
    )
    names = {line.partition("=")[0] for line in ran.output("none").splitlines()}
    assert names.isdisjoint(hidden)
    assert names >= {*shown, "MAOS_RUN_ID", "MAOS_TASK", "MAOS_ATTEMPT"}
    assert f"NPM_TOKEN={SECRET}\n" in ran.output("asked")
    assert "GITHUB_TOKEN=literal\n" in ran.output("asked")
    assert "MISSING=\n" in ran.output("asked")


def test_known_secrets_leave_in_no_event(tmp_path: Path) -> None:
    script = f"printf {SECRET[:9]}; sleep 0.3; printf '{SECRET[9:]}\\n'; echo {SECRET} | base64"
    ran = run(tmp_path, command("it", script), secrets=(SECRET,))
    assert ran.output("it") == "***\n***Cg==\n"  # the end of its line, encoded
    assert SECRET not in repr(ran.events)
    (started,) = ran.of(RunStarted)
    assert "echo *** | base64" in started.tasks[0].command


def test_a_working_directory_is_below_the_root_and_there(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub dir").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    ran = run(
        root,
        command("sub", "pwd; echo $PWD", working_directory="sub dir"),
        command("direct", "pwd", working_directory="sub dir", shell="bash"),
        command("missing", "pwd", working_directory="nope"),
        command("above", "pwd", working_directory=".."),
        command("around", "pwd", working_directory="link"),
        command("default", "pwd"),
    )
    assert ran.output("sub") == f"{root}/sub dir\n" * 2
    assert ran.output("default") == f"{root}\n"
    assert ran.end("missing").reason == "working-directory 'nope' is not a folder"
    assert ran.end("above").reason == "working-directory '..' leads out of the repository"
    assert ran.end("around").state is TaskState.FAILED


def test_a_task_starts_the_same_from_our_folder_and_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "look.py").write_text(
        "import os, signal\n"
        "print(os.getsid(0) == os.getpid(), sorted(os.listdir('/proc/self/fd')), os.readlink('/proc/self/fd/0'))\n"
        "status = open('/proc/self/status').read().split()\n"
        "own = ~(3 << 31)\n"  # the C library's own two signals, which it may ignore for a moment and longer
        "print([int(status[status.index(name) + 1], 16) & own for name in ('SigBlk:', 'SigIgn:')])\n"
    )
    tasks = [command(name, f"{sys.executable} -S look.py") for name in ("a", "b")]
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        monkeypatch.chdir(tmp_path)
        here = run(tmp_path, *tasks).output("a")
        monkeypatch.chdir("/")
        there = run(tmp_path, *tasks).output("a")
    finally:
        os.close(inherited)
    assert here == there
    assert here.startswith("True ['0', '1', '2', '3'] /dev/null")


def test_peak_memory_is_the_task_s_own_or_unknown(tmp_path: Path) -> None:
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB: below that a peak can't be told from ours
    size = ours + 100
    eater = f"{sys.executable} -S -c 'x = bytearray({size} * 2**20)'"
    ran = run(tmp_path, command("small", "true"), command("large", eater))
    assert ran.end("small").peak_memory_mb is None
    peak = ran.end("large").peak_memory_mb
    assert peak is not None
    assert size < peak < size + 40


def test_nothing_of_a_finished_run_is_left(tmp_path: Path) -> None:
    folder = Path("/proc/self/fd")
    before = sorted(folder.iterdir())
    ran = run(tmp_path, *(command(f"t{number}", "echo hi") for number in range(20)))
    assert sorted(folder.iterdir()) == before
    assert not any(lives(ran.pid(f"t{number}")) for number in range(20))
