"""The page of the server's figures."""

import re

from playwright.sync_api import expect


def figure(page, name):
    return page.locator(".figure", has_text=name).locator("strong")


def row(page, name):
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))


def test_figures_follow_requests(open_page, server):
    page = open_page(f"{server.url}/#server")
    expect(figure(page, "Running")).to_have_text("0")
    before = server.http.get("/metrics").text
    counted = re.search(r'graft_generated_tokens_total\{adapter="shout"\} (\d+)', before)
    expected = int(counted[1] if counted else 0) + 30
    server.complete("Once upon a time", query={"adapter": "shout"}, max_tokens=30, ignore_eos=True)
    expect(row(page, "shout").locator("td").nth(5)).to_have_text(str(expected))
    expect(figure(page, "First token")).to_have_text(re.compile(r"\d.* / \d"))
    expect(figure(page, "Gap")).to_have_text(re.compile(r"\d.* / \d"))
    expect(figure(page, "Adapters in memory")).to_have_text(re.compile(r"MiB of 1.00 GiB"))
    chart = page.get_by_label("Tokens per second: chart")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".chart", has=chart).locator(".readout")).to_have_text(re.compile("generated .* · prompts"))


def test_a_server_that_is_gone_is_noticed(open_page, server):
    page = open_page(f"{server.url}/#server", expected=["ERR_FAILED", "ERR_CONNECTION"])
    expect(figure(page, "Running")).to_have_text("0")
    page.route("**/metrics", lambda route: route.abort())
    expect(page.locator(".frame .bad")).to_have_text("The server cannot be reached")
    page.unroute("**/metrics")
    expect(page.locator(".frame .bad")).to_have_text("")


def test_everyone_can_read_it(open_page, server, in_all_looks):
    page = open_page(f"{server.url}/#server")
    for adapter in ("pirate", "base", "shout"):
        server.complete("Once upon a time", query={"adapter": adapter}, max_tokens=40, ignore_eos=True)
        page.wait_for_timeout(600)
    expect(row(page, "pirate")).to_be_attached()
    in_all_looks(page, "server")
