"""What is said of a task over its last runs."""

from __future__ import annotations

from typing import Any

from maos_bot.store.insight import PastAttempt
from web.task_stats import flaky_contents, stats_of


def attempt(state: str, *, sha: str = "", content: str = "", run_id: str = "run", **more: Any) -> PastAttempt:
    values: dict[str, Any] = {"branch": "main", "attempt": 1, "started_at": 1.0, "duration_s": 2.0, "queued_s": 0.0}
    values |= {"usd": 0.0, "unpriced": 0, "estimate_s": None, **more}
    return PastAttempt(state=state, sha=sha, content=content, run_id=run_id, **values)


def test_the_same_content_that_failed_and_passed_is_flaky_whatever_the_commit() -> None:
    attempts = [attempt("failed", sha="b", content="k"), attempt("succeeded", sha="a", content="k")]
    assert flaky_contents(attempts) == ["k"]


def test_another_content_in_the_same_commit_is_not_flaky() -> None:
    attempts = [attempt("failed", sha="a", content="k"), attempt("succeeded", sha="a", content="l")]
    assert flaky_contents(attempts) == []


def test_without_a_known_content_the_commit_counts_else_the_run() -> None:
    assert flaky_contents([attempt("timed_out", sha="a"), attempt("succeeded", sha="a", run_id="other")]) == ["a"]
    assert flaky_contents([attempt("failed", run_id="x"), attempt("succeeded", run_id="x", attempt=2)]) == ["x"]
    assert flaky_contents([attempt("failed", run_id="x"), attempt("succeeded", run_id="y")]) == []


def test_figures_rest_on_what_is_known() -> None:
    stats = stats_of("unit", [attempt("succeeded", estimate_s=1.0), attempt("succeeded", duration_s=3.0, unpriced=1)])
    assert (stats.runs, stats.failed, stats.failure_rate) == (1, 0, 0.0)
    assert (stats.p50_s, stats.p95_s) == (2.0, 3.0)
    assert stats.estimate_error == 1.0
    assert stats.usd is None
    nothing = stats_of("unit", [])
    assert (nothing.failure_rate, nothing.p50_s, nothing.estimate_error) == (None, None, None)
