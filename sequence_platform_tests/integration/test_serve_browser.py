"""A person gives a key, reads what a sequence is, and why a user's events are there or not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sequence_platform.api.keys import KeyRing
from sequence_platform.wiring import open_online
from sequence_platform_tests.integration.http_server import HttpServer, serving
from sequence_platform_tests.served import NOW, make_served, stream

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402 - after the skip
from selenium.webdriver.support import expected_conditions as expect  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs Chromium and its driver (Debian: chromium, chromium-driver)",
    ),
]

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root in a container
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but loopback
    "--window-size=1400,1000",
)


class Browser:
    """A headless browser, used as a person would: it clicks and types what it can read."""

    def __init__(self, *arguments: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for argument in (*ARGUMENTS, *arguments):
            options.add_argument(argument)
        service = webdriver.ChromeService(executable_path=DRIVER)
        self.driver = webdriver.Chrome(options=options, service=service)

    def open(self, url: str) -> None:
        self.driver.get(url)

    def type(self, field: str, text: str) -> None:
        self.driver.find_element(By.NAME, field).send_keys(text)

    def click(self, label: str) -> None:
        place = f"//*[self::button or self::a][normalize-space(.) = '{label}']"
        self.driver.find_element(By.XPATH, place).click()

    def wait_for(self, text: str) -> None:
        body = (By.TAG_NAME, "body")
        seen = expect.text_to_be_present_in_element(body, text)
        WebDriverWait(self.driver, 30).until(seen, f"no '{text}' on {self.driver.current_url}")

    def text(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def save(self, path: Path) -> None:
        """Save the whole page as a picture."""
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        self.driver.set_window_size(1400, max(600, height + 150))
        self.driver.save_screenshot(str(path))

    def complaints(self) -> list[str]:
        """Return what the console complains about, such as a blocked style."""
        found = (entry["message"] for entry in self.driver.get_log("browser"))
        return [each for each in found if "401" not in each]


@pytest.fixture(params=["light", "dark"])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    dark = ["--blink-settings=preferredColorScheme=0"] if request.param == "dark" else []
    opened = Browser(*dark)
    yield opened
    opened.driver.quit()


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[tuple[HttpServer, str]]:
    """A server that wants a key, of a project whose user 7 clicked a lot lately."""
    served = make_served(tmp_path / "project")
    with open_online(served.settings) as store:
        start = datetime(2026, 3, 2, 2, tzinfo=UTC)
        rows = [
            (f"click-{n}", 7, start + timedelta(minutes=n * n), n // 2, n / 7, [n / 2, 1.5])
            for n in range(20)
        ]
        stream(store, served.plan.events["click"], rows, 3)
    key = KeyRing.of(served.settings).create("person", "people", ("*",), None)
    with serving(served.settings, workers=1) as server:
        yield server, key


def test_a_person_sees_why_an_event_is_in_a_sequence(
    keyed: tuple[HttpServer, str], browser: Browser, tmp_path: Path
) -> None:
    server, key = keyed
    browser.open(server.url)
    browser.wait_for("This server needs a key")
    browser.type("key", "sp_wrong")
    browser.click("Open")
    browser.wait_for("That key is not known.")
    browser.save(tmp_path / "login.png")
    browser.type("key", key)
    browser.click("Open")

    browser.wait_for("What a user did with pins.")
    browser.wait_for("key person")
    browser.save(tmp_path / "definitions.png")
    browser.click("feed")
    browser.wait_for("microseconds since 1970-01-01, UTC")
    browser.save(tmp_path / "sequence.png")

    browser.type("entity", "7")
    browser.type("as_of", NOW.isoformat())
    browser.click("Show its sequence")
    browser.wait_for("events in the sequence")
    browser.save(tmp_path / "timeline.png")
    text = browser.text()
    for part in ("cut: repeats another event", "cut: newer events fill the sequence", "tail"):
        assert part in text
    assert "<b>boards & co</b>" in text  # as text, not as bold

    browser.open(f"{server.url}/sequences/feed/timeline?entity=abc")
    browser.wait_for("an integer")
    browser.save(tmp_path / "refused.png")
    browser.click("forget it")
    browser.wait_for("This server needs a key")
    assert not [each for each in browser.complaints() if "400" not in each]
