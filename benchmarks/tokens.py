"""What 24 small agent tasks on one repository cost and how long they take, beside what others would do.

A real `maos run` (its agents, worktrees, tools and the provider's own SDK) talks to a loopback server that answers by
a script and counts each request body by Anthropic's published rules of caching (`benchmarks._provider`); dollars are
the published prices of the model. No model thinks here: how many turns a task takes is the script's, an assumption that
is the same for all arms: search, read the file it is about unless the conversation has read it, finish.

The change that all are told of is this repository's own last commits, as many as make a diff of 20,000 characters; a
beginning shorter than the provider's least cacheable size saves nothing by being shared.

Tokens: eight files, three questions about each. `independent` is the same conversations with a cache of their own each
(nothing is shared), `uncached` without any cache, `shared_prefix` with one cache but a conversation for each task,
`batched` is what a run does by itself. `saving_percent` is `batched` against `independent`, the cheaper of the two that
share nothing.

Time: `speedup` is the time of the 24 tasks one after the other, each in a conversation of its own, over the wall time
of the whole run with 8 workers, with a provider that takes 2 s for each answer. With `--quick` it takes 1.5 s, and only
three tasks are done one after the other: the mean of the last two stands for the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks._common import emit
from benchmarks._provider import Cache, Provider, tool_use
from maos_bot.model import Usage
from maos_bot.models.prices import load_prices

ROOT: Final = Path(__file__).resolve().parent.parent
MODEL: Final = "claude-sonnet-5-5"
FILES: Final = (
    "maos_bot/redact.py",
    "maos_bot/model.py",
    "maos_bot/events.py",
    "maos_bot/config.py",
    "maos_bot/planning/graph.py",
    "maos_bot/spec/expand.py",
    "maos_bot/resources/token_rate.py",
    "maos_bot/store/insight.py",
)
CHANGE: Final = 20_000  # characters of the diff that all agents are told of, at least: so many last commits are undone
QUESTIONS: Final = ("untested branches", "misleading names", "missing bounds")


def spec(team: str) -> str:
    """The 24 tasks; those of the team `qa` stay apart, those of another may share conversations."""
    tasks = {
        f"t{number}-{index}": {
            "agent": f"Look for {question} in {file}.",
            "team": team,
            "report": "findings",
            "tools": ["read", "search"],
            "model": MODEL,
            "timeout-minutes": 10,
        }
        for index, question in enumerate(QUESTIONS)
        for number, file in enumerate(FILES)
    }
    return json.dumps({"version": 1, "name": "tokens", "tasks": tasks})


def reply(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the script's model does next."""
    texts = [
        (place, block["text"])
        for place, message in enumerate(body["messages"])
        if message["role"] == "user"
        for block in message["content"]
        if block["type"] == "text"
    ]
    began, asked = next((place, text) for place, text in reversed(texts) if "Task t" in text)
    question, file = re.findall(r"Look for (.+?) in (\S+)\.(?:\n|$)", asked)[-1]
    called = [
        (place, block)
        for place, message in enumerate(body["messages"])
        if message["role"] == "assistant"
        for block in message["content"]
        if block["type"] == "tool_use"
    ]
    if not any(place > began and block["name"] == "search" for place, block in called):
        return tool_use("search", pattern=question.split()[0])
    if not any(block["name"] == "read" and block["input"]["path"] == file for _, block in called):
        return tool_use("read", path=file)
    finding = {"path": file, "line": 7, "severity": "notice", "message": f"One case of {question}, " + "as seen. " * 20}
    return tool_use("finish", summary=f"{file} has one case of {question}.", findings=[finding])


async def run_once(
    folder: Path, team: str, *, workers: int, delay_s: float, tasks: int = 24
) -> tuple[Provider, float, dict[str, Any]]:
    """One run of so many of the 24 tasks: what the provider saw, the seconds it took, and its report."""
    (folder / "tokens.yml").write_text(spec(team), encoding="utf-8")
    hidden = ("OPENAI_", "GEMINI_", "MAOS_", "ANTHROPIC_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    async with Provider(reply, delay_s=delay_s) as provider:
        environ |= {"ANTHROPIC_API_KEY": "loopback", "ANTHROPIC_BASE_URL": provider.url}
        database = folder.parent / f"{team}-{workers}.db"
        named = [name for task in list(json.loads(spec(team))["tasks"])[:tasks] for name in ("--task", task)]
        command = (
            sys.executable,
            "-P",
            "-m",
            "maos_bot",
            "run",
            "tokens.yml",
            "--json",
            "--quiet",
            "--db",
            str(database),
        )
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--db", str(database), *named),
            *("--limit", f"concurrent-agents={workers}"),
            cwd=folder,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        wall_s = time.monotonic() - begun
    report = json.loads(out or b"{}")
    states = {task["state"] for task in report.get("tasks", {}).values()}
    if states != {"succeeded"}:
        raise SystemExit(f"a run failed: {states}\n{err.decode()[-2000:]}\n{out.decode()[-2000:]}")
    return provider, wall_s, report


def dollars(usages: list[Usage]) -> float:
    """What turns cost by the published prices."""
    price = load_prices().price("anthropic", MODEL)
    assert price is not None
    costs = [price.usd(usage) for usage in usages]
    return sum(cost for cost in costs if cost is not None)


def counted_apart(provider: Provider, *, cached: bool) -> list[Usage]:
    """The same requests, each conversation with a cache of its own or with none."""
    cache = Cache()
    usages = []
    for body, seen in zip(provider.bodies, provider.usages, strict=True):
        usage, entries = cache.count(body, scope=json.dumps(body["messages"][0]["content"][0]["text"]))
        if not cached:
            whole = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
            usage = Usage(input_tokens=whole)
        else:
            cache.keep(entries)
        usages.append(usage + Usage(output_tokens=seen.output_tokens))
    return usages


def total(usages: list[Usage]) -> dict[str, int]:
    """Tokens by kind."""
    whole = sum(usages, Usage())
    return {
        "input": whole.input_tokens,
        "output": whole.output_tokens,
        "cache_read": whole.cache_read_tokens,
        "cache_write": whole.cache_write_tokens,
    }


async def one_after_another(folder: Path, *, delay_s: float, tasks: int) -> float:
    """Seconds for all 24 tasks with one worker; where only some are done, the last ones stand for the rest."""
    _, _, report = await run_once(folder, "qa", workers=1, delay_s=delay_s, tasks=tasks)
    took = sorted((task["started_s"], task["duration_s"]) for task in report["tasks"].values())
    first, *others = [seconds for _, seconds in took]
    return float(first + sum(others) / len(others) * (len(FILES) * len(QUESTIONS) - 1))


async def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """All arms."""
    delay_s = 1.5 if quick else 2.0
    apart, _, _ = await run_once(folder, "qa", workers=8, delay_s=0.0)
    one_by_one_s = await one_after_another(folder, delay_s=delay_s, tasks=3 if quick else 24)
    batched, side_by_side_s, report = await run_once(folder, "review", workers=8, delay_s=delay_s)
    arms = {
        "uncached": counted_apart(apart, cached=False),
        "independent": counted_apart(apart, cached=True),
        "shared_prefix": apart.usages,
        "batched": batched.usages,
    }
    usd = {name: dollars(usages) for name, usages in arms.items()}
    measured = report["usage"]["usd"]
    if abs(measured - usd["batched"]) > 1e-6:
        raise SystemExit(f"the run counted ${measured}, the provider ${usd['batched']}")
    against = min(usd["independent"], usd["uncached"])
    conversations = {json.dumps(body["messages"][0]["content"][0]["text"]) for body in batched.bodies}
    return {
        "benchmark": "tokens",
        "saving_percent": 100 * (1 - usd["batched"] / against),
        "saving_by_prefix_alone_percent": 100 * (1 - usd["shared_prefix"] / against),
        "saving_of_batching_percent": 100 * (1 - usd["batched"] / usd["shared_prefix"]),
        "speedup": one_by_one_s / side_by_side_s,
        "one_after_another_s": one_by_one_s,
        "eight_workers_s": side_by_side_s,
        "answer_s": delay_s,
        "usd": usd,
        "tokens": {name: total(usages) for name, usages in arms.items()},
        "tasks": len(FILES) * len(QUESTIONS),
        "conversations": len(conversations),
        "requests": {"apart": len(apart.bodies), "batched": len(batched.bodies)},
        "model": MODEL,
        "prices": f"{load_prices().source}, {load_prices().date}",
    }


def undone(folder: Path) -> tuple[str, int]:
    """The newest commit to which the change is large enough to be a pull request's, and that change's characters."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout

    commits = git("rev-list", "--first-parent", "--max-count=200", "HEAD").split()
    sizes = ((commit, len(git("diff", commit, "HEAD"))) for commit in commits[1:])
    return next((commit, size) for commit, size in sizes if size >= CHANGE or commit == commits[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="answers in 1.5 s, and fewer tasks one by one")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--data", type=Path, help="where the copy of the repository is made; kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = (arguments.data or Path(made)) / "repository"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True)
        base, size = undone(folder)
        subprocess.run(["git", "-C", str(folder), "reset", "--quiet", "--soft", base], check=True)
        result = asyncio.run(measure(folder, quick=arguments.quick)) | {"change_characters": size}
    emit(result, arguments.json)


if __name__ == "__main__":
    main()
