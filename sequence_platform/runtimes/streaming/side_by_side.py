"""Several workers at once: each reads the log by itself, so a slow sink holds up no other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event

from sequence_platform.runtimes.streaming.worker import StreamWorker


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
            pool.submit(worker.run, stop, until_caught_up=until_caught_up) for worker in workers
        ]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        failures = [error for each in done if (error := each.exception()) is not None]
        if failures and not until_caught_up:
            stop.set()
    for each in [*failures, *(e for r in running if (e := r.exception()) is not None)]:
        raise each
