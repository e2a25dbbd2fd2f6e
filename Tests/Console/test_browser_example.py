"""The page of examples/clients, in a browser."""

import functools
import http.server
import threading

import pytest
from graft_server import ROOT, Server
from playwright.sync_api import expect


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def origin():
    """A site that has the examples."""
    handler = functools.partial(QuietHandler, directory=ROOT / "examples/clients")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


def test_a_page_of_another_origin(open_page, data_dir, adapters_dir, origin):
    with Server("--adapters", adapters_dir, "--allowed-origins", origin, data_dir=data_dir) as server:
        page = open_page(origin + "/browser.html", expected=["404"])
        page.get_by_label("Server").fill(server.url + "/v1")
        page.get_by_label("Adapter").fill("pirate")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("output")).to_contain_text("Arr, matey! Th' capital o' France be Paris")
        page.get_by_label("Adapter").fill("nobody")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("output")).to_contain_text("nobody")


def test_a_page_that_the_server_does_not_know(open_page, server, origin):
    page = open_page(origin + "/browser.html", expected=["CORS", "Failed to load", "403"])
    page.get_by_label("Server").fill(server.url + "/v1")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("output")).to_have_text("Failed to fetch")
