"""The `maos` command line: thin click commands over `maos_bot.app`.

Imports of the engine, the store and the dashboard stand inside the commands, so that `maos --help` and
`maos validate` start in a fraction of a second.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from maos_bot._version import __version__
from maos_bot.errors import ExitCode, InterruptedRunError, MaosError

F = TypeVar("F", bound=Callable[..., Any])

_MODES = click.Choice(["sequential", "parallel", "pipelined", "hybrid"])
_STRATEGIES = click.Choice(["conservative", "balanced", "aggressive"])


def main() -> None:
    """Run the command line and exit with the documented code; only a bug of ours shows a traceback."""
    try:
        code = maos.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = ExitCode.CONFIG
    except InterruptedRunError as error:
        click.echo(f"maos: {error}", err=True)
        code = error.exit_code
    except MaosError as error:
        click.echo(f"maos: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:  # `maos history | head`: the reader left, and that is fine
        sys.stderr.close()
        code = ExitCode.OK
    except Exception:  # noqa: BLE001 - the outermost frame: everything unexpected is shown whole and gets its own code
        traceback.print_exc()
        click.echo("maos: this is a bug of ours; please report it with the lines above", err=True)
        code = ExitCode.BUG
    gc.freeze()  # on its way out Python would look through all there is for what could be freed
    sys.exit(code or ExitCode.OK)


def _spec_options(command: F) -> F:
    """The flags that every command which plans has."""
    for option in reversed(
        (
            click.option("--strategy", type=_STRATEGIES, help="How much to pack side by side (default: the spec's)."),
            click.option("--mode", type=_MODES, help="How to carry the plan out (default: the spec's)."),
            click.option("--db", metavar="FILE", help="The database (default: .maos/maos.db in the repository)."),
            click.option("--limit", "limits", multiple=True, metavar="KEY=VALUE", help="Override a limit; repeatable."),
            click.option("--task", "tasks", multiple=True, metavar="ID", help="Only this task and its needs."),
            click.option(
                "--plan-time",
                type=click.FloatRange(min=0),
                metavar="SECONDS",
                help="How long to look for a better plan at most (default: 0.1).",
            ),
            click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output."),
        )
    ):
        command = option(command)
    return command


_db_option = click.option("--db", metavar="FILE", help="The database (default: .maos/maos.db in the repository).")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="maos")
def maos() -> None:
    """Run a repository's task spec: shell commands and agents, as parallel as the machine and the budget allow.

    Exit codes: 0 all succeeded, 1 a task failed, 2 spec or configuration, 3 nothing to do, 4 budget or limit
    exceeded, 5 GitHub API, 70 a bug of ours, 130 interrupted.
    """


@maos.command()
@click.option("--action", metavar="OWNER/NAME@REF", help="Where the action lives, for the workflow's last line.")
def init(action: str | None) -> None:
    """Write a starter .maos.yml and workflow, fitted to what this repository holds."""
    from maos_bot.config import find_root
    from maos_bot.spec.begin import begin

    begin(find_root(Path.cwd()), action=action, tell=lambda line: click.echo(line, err=True))


@maos.command()
@click.argument("spec", required=False)
@click.option("--json", "as_json", is_flag=True, help="The problems as a JSON object.")
def validate(spec: str | None, as_json: bool) -> int:
    """Show every error in SPEC at once, each as path:line:column."""
    from maos_bot.config import find_spec
    from maos_bot.errors import SpecError
    from maos_bot.spec.load import load_spec

    path = Path(spec) if spec else find_spec(Path.cwd())
    try:
        loaded = load_spec(path)
    except SpecError as error:
        if as_json:
            _print_json({"valid": False, "problems": [_problem_row(problem) for problem in error.problems]})
        else:
            click.echo("\n".join(str(problem) for problem in error.problems), err=True)
            count = len(error.problems)
            click.echo(f"{count} problem{'s' if count != 1 else ''}", err=True)
        return ExitCode.CONFIG
    if as_json:
        _print_json({"valid": True, "name": loaded.name, "tasks": [task.id for task in loaded.tasks], "problems": []})
    else:
        count = len(loaded.tasks)
        click.echo(f"{path}: {count:,} {'task' if count == 1 else 'tasks'}, no problems")
    return ExitCode.OK


@maos.command()
@click.argument("spec", required=False)
@_spec_options
@click.option("--mermaid", is_flag=True, help="The task graph as a mermaid diagram.")
@click.option("--optimal", is_flag=True, help="Look for the best plan there is with OR-tools (10 s, or --plan-time).")
@click.option("--goal", metavar="TEXT", help="Have a model turn this goal into tasks first, and show them too.")
def plan(spec: str | None, mermaid: bool, **options: Any) -> int:
    """Show stages, predicted schedule, critical path and price; runs nothing."""
    from maos_bot.job import show_plan

    return show_plan(_config(spec, options), mermaid=mermaid)


@maos.command()
@click.argument("spec", required=False)
@_spec_options
@click.option("--no-cache", is_flag=True, help="Run everything, and keep nothing for next time.")
@click.option("--cache-size", metavar="SIZE", help="What the cache may hold (default: 2G).")
@click.option("--resume", metavar="RUN", help="Go on with a run that died: an id, its unique beginning, or latest.")
@click.option("--events", metavar="FILE", help="Also write every event as NDJSON to FILE.")
@click.option("--apply", is_flag=True, help="Take what agents changed into the working tree, if it fits cleanly.")
@click.option("--approve", is_flag=True, help="Run agents dearer than the spec's budget.approve-above too.")
@click.option("--quiet", "-q", is_flag=True, help="Show failures and the last line only.")
def run(spec: str | None, resume: str | None, **options: Any) -> int:
    """Run the tasks of SPEC here."""
    from maos_bot import app

    return app.run(_config(spec, options), resume=resume)


@maos.command()
def action() -> int:
    """Run as a GitHub action: reads the event, inputs and token from the environment."""
    from maos_bot.action import main as run_action

    return run_action()


@maos.command()
@_db_option
@click.option("--limit", "count", default=20, show_default=True, help="How many runs.")
@click.option("--status", help="Only runs that stand so: succeeded, failed, cancelled, running, lost.")
@click.option("--estimates", is_flag=True, help="How well estimates fitted, over the same runs.")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
def history(db: str | None, count: int, status: str | None, estimates: bool, as_json: bool) -> int:
    """List past runs, newest first."""
    from maos_bot import records

    if estimates:
        return records.estimates(_database(db), count=count, as_json=as_json)
    return records.history(_database(db), count=count, status=status, as_json=as_json)


@maos.command()
@click.argument("run_id", metavar="RUN", default="latest")
@_db_option
@click.option("--task", metavar="ID", help="This task's output, and an agent's conversation.")
@click.option("--spec", is_flag=True, help="The spec it was made from.")
@click.option("--json", "as_json", is_flag=True, help="The object that `maos run --json` printed.")
def show(run_id: str, db: str | None, task: str | None, spec: bool, as_json: bool) -> int:
    """Show one run: tasks, waits, critical path. RUN is an id, its unique beginning, or `latest`."""
    from maos_bot import records

    return records.show(_database(db), run_id, task=task, spec=spec, as_json=as_json)


@maos.command()
@click.argument("run_id", metavar="RUN", default="latest")
@_db_option
@click.option("--format", "kind", type=click.Choice(["json", "csv", "ndjson", "trace"]), default="json")
@click.option("--output", "-o", metavar="FILE", help="Where to (default: standard output).")
def export(run_id: str, db: str | None, kind: str, output: str | None) -> int:
    """Write a run as JSON, CSV, NDJSON events, or a Chrome trace (for Perfetto)."""
    from maos_bot import records

    return records.export(_database(db), run_id, kind=kind, output=Path(output) if output else None)


@maos.command()
@_db_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8400, show_default=True, help="The port; 0 takes a free one.")
@click.option(
    "--ingest",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take uploads too; FILE says from whom (docs/dashboard.md).",
)
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Readers sign in; FILE has a line NAME:HASH for each.",
)
@click.option("--hash-password", metavar="NAME", help="Ask for a password, print its line for that file, and end.")
@click.option("--proxy-header", metavar="HEADER", help="Trust this header of a proxy to name the reader.")
@click.option("--proxy-from", multiple=True, metavar="IP", help="The proxy's address (default: loopback); repeatable.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Answer to this host name too; repeatable.")
def dashboard(db: str | None, host: str, port: int, hash_password: str | None, **options: Any) -> int:
    """Serve the dashboard over the database, to this machine alone unless readers sign in."""
    from web import create_app
    from web.ingest_auth import read_config
    from web.security import LOOPBACK_HOSTS
    from web.serve import serve
    from web.sign_in import SignIn, make_user, proxy_addresses, read_users

    if hash_password is not None:
        click.echo(make_user(hash_password, click.prompt("Password", hide_input=True, err=True)))
        return ExitCode.OK
    ingest, passwords, header = options["ingest"], options["password_file"], options["proxy_header"] or ""
    sign_in = SignIn(
        users=read_users(passwords) if passwords else {},
        proxy_header=header,
        proxies=proxy_addresses(options["proxy_from"]) or frozenset({"127.0.0.1", "::1"}),
    )
    app = create_app(
        _database(db),
        hosts={*LOOPBACK_HOSTS, *options["allow_host"]},
        ingest=read_config(ingest) if ingest else None,
        sign_in=sign_in if passwords or header else None,
    )
    serve(app, host=host, port=port, announce=lambda url: click.echo(f"dashboard: {url}", err=True))
    return ExitCode.OK


@maos.command("demo-data")
@_db_option
@click.option("--runs", default=300, show_default=True, type=click.IntRange(1, 10_000), help="How many runs.")
def demo_data(db: str | None, runs: int) -> int:
    """Fill a database of its own with simulated runs, to see what the dashboard shows (default: .maos/demo.db)."""
    from maos_bot import records

    return records.fill(Path(db) if db else _database(None).with_name("demo.db"), runs=runs)


@maos.command()
@_db_option
@click.option("--keep", metavar="AGE", required=True, help="How long runs are kept, such as 90d, 12w or 36h.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def prune(db: str | None, keep: str, as_json: bool) -> int:
    """Forget runs that started longer ago than AGE, and shrink the database."""
    from maos_bot import records

    return records.prune(_database(db), keep=keep, as_json=as_json)


@maos.command()
@click.argument("repository", metavar="OWNER/REPO")
@_db_option
@click.option("--names", default="maos*", show_default=True, help="Which artifacts, by name.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def sync(repository: str, db: str | None, names: str, as_json: bool) -> int:
    """Merge the runs in the artifacts of OWNER/REPO's workflows into the database; takes GITHUB_TOKEN."""
    import os

    from maos_bot import sync as syncing

    return syncing.sync(_database(db), repository, names=names, environ=os.environ, as_json=as_json)


@maos.command("cache")
@click.argument("action", type=click.Choice(["list", "verify", "prune", "clear"]), default="list")
@click.option("--max-size", metavar="SIZE", help="With prune: what may stay, such as 500M (default: 2G).")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def cache_(action: str, max_size: str | None, as_json: bool) -> int:
    """See to what unchanged tasks are taken from: list, verify, prune or clear."""
    from maos_bot import caching

    return caching.see_to(Path.cwd(), action, max_size=max_size, as_json=as_json)


@maos.command()
def schema() -> None:
    """Print the JSON Schema of a task spec."""
    from maos_bot.spec.schema import json_schema

    _print_json(json_schema())


@maos.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The spec to write (default: .maos.yml).")
def import_(file: Path, output: Path | None) -> int:
    """Turn an original system's state.json FILE into a task spec; never writes over one."""
    from maos_bot.spec.legacy import import_state, write_spec

    imported = import_state(file)
    target = output or Path(".maos.yml")
    write_spec(imported, target)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"wrote {target}", err=True)
    return ExitCode.OK


@maos.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def doctor(as_json: bool) -> int:
    """Show what this machine offers and which limits `auto` becomes, each with its reason."""
    from maos_bot.doctor import doctor as examine

    return examine(Path.cwd(), as_json=as_json)


def _config(spec: str | None, options: dict[str, Any]) -> Any:
    from maos_bot.config import make_config

    return make_config(
        cwd=Path.cwd(),
        spec=spec,
        db=options["db"],
        mode=options["mode"],
        strategy=options["strategy"],
        limits=options["limits"],
        tasks=options["tasks"],
        plan_time=options["plan_time"],
        optimal=options.get("optimal", False),
        goal=options.get("goal") or "",
        json=options["as_json"],
        events=options.get("events"),
        quiet=options.get("quiet", False),
        use_cache=not options.get("no_cache"),
        cache_size=options.get("cache_size"),
        apply=options.get("apply", False),
        approve=options.get("approve", False),
    )


def _database(db: str | None) -> Path:
    from maos_bot.config import database_path

    return database_path(Path.cwd(), db)


def _problem_row(problem: Any) -> dict[str, Any]:
    return {key: getattr(problem, key) for key in ("path", "line", "column", "message", "hint")}


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2))
