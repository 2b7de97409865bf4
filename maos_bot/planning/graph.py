"""The task graph: who needs whom, and what follows for time (pure).

Tasks are numbered in the spec's order and everything is a list by number, because a plan for 100,000 tasks is made of
loops over such lists. `TaskGraph.digraph` gives the same graph to networkx, which is imported only there: it costs
more start-up time than planning a thousand tasks.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from maos_bot.errors import SpecError, SpecProblem
from maos_bot.model import Task

if TYPE_CHECKING:
    import networkx as nx

Indexes = Sequence[int]


class CycleError(ValueError):
    """The needs form a circle; `cycle` holds its members, each needed by the one before it."""

    def __init__(self, cycle: Sequence[int]) -> None:
        self.cycle = tuple(cycle)
        super().__init__(f"the needs form a cycle: {self.cycle}")


class TaskGraph:
    """Tasks `0..n-1` with their needs (`preds`), those behind them (`succs`) and durations in seconds.

    `order` is the topological order closest to the spec's: of all tasks whose needs stand before it, the one that
    comes first in the spec is next. Raises `CycleError` where there is none.
    """

    def __init__(self, ids: Sequence[str], preds: Sequence[Indexes], durations: Sequence[float]) -> None:
        self.ids = ids
        self.preds = preds
        self.durations = durations
        self.succs: list[list[int]] = [[] for _ in ids]
        forward = True
        for task, needs in enumerate(preds):
            for need in needs:
                self.succs[need].append(task)
                if need >= task:
                    forward = False
        self.order: Indexes = range(len(ids)) if forward else self._sorted()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each id."""
        return {task_id: number for number, task_id in enumerate(self.ids)}

    @cached_property
    def levels(self) -> list[int]:
        """For each task how many needs stand in a row before it."""
        preds = self.preds
        levels = [0] * len(self)
        for task in self.order:
            needs = preds[task]
            if needs:
                levels[task] = 1 + max([levels[need] for need in needs])
        return levels

    @cached_property
    def heads(self) -> list[float]:
        """The earliest start of each task if nothing but its needs held it back, in seconds."""
        preds, durations = self.preds, self.durations
        heads = [0.0] * len(self)
        for task in self.order:
            needs = preds[task]
            if needs:
                heads[task] = max([heads[need] + durations[need] for need in needs])
        return heads

    @cached_property
    def ranks(self) -> list[float]:
        """The upward rank: the longest way from the start of each task to the end of the run, in seconds."""
        succs = self.succs
        ranks = list(self.durations)
        for task in reversed(self.order):
            behind = succs[task]
            if behind:
                ranks[task] += max([ranks[successor] for successor in behind])
        return ranks

    @cached_property
    def span(self) -> float:
        """The length of the critical path in seconds."""
        return max(self.ranks, default=0.0)

    @cached_property
    def work(self) -> float:
        """The sum of all durations in seconds."""
        return sum(self.durations)

    @property
    def parallelism_factor(self) -> float:
        """Work over critical path: how many tasks could be busy on average; 1.0 where there is no time to share."""
        return self.work / self.span if self.span > 0 else 1.0

    @cached_property
    def slacks(self) -> list[float]:
        """How many seconds each task could end later without the critical path getting longer."""
        span = self.span
        tiny = span * 1e-9  # the same way added up in two orders isn't slack
        room = [span - (head + rank) for head, rank in zip(self.heads, self.ranks, strict=True)]
        return [value if value > tiny else 0.0 for value in room]

    @cached_property
    def critical_path(self) -> list[int]:
        """The longest way through the graph, first task first; of equal ones the first in the spec's order."""
        if not len(self):
            return []
        ranks = self.ranks
        path = []
        choices: Sequence[int] = [task for task in self.order if not self.preds[task]]
        while choices:
            task = min(choices, key=lambda number: (-ranks[number], number))
            path.append(task)
            choices = self.succs[task]
        return path

    def ancestors(self, task: int) -> set[int]:
        """All that must end before `task` starts."""
        return _reach(task, self.preds)

    def descendants(self, task: int) -> set[int]:
        """All that can't start before `task` ends."""
        return _reach(task, self.succs)

    @cached_property
    def digraph(self) -> nx.DiGraph[str]:
        """The graph for networkx: nodes are ids with `duration`, edges lead from a need to what needs it."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        for task_id, duration in zip(self.ids, self.durations, strict=True):
            graph.add_node(task_id, duration=duration)
        for task, needs in enumerate(self.preds):
            graph.add_edges_from((self.ids[need], self.ids[task]) for need in needs)
        return graph

    def _sorted(self) -> list[int]:
        missing = [len(needs) for needs in self.preds]
        ready = [task for task, count in enumerate(missing) if not count]  # ascending, so already a heap
        order = []
        while ready:
            task = heapq.heappop(ready)
            order.append(task)
            for successor in self.succs[task]:
                missing[successor] -= 1
                if not missing[successor]:
                    heapq.heappush(ready, successor)
        if len(order) < len(self):
            raise CycleError(self._cycle(missing))
        return order

    def _cycle(self, missing: Sequence[int]) -> list[int]:
        """Walk back along needs that were never met until a task comes up again."""
        task = next(number for number, count in enumerate(missing) if count)
        seen: dict[int, int] = {}
        walk: list[int] = []
        while task not in seen:
            seen[task] = len(walk)
            walk.append(task)
            task = next(need for need in self.preds[task] if missing[need])
        return walk[seen[task] :]


def build_graph(tasks: Sequence[Task], durations: Sequence[float], *, spec_path: str = "") -> TaskGraph:
    """The graph of `tasks`, numbered as given.

    Raises `SpecError` for an id given twice, a need that isn't there, and a cycle (its members named in order): the
    spec's loader finds these first, with hints; a list of tasks from elsewhere is checked here.
    """
    ids = [task.id for task in tasks]
    index = {task_id: number for number, task_id in enumerate(ids)}
    problems = []
    if len(index) < len(ids):
        last = index
        problems += [
            _problem(spec_path, task, f"task {task.id!r} is there twice", "give each task an id of its own")
            for number, task in enumerate(tasks)
            if last[task.id] != number
        ]
    preds: list[Indexes] = []
    for task in tasks:
        if not task.needs:
            preds.append(())
            continue
        needs = [index[need] for need in task.needs if need in index]
        if len(needs) < len(task.needs):
            unknown = ", ".join(repr(need) for need in task.needs if need not in index)
            problems.append(
                _problem(spec_path, task, f"task {task.id!r} needs {unknown}, which isn't there", "name a task")
            )
        preds.append(needs if len(needs) < 2 or len(set(needs)) == len(needs) else list(dict.fromkeys(needs)))
    if problems:
        raise SpecError(problems)
    try:
        return TaskGraph(ids, preds, durations)
    except CycleError as error:
        names = [ids[number] for number in error.cycle]
        circle = " needs ".join([*names, names[0]])
        first = tasks[error.cycle[0]]
        problem = _problem(spec_path, first, f"the needs form a cycle: {circle}", "take one of these needs out")
        raise SpecError([problem]) from error


def _problem(spec_path: str, task: Task, message: str, hint: str) -> SpecProblem:
    return SpecProblem(path=spec_path, line=task.line, column=task.column, message=message, hint=hint)


def _reach(task: int, neighbours: Sequence[Indexes]) -> set[int]:
    found: set[int] = set()
    stack = list(neighbours[task])
    while stack:
        other = stack.pop()
        if other not in found:
            found.add(other)
            stack.extend(neighbours[other])
    return found
