"""A person opens the Dagster UI, reads an asset, launches a backfill and sees it complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sequence_platform_tests.orchestration.project import DAY, Project, make_project
from sequence_platform_tests.orchestration.server import DagsterServer, running_dagster, wait_until

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
    "--window-size=1600,1000",
)
DAYS = 3


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose days end today (or tomorrow, should midnight pass): all the UI offers."""
    start = datetime.now(UTC).date() - (DAYS - 1) * DAY
    return make_project(tmp_path / "project", days=DAYS + 1, start=start)


@pytest.fixture
def server(project: Project) -> Iterator[DagsterServer]:
    with running_dagster(project.settings) as running:
        yield running


class Browser:
    """A headless browser, used as a person would: it clicks what it can read."""

    def __init__(self, url: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ARGUMENTS:
            options.add_argument(argument)
        service = webdriver.ChromeService(executable_path=DRIVER)
        self.driver = webdriver.Chrome(options=options, service=service)
        self.url = url

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def click(self, label: str) -> None:
        button = (By.XPATH, f"//button[starts-with(normalize-space(.), '{label}')]")
        WebDriverWait(self.driver, 90).until(expect.element_to_be_clickable(button)).click()

    def wait_for(self, text: str) -> None:
        body = (By.TAG_NAME, "body")
        seen = expect.text_to_be_present_in_element(body, text)
        WebDriverWait(self.driver, 90).until(seen, f"no '{text}' on {self.driver.current_url}")

    def text(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)


@pytest.fixture
def browser(server: DagsterServer, tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(server.url)
    try:
        yield opened
    finally:
        opened.driver.save_screenshot(str(tmp_path / "last.png"))
        opened.driver.quit()


def backfills(server: DagsterServer) -> list[dict[str, str]]:
    query = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id } } } }"
    found: list[dict[str, str]] = server.query(query)["partitionBackfillsOrError"]["results"]
    return found


def test_a_backfill_is_launched_in_the_browser_and_completes(
    server: DagsterServer, browser: Browser
) -> None:
    browser.open("/assets/sequences/feed")
    browser.wait_for("What a user did with pins.")
    browser.wait_for("ml@example.com")
    browser.wait_for("Of click, save.")  # the columns, and what they are of

    browser.open("/asset-groups")
    browser.click("Materialize all")
    browser.click("All")
    browser.wait_for(f"{DAYS} partitions")
    browser.click("Launch backfill")
    wait_until(lambda: bool(backfills(server)), 60, "a backfill launched")
    (launched,) = backfills(server)
    assert server.wait_for_backfill(launched["id"]) == "COMPLETED_SUCCESS"

    browser.open(f"/runs/b/{launched['id']}")
    browser.wait_for("Succeeded")
    # An enrichment, two event types enriched and served, a sequence.
    assert browser.text().count("100% completed") == 6

    browser.open("/assets/enriched/click?view=events")
    browser.wait_for("dagster/partition_row_count")
    browser.wait_for("newest_event_time")
    browser.open("/assets/sequences/feed?view=checks")
    browser.wait_for("alignment")
    assert "Failed" not in browser.text()
