"""The database's schema, as numbered steps that are only ever appended to.

`user_version` holds how many steps a database has been through. A step that has shipped is never edited: what it
made is in people's databases. The folded tables (`runs`, `tasks`, `attempts`, `usage`) can always be made again from
the stream (`events`, `output`, `samples`), so a later step may drop and refill them.

Why it looks like this: it has to carry 20 million events in one file. Names that repeat in every run (tasks, teams,
repositories) are written once in `names`; the three kinds of things that come in numbers (decisions, output,
measurements) lie in three tables that share one numbering; `(run, seq)` is the key of each, so that storing an event
twice is impossible, and each run's events lie side by side on disk.
"""

# ruff: noqa: S608 - only this module's own words are put into SQL

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from maos_bot.model import TaskState

if TYPE_CHECKING:
    import sqlite3

    from sqlite_utils import Database, Migrations

# "maos" in ASCII: tells our databases from other people's.
APPLICATION_ID: Final = 0x6D616F73

# Event types by their number in `events.kind`. Numbers are part of the format: append, never renumber.
KINDS: Final = {
    "RunStarted": 1,
    "TaskReady": 2,
    "TaskStarted": 3,
    "UsageRecorded": 4,
    "TaskFinished": 5,
    "RunFinished": 6,
    "TranscriptAdded": 7,
    "FindingReported": 8,
    "ChangeTaken": 9,
}
_AGENT_KINDS: Final = ("TranscriptAdded", "FindingReported", "ChangeTaken")  # not in the first step's table

_COUNTS = ",\n    ".join(f"tasks_{state} INTEGER NOT NULL DEFAULT 0" for state in TaskState)

_STREAM: Final = (
    "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE kinds (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE specs (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, text TEXT NOT NULL)",
    """
    CREATE TABLE events (
        run INTEGER NOT NULL REFERENCES runs(id),
        seq INTEGER NOT NULL,
        at REAL NOT NULL,
        kind INTEGER NOT NULL REFERENCES kinds(id),
        task INTEGER REFERENCES names(id),
        attempt INTEGER,
        body TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (run, seq)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE samples (
        run INTEGER NOT NULL REFERENCES runs(id),
        seq INTEGER NOT NULL,
        at REAL NOT NULL,
        task INTEGER REFERENCES names(id),
        memory_mb REAL,
        cpu_percent REAL,
        agents INTEGER,
        tokens_per_minute REAL,
        PRIMARY KEY (run, seq)
    ) WITHOUT ROWID
    """,
    # Texts of kilobytes want an ordinary table: rows of one without rowid go to overflow pages early.
    """
    CREATE TABLE output (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs(id),
        seq INTEGER NOT NULL,
        at REAL NOT NULL,
        task INTEGER NOT NULL REFERENCES names(id),
        attempt INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        omitted INTEGER NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (run, seq)
    )
    """,
    "CREATE INDEX output_attempt ON output (run, task, attempt, seq)",
)

_FOLDS: Final = (
    f"""
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL DEFAULT '',
        repository TEXT NOT NULL DEFAULT '',
        branch TEXT NOT NULL DEFAULT '',
        sha TEXT NOT NULL DEFAULT '',
        pull_request INTEGER,
        words TEXT NOT NULL DEFAULT '',
        event TEXT NOT NULL DEFAULT '',
        action TEXT NOT NULL DEFAULT '',
        actor TEXT NOT NULL DEFAULT '',
        is_fork INTEGER NOT NULL DEFAULT 0,
        url TEXT NOT NULL DEFAULT '',
        spec INTEGER REFERENCES specs(id),
        spec_path TEXT NOT NULL DEFAULT '',
        spec_digest TEXT NOT NULL DEFAULT '',
        mode TEXT NOT NULL DEFAULT '',
        strategy TEXT NOT NULL DEFAULT '',
        version TEXT NOT NULL DEFAULT '',
        status TEXT NOT NULL DEFAULT 'running',
        exit_code INTEGER,
        reason TEXT NOT NULL DEFAULT '',
        started_at REAL NOT NULL DEFAULT 0,
        finished_at REAL,
        last_event_at REAL NOT NULL DEFAULT 0,
        last_seq INTEGER NOT NULL DEFAULT 0,
        events INTEGER NOT NULL DEFAULT 0,
        wall_s REAL,
        sequential_s REAL NOT NULL DEFAULT 0,
        predicted_s REAL,
        predicted_sequential_s REAL,
        lower_bound_s REAL,
        tasks INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        input_tokens INTEGER NOT NULL DEFAULT 0,
        output_tokens INTEGER NOT NULL DEFAULT 0,
        cache_read_tokens INTEGER NOT NULL DEFAULT 0,
        cache_write_tokens INTEGER NOT NULL DEFAULT 0,
        tokens INTEGER NOT NULL DEFAULT 0,
        usd REAL NOT NULL DEFAULT 0,
        unpriced INTEGER NOT NULL DEFAULT 0,
        peak_memory_mb REAL,
        peak_cpu_percent REAL,
        peak_agents INTEGER,
        peak_tokens_per_minute REAL,
        {_COUNTS}
    )
    """,
    # One index for each thing the list of runs filters or sorts by; each ends in the (implicit) id, which makes
    # paging by key possible where values tie.
    # The first also carries what a filter may have to look at in every run: seeing 100,000 of its entries takes 20 ms,
    # seeing as many rows 100.
    "CREATE INDEX runs_started ON runs (started_at, wall_s, usd, words)",
    "CREATE INDEX runs_repository ON runs (repository, started_at)",
    "CREATE INDEX runs_branch ON runs (branch, started_at)",
    "CREATE INDEX runs_pull_request ON runs (pull_request, started_at) WHERE pull_request IS NOT NULL",
    "CREATE INDEX runs_status ON runs (status, started_at)",
    "CREATE INDEX runs_sha ON runs (sha, started_at)",
    "CREATE INDEX runs_wall ON runs (ifnull(wall_s, -1))",
    "CREATE INDEX runs_usd ON runs (usd)",
    "CREATE INDEX runs_tokens ON runs (tokens)",
    """
    CREATE TABLE tasks (
        run INTEGER NOT NULL REFERENCES runs(id),
        task INTEGER NOT NULL REFERENCES names(id),
        position INTEGER NOT NULL,
        team INTEGER REFERENCES names(id),
        kind TEXT NOT NULL,
        stage INTEGER NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        ready_at REAL,
        finished_at REAL,
        estimate_s REAL,
        predicted_start_s REAL,
        predicted_finish_s REAL,
        PRIMARY KEY (run, task)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE attempts (
        run INTEGER NOT NULL REFERENCES runs(id),
        task INTEGER NOT NULL REFERENCES names(id),
        attempt INTEGER NOT NULL,
        repository INTEGER NOT NULL REFERENCES names(id),
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        queued_s REAL NOT NULL,
        wait_reason TEXT NOT NULL,
        freed_by INTEGER REFERENCES names(id),
        started_at REAL,
        finished_at REAL,
        duration_s REAL,
        exit_code INTEGER,
        cpu_s REAL,
        peak_memory_mb REAL,
        output_bytes INTEGER NOT NULL,
        omitted_bytes INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        usd REAL NOT NULL,
        unpriced INTEGER NOT NULL,
        PRIMARY KEY (run, task, attempt)
    ) WITHOUT ROWID
    """,
    # A task's history in a repository, newest last; carries the figures, so that estimates read nothing else.
    """
    CREATE INDEX attempts_history ON attempts (task, repository, started_at, state, duration_s)
    WHERE duration_s IS NOT NULL
    """,
    """
    CREATE TABLE usage (
        run INTEGER NOT NULL REFERENCES runs(id),
        task INTEGER NOT NULL REFERENCES names(id),
        attempt INTEGER NOT NULL,
        model INTEGER NOT NULL REFERENCES names(id),
        calls INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        usd REAL NOT NULL,
        PRIMARY KEY (run, task, attempt, model)
    ) WITHOUT ROWID
    """,
)

# For people (and `sqlite3` on the command line): the same tables with the names written out.
_VIEWS: Final = (
    """
    CREATE VIEW event_log AS
    SELECT r.run_id, e.seq, e.at, k.name AS type, n.name AS task, e.attempt, e.body
    FROM events e JOIN runs r ON r.id = e.run JOIN kinds k ON k.id = e.kind LEFT JOIN names n ON n.id = e.task
    """,
    """
    CREATE VIEW output_log AS
    SELECT r.run_id, o.seq, o.at, n.name AS task, o.attempt, o.offset, o.omitted, o.text
    FROM output o JOIN runs r ON r.id = o.run JOIN names n ON n.id = o.task
    """,
    """
    CREATE VIEW sample_log AS
    SELECT r.run_id, s.seq, s.at, n.name AS task, s.memory_mb, s.cpu_percent, s.agents, s.tokens_per_minute
    FROM samples s JOIN runs r ON r.id = s.run LEFT JOIN names n ON n.id = s.task
    """,
    """
    CREATE VIEW task_list AS
    SELECT r.run_id, r.repository, n.name AS task, m.name AS team, t.position, t.kind, t.stage, t.state, t.reason,
           t.attempts, t.ready_at, t.finished_at, t.estimate_s, t.predicted_start_s, t.predicted_finish_s
    FROM tasks t JOIN runs r ON r.id = t.run JOIN names n ON n.id = t.task LEFT JOIN names m ON m.id = t.team
    """,
    """
    CREATE VIEW attempt_list AS
    SELECT r.run_id, r.repository, n.name AS task, a.attempt, a.state, a.reason, a.queued_s, a.wait_reason,
           f.name AS freed_by, a.started_at, a.finished_at, a.duration_s, a.exit_code, a.cpu_s, a.peak_memory_mb,
           a.output_bytes, a.omitted_bytes, a.tokens, a.usd, a.unpriced
    FROM attempts a JOIN runs r ON r.id = a.run JOIN names n ON n.id = a.task LEFT JOIN names f ON f.id = a.freed_by
    """,
    """
    CREATE VIEW usage_list AS
    SELECT r.run_id, r.repository, r.started_at, n.name AS task, u.attempt, m.name AS model, u.calls, u.unpriced,
           u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens, u.usd
    FROM usage u JOIN runs r ON r.id = u.run JOIN names n ON n.id = u.task JOIN names m ON m.id = u.model
    """,
)

_DASHBOARD: Final = (
    # A task's history in a repository, newest last; carries the figures, so that estimates and the page of tasks over
    # time read nothing else, and leads from one task of a repository to the next.
    "DROP INDEX attempts_history",
    """
    CREATE INDEX attempts_history
    ON attempts (repository, task, started_at, state, duration_s, queued_s, usd, unpriced)
    WHERE duration_s IS NOT NULL
    """,
    # The run that another is compared with (`Queries.baseline`).
    """
    CREATE INDEX runs_baseline ON runs (repository, name, branch, started_at, wall_s)
    WHERE status = 'succeeded'
    """,
    "CREATE INDEX runs_failed ON runs (started_at) WHERE status = 'failed'",
    "ALTER TABLE runs ADD COLUMN saved_s REAL NOT NULL DEFAULT 0",
    """
    UPDATE runs SET saved_s = ifnull((
        SELECT sum(json_extract(e.body, '$.saved_s')) FROM events e
        WHERE e.run = runs.id AND e.kind = 5 AND e.body != ''
    ), 0) WHERE tasks_cached > 0
    """,
    "CREATE INDEX runs_saved ON runs (started_at, saved_s, tasks_cached) WHERE tasks_cached > 0",
    # What a run spent, by team and model: usage by attempt is too much to add up for a page over months.
    """
    CREATE TABLE spend (
        run INTEGER NOT NULL REFERENCES runs(id),
        team TEXT NOT NULL,
        model TEXT NOT NULL,
        started_at REAL NOT NULL,
        repository TEXT NOT NULL,
        pull_request INTEGER,
        calls INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        usd REAL NOT NULL,
        PRIMARY KEY (run, team, model)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO spend
    SELECT u.run, ifnull(n.name, ''), m.name, r.started_at, r.repository, r.pull_request, sum(u.calls), sum(u.unpriced),
           sum(u.input_tokens), sum(u.output_tokens), sum(u.cache_read_tokens), sum(u.cache_write_tokens), sum(u.usd)
    FROM usage u JOIN runs r ON r.id = u.run JOIN names m ON m.id = u.model
    LEFT JOIN tasks t ON t.run = u.run AND t.task = u.task LEFT JOIN names n ON n.id = t.team
    GROUP BY u.run, ifnull(n.name, ''), m.name
    """,
    """
    CREATE INDEX spend_started ON spend (started_at, repository, pull_request, team, model, calls, unpriced,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usd)
    """,
    # Search: the words of each run, and of the end of what its attempts printed. The index holds no text and can't
    # forget: what it finds counts only where `documents` still has the number, and numbers are never used twice.
    """
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES runs(id),
        task INTEGER REFERENCES names(id),
        attempt INTEGER
    )
    """,
    "CREATE INDEX documents_run ON documents (run)",
    "CREATE VIRTUAL TABLE search USING fts5(text, content='', detail=none, tokenize='unicode61 remove_diacritics 2')",
    "INSERT INTO documents (run) SELECT id FROM runs WHERE finished_at IS NOT NULL ORDER BY started_at",
    "INSERT INTO search (rowid, text) SELECT d.id, r.words FROM documents d JOIN runs r ON r.id = d.run",
)


_SPENT: Final = (
    "calls", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "nano_usd",
)  # fmt: skip
_ROLLUPS: Final = {"spend_days": ("team", "model"), "spend_pulls": ("pull_request",)}


def _rolled(table: str, row: str, sign: str) -> str:
    """The statement that adds a row of `spend` to a day's sums, or takes it off."""
    keys = _ROLLUPS[table]
    sums = [*(f"{row}.{name}" for name in _SPENT[:-1]), f"CAST(round({row}.usd * 1e9) AS INTEGER)"]
    only = f" WHERE {row}.pull_request IS NOT NULL" if "pull_request" in keys else " WHERE true"
    return (
        f"INSERT INTO {table} (day, repository, {', '.join((*keys, *_SPENT))})"
        f" SELECT CAST({row}.started_at / 86400 AS INTEGER), {row}.repository,"
        f" {', '.join(f'{row}.{key}' for key in keys)},"
        f" {', '.join(f'{sign}{value}' for value in sums)}{only} ON CONFLICT DO UPDATE SET"
        f" {', '.join(f'{name} = {name} + excluded.{name}' for name in _SPENT)}"
    )


_SPENDING: Final = (
    # What was spent each day (UTC), kept by triggers: pages over months read a few thousand rows instead of all runs.
    # Money is whole billionths of a dollar, so that taking off what was added leaves nothing.
    *(
        f"CREATE TABLE {table} (day INTEGER NOT NULL, repository TEXT NOT NULL,"
        f" {', '.join(f'{key} {kind} NOT NULL' for key, kind in keys)},"
        f" {', '.join(f'{name} INTEGER NOT NULL' for name in _SPENT)},"
        f" PRIMARY KEY (day, repository, {', '.join(key for key, _ in keys)})) WITHOUT ROWID"
        for table, keys in (
            ("spend_days", (("team", "TEXT"), ("model", "TEXT"))),
            ("spend_pulls", (("pull_request", "INTEGER"),)),
        )
    ),
    *(
        f"CREATE TRIGGER spend_{event.lower()} AFTER {event} ON spend BEGIN"
        f" {' '.join(_rolled(table, row, sign) + ';' for table in _ROLLUPS for row, sign in rows)} END"
        for event, rows in (
            ("INSERT", (("new", ""),)),
            ("DELETE", (("old", "-"),)),
            ("UPDATE", (("old", "-"), ("new", ""))),
        )
    ),
    *(
        f"INSERT INTO {table} SELECT CAST(started_at / 86400 AS INTEGER), repository, {', '.join(keys)},"
        f" {', '.join(f'sum({name})' for name in _SPENT[:-1])}, sum(CAST(round(usd * 1e9) AS INTEGER)) FROM spend"
        f"{' WHERE pull_request IS NOT NULL' if 'pull_request' in keys else ''}"
        f" GROUP BY 1, repository, {', '.join(keys)}"
        for table, keys in _ROLLUPS.items()
    ),
    "DROP INDEX spend_started",
)


def first_tables(connection: sqlite3.Connection) -> None:
    """Step 1: the stream, the tables folded from it, and the views."""
    for statement in (*_STREAM, *_FOLDS, *_VIEWS):
        connection.execute(statement)
    _add_kinds(connection, [name for name in KINDS if name not in _AGENT_KINDS])


def for_the_dashboard(connection: sqlite3.Connection) -> None:
    """Step 2: what the dashboard's pages read: baselines, tasks over time, spending, search.

    It is filled from what is there; of older runs the search knows name, branch, commit and actor, not their logs.
    """
    for statement in _DASHBOARD:
        connection.execute(statement)


def agent_events(connection: sqlite3.Connection) -> None:
    """Step 3: the kinds of event that agents' conversations, findings and changes are."""
    _add_kinds(connection, _AGENT_KINDS)


def spending_by_day(connection: sqlite3.Connection) -> None:
    """Step 4: what was spent, summed up by day."""
    for statement in _SPENDING:
        connection.execute(statement)


def what_came_in(connection: sqlite3.Connection) -> None:
    """Step 5: when uploads and artifacts were taken in, and which artifacts of which repository were looked at."""
    connection.execute(
        "CREATE TABLE intakes (source TEXT PRIMARY KEY, at REAL NOT NULL, etag TEXT NOT NULL DEFAULT '') WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE artifacts (repository TEXT NOT NULL, artifact INTEGER NOT NULL, name TEXT NOT NULL,"
        " at REAL NOT NULL, problem TEXT NOT NULL, PRIMARY KEY (repository, artifact)) WITHOUT ROWID"
    )


def _add_kinds(connection: sqlite3.Connection, names: Sequence[str]) -> None:
    connection.executemany("INSERT INTO kinds (id, name) VALUES (?, ?)", [(KINDS[name], name) for name in names])


def content_of_attempts(connection: sqlite3.Connection) -> None:
    """Step 6: what an attempt depended on, as a digest: the same content that failed and passed is flaky."""
    connection.execute("ALTER TABLE attempts ADD COLUMN content TEXT NOT NULL DEFAULT ''")


Step = Callable[["sqlite3.Connection"], None]
STEPS: Final[tuple[Step, ...]] = (
    first_tables,
    for_the_dashboard,
    agent_events,
    spending_by_day,
    what_came_in,
    content_of_attempts,
)
SCHEMA_VERSION: Final = len(STEPS)
_SET: Final = "maos"
_RECORDS: Final = "_sqlite_migrations"  # where sqlite-utils keeps which steps were applied, and how it makes that
_MAKE_RECORDS: Final = (
    f"""
    CREATE TABLE "{_RECORDS}" (
       "id" INTEGER PRIMARY KEY,
       "migration_set" TEXT,
       "name" TEXT,
       "applied_at" TEXT
    )
    """,
    f"""
    CREATE UNIQUE INDEX "idx_{_RECORDS}_migration_set_name"
        ON "{_RECORDS}" ("migration_set", "name")
    """,
)


def migrations(steps: tuple[Step, ...] = STEPS) -> Migrations:
    """The steps as a set that sqlite-utils applies and records."""
    from sqlite_utils import Migrations  # 0.1 s that only an old database needs

    ordered = Migrations(_SET)
    for name, step in _named(steps):
        ordered(name=name)(_through_sqlite_utils(step))
    return ordered


def migrate(connection: sqlite3.Connection, steps: tuple[Step, ...] = STEPS) -> None:
    """Bring the database up to the last step, all in one transaction: it ends at the new version or stays as it was.

    Safe while others do the same: the write lock is taken before looking at what is missing. A new database is made
    without sqlite-utils, to which it looks as if it had made it: loading it takes longer than many a run.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            from sqlite_utils import Database

            migrations(steps).apply(Database(connection, execute_plugins=False))
        else:
            _make(connection, steps)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make(connection: sqlite3.Connection, steps: tuple[Step, ...]) -> None:
    for statement in _MAKE_RECORDS:
        connection.execute(statement)
    for name, step in _named(steps):
        step(connection)
        connection.execute(
            f'INSERT INTO "{_RECORDS}" ("migration_set", "name", "applied_at") VALUES (?, ?, ?)',
            (_SET, name, str(datetime.now(UTC))),
        )


def _named(steps: tuple[Step, ...]) -> list[tuple[str, Step]]:
    return [(f"{number:04d}_{step.__name__}", step) for number, step in enumerate(steps, start=1)]


def _through_sqlite_utils(step: Step) -> Callable[[Database], None]:
    def apply(db: Database) -> None:
        step(db.conn)

    return apply
