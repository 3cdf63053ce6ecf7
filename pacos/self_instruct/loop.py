"""The bootstrap loop: requests -> teachers, several at once -> rows, until there are enough.

    lane (a teacher has `lanes` of them):   take a request -> reserve -> ask -> keep the rows | put it back
                                                 ^ none while those under way will probably do

A request that fails goes back, and the next free teacher takes it. A teacher that fails is left alone for a while that
doubles with every failure in a row, or for as long as it asks (Retry-After), and given up when it fails too often. What
was paid for is waited for and kept: a run may end with more rows in its log than were asked for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pacos.self_instruct.answers import Answer, Failure, Teacher
from pacos.self_instruct.books import Books, Sent
from pacos.self_instruct.budget import Spent
from pacos.self_instruct.requests import Request, Requests

Ending = Literal["enough", "all", "unanswered", "budget", "stopped", "teachers", "barren"]
"""Rows enough; every request done; or all but some that were refused or failed too often; no room in the budget; asked to stop; no
teacher left; answers without a row."""
LONGEST_WAIT = 600.0
"""Seconds that a server may ask to wait before it is given up."""
LOOK_SECONDS = 0.1
"""How often a waiting lane looks whether it is asked to stop."""


@dataclass(frozen=True)
class Course:
    """When to go on and when to end. `count` None: until every request is done. `barren` answers without a row end it."""

    count: int | None
    retries: int
    barren: int
    first_wait: float = 1.0
    """Seconds of the first back-off; each further one is twice as long, at most a minute."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    accepted: int
    wanted: int | None
    rejected: Counter[str]
    requests: int
    in_flight: int
    failures: int
    spent: Spent
    seconds: float
    accepted_here: int
    """Rows that this process has added; the others were there."""


@dataclass
class Health:
    """How a teacher does. `resume_at` in seconds of the clock; `gave_up` says why it is asked no more."""

    failures: int = 0
    resume_at: float = 0.0
    gave_up: str = ""

    def failed(self, failure: Failure, began: float, now: float, course: Course, jitter: float) -> None:
        """Back off; failures of lanes that began before the last back-off was over are one and the same."""
        if began >= self.resume_at:
            self.failures += 1
            wait = min(60.0, course.first_wait * 2 ** (self.failures - 1)) * (0.5 + jitter / 2)
            self.resume_at = now + wait
        self.resume_at = max(self.resume_at, now + failure.wait)
        if failure.fatal or self.failures > course.retries or failure.wait > LONGEST_WAIT:
            self.gave_up = self.gave_up or failure.why


class Generation:
    """One run of the loop. `stop()` is asked often; `on_change` is called after every outcome."""

    def __init__(
        self,
        requests: Requests,
        teachers: Sequence[Teacher],
        books: Books,
        course: Course,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_change: Callable[[Progress], None] = lambda progress: None,
        on_note: Callable[[str], None] = lambda text: None,
        rng: random.Random | None = None,
    ):
        self.requests, self.teachers, self.books, self.course = requests, list(teachers), books, course
        self.stop, self.on_change, self.on_note, self.rng = stop, on_change, on_note, rng or random.Random()
        self.health = {teacher.name: Health() for teacher in self.teachers}
        self.back: deque[Request] = deque()
        self.tries: Counter[int] = Counter()
        self.dropped: set[int] = set()
        """Requests that were refused, or failed too often, and are not tried again in this run; the next one will."""
        self.under_way: list[Sent] = []
        self.barren = 0
        self.out_of_budget = False
        self.changed = asyncio.Event()
        self.numbers = self._numbers()
        self.began = time.monotonic()

    async def run(self) -> Ending:
        """Until the end; what was written down stays, whatever happens."""
        lanes = [asyncio.create_task(self._lane(teacher)) for teacher in self.teachers for _ in range(teacher.lanes)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            for teacher in self.teachers:
                await teacher.close()
        return self._ending()

    def progress(self) -> Progress:
        books = self.books
        return Progress(
            len(books.pool.accepted),
            self.wanted,
            books.pool.rejected,
            len(books.done),
            len(self.under_way),
            books.failures,
            books.budget.spent,
            time.monotonic() - self.began,
            books.accepted_here,
        )

    @property
    def wanted(self) -> int | None:
        """Rows that there will be in the end."""
        total = self.requests.total
        limits = [n for n in (self.course.count, total and total * self.requests.num_tasks) if n is not None]
        return min(limits, default=None)

    async def _lane(self, teacher: Teacher) -> None:
        while batch := await self._take(teacher):
            began = time.monotonic()
            self.under_way += batch
            try:
                outcomes = await teacher.ask([sent.request for sent in batch])
            finally:
                self.under_way = [sent for sent in self.under_way if sent not in batch]
            for sent, outcome in zip(batch, outcomes, strict=True):
                self._settle(teacher, sent, outcome, began)
            self._tell()

    async def _take(self, teacher: Teacher) -> list[Sent]:
        """What this lane asks next; waits where that may come, empty where it will not."""
        health = self.health[teacher.name]
        while not (self.stop() or self._enough() or health.gave_up or self.barren >= self.course.barren):
            if time.monotonic() >= health.resume_at:
                if batch := self._draw(teacher):
                    return batch
                if self._nothing_left(teacher):
                    return []
            self.changed.clear()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.changed.wait()
            except TimeoutError:
                pass
        return []

    def _draw(self, teacher: Teacher) -> list[Sent]:
        """Requests for a teacher, reserved; fewer than it takes, or none, where those under way will probably do."""
        batch: list[Sent] = []
        while len(batch) < teacher.batch and not self._expected_enough(batch):
            request = self.back.popleft() if self.back else next(self.numbers, None)
            if request is None:
                break
            sent = self.books.send(request, teacher.name, teacher.price, teacher.max_tokens)
            if sent is None:
                self.back.appendleft(request)
                break
            batch.append(sent)
        return batch

    def _numbers(self) -> Iterator[Request]:
        """The requests that are not done, nor out in a batch file."""
        number, total = 0, self.requests.total
        skipped = self.books.done | {r["request"] for r in self.books.log.history.open.values() if r.get("batch")}
        while total is None or number < total:
            if number not in skipped:
                yield self.requests.request(number)
            number += 1

    def _nothing_left(self, teacher: Teacher) -> bool:
        """True where no request can come for this lane any more."""
        if self.back:
            worst = self.books.budget.worst(self.back[0].text, teacher.max_tokens, teacher.price, teacher.name)
            if self.books.budget.hopeless(worst):
                self.out_of_budget = True
                return True
            return False
        return not self.under_way and not self._expected_enough([])

    def _expected_enough(self, batch: Sequence[Sent]) -> bool:
        """Whether the requests under way will probably bring what is missing."""
        if self.course.count is None:
            return False
        asked = sum(sent.request.num_tasks for sent in (*self.under_way, *batch))
        share = (self.books.accepted_here + 1) / (self.books.asked_tasks + 1)
        return asked > 0 and asked * min(1.0, share) >= self.course.count - len(self.books.pool.accepted)

    def _enough(self) -> bool:
        return self.course.count is not None and len(self.books.pool.accepted) >= self.course.count

    def _settle(self, teacher: Teacher, sent: Sent, outcome: Answer | Failure, began: float) -> None:
        health, number = self.health[teacher.name], sent.request.number
        if isinstance(outcome, Answer):
            health.failures = 0
            self.barren = 0 if self.books.answered(sent, outcome) else self.barren + 1
            return
        self.books.failed(sent, outcome)
        self.tries[number] += 1
        again = outcome.again and self.tries[number] <= self.course.retries
        if again or outcome.fatal:  # what is wrong with a teacher is not held against the request
            self.back.append(sent.request)
        else:
            self.dropped.add(number)
        gone = bool(health.gave_up)
        health.failed(outcome, began, time.monotonic(), self.course, self.rng.random())
        if health.gave_up and not gone:
            self.on_note(f"{teacher.name} is asked no more: {health.gave_up}")

    def _tell(self) -> None:
        self.changed.set()
        self.on_change(self.progress())

    def _ending(self) -> Ending:
        if self._enough():
            return "enough"
        if self.stop():
            return "stopped"
        if self.barren >= self.course.barren:
            return "barren"
        if self.out_of_budget and self.back:  # a cheaper teacher may have taken them all
            return "budget"
        if all(health.gave_up for health in self.health.values()):
            return "teachers"
        return "unanswered" if self.dropped - self.books.done else "all"
