"""The demo's last part: the API is up, and a user is fetched before and after an event."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sequence_platform.client import Client
from sequence_platform.clock import Clock
from sequence_platform.demo.shop_live import TOPICS, LiveShop
from sequence_platform.errors import StoreError
from sequence_platform.ports import LogWriter

SEQUENCE = "shop_activity"
START_SECONDS, WAIT_SECONDS = 60.0, 30.0
LOOKS_A_SECOND = 200


@contextmanager
def serving() -> Iterator[str]:
    """Run a server on this machine and yield its URL; end it at the end."""
    # It reads the settings that this process has read.
    process = subprocess.Popen(  # noqa: S603 - this program
        [str(Path(sys.executable).with_name("sequence-platform")), "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield _url(process)
    finally:
        process.terminate()
        process.wait()


def _url(process: subprocess.Popen[str]) -> str:
    heard = []
    for line in process.stdout or ():
        heard.append(line)
        if line.startswith("serving at "):
            return line.split()[2]
    raise StoreError("the server did not start", found="".join(heard)[-500:])


def show_served(
    console: Console, url: str, writer: LogWriter, shop: LiveShop, clock: Clock
) -> None:
    """Fetch a user, let something happen to it, and fetch it until that is in the answer."""
    with Client(url) as client:
        ask = client.sequences.get
        before = ask(SEQUENCE, shop.watched, columns=["event_id"], limit=500)
        known = before.frame["event_id"].to_list()
        name, message = shop.view(clock.now())
        began = time.monotonic()
        writer.append(TOPICS["product_view"], [message])
        while time.monotonic() - began < WAIT_SECONDS:
            after = ask(SEQUENCE, shop.watched, columns=["event_id"], limit=500)
            if name in after.frame["event_id"]:
                passed = (time.monotonic() - began) * 1000
                break
            time.sleep(1 / LOOKS_A_SECOND)
        else:
            raise StoreError("a live event was not served in time", where=url, found=name)
    console.print(
        f"over HTTP, {url}: user {shop.watched} had {len(known)} events; it viewed a product, "
        f"which was in the answer after {passed:.0f} ms"
    )
