"""A server, a browser, and pages that fail their test when the browser reports an error."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Conformance"))
from graft_server import ROOT  # noqa: E402
from server_fixtures import data_dir, require_server, server  # noqa: E402, F401

BROWSER = shutil.which("chromium")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
# WCAG 2.2 at level AA, and axe's good practices.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def pytest_configure(config):
    require_server()
    if BROWSER is None:
        pytest.exit("chromium is missing: make setup", returncode=1)


@pytest.fixture(scope="session")
def adapters_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for name in ("pirate", "shout"):
        shutil.copytree(ROOT / "examples/adapters" / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens pages with storage of their own. Errors in the console, and exceptions, fail the test."""
    contexts, errors = [], []

    def open_page(url, size=DESKTOP, scheme="light", expected=(), **options):
        context = browser.new_context(viewport=size, color_scheme=scheme, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()

        def report(message):
            if message.type in ("error", "warning") and not any(text in message.text for text in expected):
                errors.append(message.text)

        page.on("console", report)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page, server):
    return open_page(server.url)


@pytest.fixture(scope="session")
def check_access():
    """Holds a page to axe's rules, which include the contrast of colours."""
    axe = Axe()

    def check(page):
        results = axe.run(page, options=RULES)
        found = [(entry["id"], [node["html"] for node in entry["nodes"]]) for entry in results.response["violations"]]
        assert found == []

    return check


@pytest.fixture
def in_all_looks(check_access):
    """Holds a page to the rules at a desktop's and a phone's width, in light and dark colours, where nothing is wider than the
    screen. Takes pictures if CONSOLE_PICTURES names a folder for them."""
    folder = os.environ.get("CONSOLE_PICTURES")

    def check(page, name=None):
        for size, device in ((DESKTOP, "desktop"), (PHONE, "phone")):
            page.set_viewport_size(size)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                check_access(page)
                assert page.evaluate("document.querySelector('main').scrollWidth") <= size["width"]
                if folder and name:
                    page.screenshot(path=Path(folder) / f"{name}-{device}-{scheme}.png")

    return check
