"""Several workers at once: each reads the log by itself, so a slow sink holds up no other.

The first one leads. Of two processes that read the same shard its fence ends one; were the fences
of followers to end processes, too, each process could lose one and both would end. A follower that
is fenced goes on from what is stored, as its rival does, until the leaders have decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event

from sequence_platform.errors import FencedError
from sequence_platform.runtimes.streaming.worker import StreamWorker

FENCED_SECONDS = 1.0
"""Before a follower that was fenced goes on."""


def run_side_by_side(
    workers: Sequence[StreamWorker], stop: Event, *, until_caught_up: bool = False
) -> None:
    """Run workers until they end; when one fails the others are told to stop.

    But not those that end by themselves, ``until_caught_up``.

    Raises:
        SequencePlatformError: of the worker that failed first.
    """
    with ThreadPoolExecutor(len(workers), thread_name_prefix="stream") as pool:
        running = [
            pool.submit(
                _lead if number == 0 else _follow, worker, stop, until_caught_up=until_caught_up
            )
            for number, worker in enumerate(workers)
        ]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        failures = [error for each in done if (error := each.exception()) is not None]
        if failures and not until_caught_up:
            stop.set()
    for each in [*failures, *(e for r in running if (e := r.exception()) is not None)]:
        raise each


def _lead(worker: StreamWorker, stop: Event, *, until_caught_up: bool) -> None:
    worker.run(stop, until_caught_up=until_caught_up)


def _follow(worker: StreamWorker, stop: Event, *, until_caught_up: bool) -> None:
    while True:
        try:
            return worker.run(stop, until_caught_up=until_caught_up)
        except FencedError:
            if stop.wait(FENCED_SECONDS):
                return None
