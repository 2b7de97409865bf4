"""What agents said, found and changed, and who worked when, on the dashboard's pages."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from maos_bot.demo.agents import NOT_ACCEPTED, WORK
from maos_bot.events import ChangeTaken, FindingReported, RunEvent, TranscriptAdded, UsageRecorded
from maos_bot.model import Trigger, Usage
from maos_bot.reporting.report import report_of
from tests.factories import PIPELINE, REVIEWERS, START, make_run, store_runs, with_agent
from web import create_app

RUN_ID = "20261126-080000-4f2a9c"
JOBS = (*PIPELINE, *REVIEWERS)
WHOLE = make_run(
    jobs=JOBS,
    endings={"api-docs": NOT_ACCEPTED},
    trigger=Trigger(
        repository="acme/shop",
        sha="ab" * 20,
        pull_request=412,
        url="https://github.com/acme/shop/actions/runs/7",
    ),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    path = store_runs(tmp_path_factory.mktemp("agents") / "maos.db", [WHOLE])
    return create_app(path, clock=lambda: START + 999).test_client()


def page(client: FlaskClient, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, url
    return answer.text


def words(text: str) -> str:
    """A page's words, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def agent_run(*said: tuple[type[RunEvent], dict[str, Any]]) -> list[RunEvent]:
    """A run of one agent's task with these events."""
    return with_agent(make_run(jobs=(replace(REVIEWERS[0], id="check", needs=()),)), "check", said)


def test_a_conversation_is_shown_turn_by_turn_with_its_tools_and_what_it_cost(client: FlaskClient) -> None:
    shown = words(page(client, f"/runs/{RUN_ID}/tasks/review"))
    order = [
        "Told Task review: Review this change for security defects.",
        "Turn 1 model-x",
        "Agent I'll look at what changed",
        "search glob src/**/*.py pattern refund\\(",
        "Result src/shop/refunds.py:84",
        "Turn 2 model-x",
        "read from 84 lines 5 path src/shop/refunds.py",
        "Turn 3 model-x",
        "finish summary Two findings in refunds.py.",
    ]
    places = [shown.find(one) for one in order]
    assert places == sorted(places)
    assert -1 not in places
    paid = [event.usage for event in WHOLE if isinstance(event, UsageRecorded) and event.task == "review"]
    for usage in paid:
        assert f"{usage.output_tokens} out" in shown
        assert f"${usage.usd:.4f}" in shown or f"${usage.usd:.2f}" in shown
    assert "It printed" not in shown  # its log would be empty


def test_each_attempt_has_its_own_conversation(client: FlaskClient) -> None:
    last = words(page(client, f"/runs/{RUN_ID}/tasks/api-docs"))
    assert "Told Your work was not accepted" in last
    assert "not accepted: `verify` failed" in last  # why the first attempt was sent back
    first = words(page(client, f"/runs/{RUN_ID}/tasks/api-docs?attempt=1"))
    assert "Told Task api-docs: Bring the docs" in first
    text = client.get(f"/runs/{RUN_ID}/conversation/api-docs?attempt=2")
    assert text.mimetype == "text/plain"
    assert "[Told]\nYour work was not accepted" in text.text
    assert "edit {" in text.text


def test_findings_lead_to_their_lines_and_stand_on_the_runs_page_too(client: FlaskClient) -> None:
    home = "https://github.com/acme/shop"
    for url in (f"/runs/{RUN_ID}", f"/runs/{RUN_ID}/tasks/review"):
        text = page(client, url)
        assert f'href="{home}/blob/{"ab" * 20}/src/shop/refunds.py#L86"' in text
        assert "1 error, 1 warning, reported by agents" in text
        assert text.index("src/shop/refunds.py:86") < text.index("src/shop/refunds.py:87")  # the error first
    assert f'href="{home}/pull/412"' in page(client, f"/runs/{RUN_ID}")
    assert f'href="{home}/commit/{"ab" * 20}"' in page(client, f"/runs/{RUN_ID}")


def test_a_finding_is_no_link_where_the_place_of_the_repository_is_not_known(tmp_path: Path) -> None:
    finding = {"path": "a.py", "line": 1, "severity": "warning", "message": "hm"}
    for number, url in enumerate(("", "https://evil.example/actions/runs/7", "javascript:alert(1)//actions/")):
        run = make_run(jobs=JOBS, trigger=Trigger(repository="acme/shop", sha="ab" * 20, url=url))
        path = store_runs(tmp_path / f"{number}.db", [with_agent(run, "review", [(FindingReported, finding)])])
        text = page(create_app(path, clock=lambda: START + 999).test_client(), f"/runs/{RUN_ID}")
        assert '<span class="place">a.py:1</span>' in text


def test_a_change_is_shown_as_a_patch(client: FlaskClient) -> None:
    text = page(client, f"/runs/{RUN_ID}/tasks/api-docs")
    assert '<span class="del">-| `total` | decimal | the sum, rounded half up |</span>' in text
    assert '<span class="file">diff --git a/docs/api/orders.md' in text
    assert "1 file, +4 \u22122" in words(text)
    change = next(event for event in WHOLE if isinstance(event, ChangeTaken))
    assert change.patch == WORK["api-docs"].change["patch"]  # type: ignore[index]
    assert report_of(WHOLE).tasks["api-docs"].changes[0].patch == ""  # it is read from the store alone


def test_a_change_that_did_not_merge_and_has_no_patch_says_so(tmp_path: Path) -> None:
    change: dict[str, Any] = {
        "commit": "c0ffee",
        "files": ("a.py", "b.py"),
        "conflicts": ("b.py",),
        "branch": "maos/check",
    }
    path = store_runs(tmp_path / "maos.db", [agent_run((ChangeTaken, change))])
    text = words(page(create_app(path, clock=lambda: START + 999).test_client(), f"/runs/{RUN_ID}/tasks/check"))
    assert "It didn't merge: b.py. It is kept on maos/check ." in text
    assert "Its patch was not recorded." in text


def test_a_long_conversation_stays_within_its_room_and_keeps_its_end(tmp_path: Path) -> None:
    said = [
        (TranscriptAdded, {"turn": number, "role": "returned", "text": f"part {number}\n" + "x" * 20_000})
        for number in range(200)
    ]
    path = store_runs(tmp_path / "maos.db", [agent_run(*said)])
    client = create_app(path, clock=lambda: START + 999).test_client()
    text = page(client, f"/runs/{RUN_ID}/tasks/check")
    assert len(text) < 300_000
    assert "part 199" in text
    assert "part 5\n" not in text
    assert "14.0 k more characters are in the plain text" in text
    assert re.search(r"The first \d+ messages are in the plain text", text)
    assert client.get(f"/runs/{RUN_ID}/conversation/check?attempt=1").text.count("[Result]") == 200


def test_what_a_model_sends_for_a_call_is_shown_whatever_it_is(tmp_path: Path) -> None:
    calls = ("read", "read {", "read [1, 2]", 'edit {"path": "a", "new": "' + "y" * 90 + '"}', "", "read " + "[" * 5000)
    said = [(TranscriptAdded, {"turn": 1, "role": "called", "text": call}) for call in calls]
    path = store_runs(tmp_path / "maos.db", [agent_run(*said)])
    shown = words(page(create_app(path, clock=lambda: START + 999).test_client(), f"/runs/{RUN_ID}/tasks/check"))
    assert "edit path a new: " + "y" * 90 in shown
    assert "[1, 2]" in shown


def test_a_running_agents_words_come_as_they_are_said(tmp_path: Path) -> None:
    cut = make_run(jobs=JOBS, cut_at=20.0)
    path = store_runs(tmp_path / "maos.db", [cut])
    client = create_app(path, clock=lambda: START + 21).test_client()
    first = page(client, f"/runs/{RUN_ID}/tasks/review")
    assert 'hx-target="#talk"' in first
    after = int(re.search(r'id="tail-after" name="after" value="(\d+)"', first)[1])  # type: ignore[index]
    url = f"/runs/{RUN_ID}/said/review?attempt=1"
    assert client.get(f"{url}&after={after}").status_code == 204
    store_runs(path, [make_run(jobs=JOBS)])
    answer = client.get(f"{url}&after={after}")
    assert answer.status_code == 286
    assert "Turn 3" in answer.text
    assert "It has ended." in answer.text
    whole = page(client, f"/runs/{RUN_ID}/tasks/review")
    assert (first + answer.text).count('class="turn-head"') == whole.count('class="turn-head"')


def test_a_paid_turn_without_its_answer_waits_for_it(tmp_path: Path) -> None:
    run = agent_run(
        (UsageRecorded, {"model": "model-x", "usage": Usage(input_tokens=500, output_tokens=77, usd=0.5)}),
        (TranscriptAdded, {"turn": 1, "role": "answered", "text": "So it is."}),
    )
    answer = next(index for index, event in enumerate(run) if isinstance(event, TranscriptAdded))
    first = [*run[:answer]]
    path = store_runs(tmp_path / "maos.db", [first])
    client = create_app(path, clock=lambda: first[-1].at + 1).test_client()
    assert client.get(f"/runs/{RUN_ID}/said/check?attempt=1&after=0").status_code == 204
    store_runs(path, [run])
    assert "77 out" in client.get(f"/runs/{RUN_ID}/said/check?attempt=1&after=0").text


def test_workers_of_a_team_stand_side_by_side_and_their_load_adds_up(client: FlaskClient) -> None:
    text = page(client, f"/runs/{RUN_ID}/teams")
    report = report_of(WHOLE)
    attempts = [attempt for task in report.tasks.values() for attempt in task.attempt_list]
    assert text.count('class="piece s-') == len(attempts)
    shown = words(text)
    assert "Sent back 1 of 1 further attempt" in shown
    qa = [task for task in report.tasks.values() if task.team == "qa"]
    work = sum(attempt.duration_s or 0.0 for task in qa for attempt in task.attempt_list)
    assert f"Load {work / report.wall_s:.2f}" in shown


def test_events_of_agents_are_listed_in_words(client: FlaskClient) -> None:
    shown = words(page(client, f"/runs/{RUN_ID}/events"))
    assert "finding review failure, src/shop/refunds.py:86: Two refunds" in shown
    assert "change api-docs attempt 2 1 file, +4 \u22122" in shown
    assert "message review answered: I'll look at what changed" in shown


def test_the_numbers_of_agents_are_those_that_show_prints(client: FlaskClient) -> None:
    said = report_of(WHOLE).to_json()
    text = page(client, f"/runs/{RUN_ID}")
    assert f'data-figure="usd"><data value="{json.dumps(said["usage"]["usd"])}"' in text
    for task in ("review", "api-docs"):
        row = text[text.index(f'data-task="{task}"') :].partition("</tr>")[0]
        assert f'data-figure="usd"><data value="{json.dumps(said["tasks"][task]["usage"]["usd"])}"' in row
        assert f'data-figure="attempts"><data value="{said["tasks"][task]["attempts"]}"' in row
