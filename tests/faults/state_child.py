"""The process that is killed: pours events into an embedded state and says on stdout which of them were answered.

``python -m tests.faults.state_child FOLDER BUILD FIRST [COUNT]``; BUILD is ``sound`` or one of the deliberately broken ones that the
harness must catch.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.state.check import Outcome
from palate.state.embedded import Embedded
from palate.state.log import Log
from tests.state.worlds import opened, rating


class Early(Embedded):
    """Broken: answers before the commit."""

    def append(self, events: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        threading.Thread(target=super().append, args=(events,), daemon=True).start()
        return [Outcome("accepted", str(event["event_id"])) for event in events]


class Doubling(Embedded):
    """Broken: takes the same event twice."""

    def append(self, events: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        return super().append([{**event, "event_id": f"{event['event_id']}/{uuid.uuid4().hex}"} for event in events])


def forgetful(log: Log) -> None:
    """Broken: commits are not made, only answered."""
    log._commit_now = lambda connection: connection.execute("ROLLBACK") and None  # type: ignore[method-assign,assignment]


def event(number: int) -> dict[str, Any]:
    return rating(f"u{number % 50}", f"i{number % 30}", number % 5 + 1, 1_600_000_000_000 + number * 1000, event_id=f"e{number}")


def main(folder: str, build: str, first: int, count: int = 10**9) -> None:
    kinds: dict[str, type[Embedded]] = {"early": Early, "double": Doubling}
    with opened(Path(folder)) as sound:
        state: Embedded = sound
        if build in kinds:
            state.__class__ = kinds[build]
        if build == "forgetful":
            forgetful(state._log)
        said, counter = threading.Lock(), iter(range(first, first + count))

        def pour() -> None:
            while True:
                with said:
                    number = next(counter, None)
                if number is None:
                    return
                outcome = state.append([event(number)])[0]
                os.write(1, f"{number} {outcome.status}\n".encode())

        os.write(1, b"ready\n")
        threads = [threading.Thread(target=pour) for _ in range(4 if count > 10**6 else 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
