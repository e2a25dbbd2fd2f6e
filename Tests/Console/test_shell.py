"""The page as a whole: how it is sent, moving between its parts, the key, the colours."""

import httpx
import pytest
from conftest import PHONE
from graft_server import Server
from playwright.sync_api import expect


def test_the_page_is_sent_safely(server):
    reply = server.http.get("/")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert server.http.get("/", headers={"If-None-Match": reply.headers["etag"]}).status_code == 304
    head = server.http.head("/console/main.js")
    assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) > 1000
    assert httpx.get(server.url, headers={"Host": "elsewhere.example"}).status_code == 403
    assert httpx.get(server.url, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_nothing_comes_from_elsewhere(open_page, server):
    page = open_page("about:blank")
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(server.url)
    for name in ("Adapters", "Training", "Server", "Chat"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page).to_have_title(f"{name} – Graft")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    assert len(urls) > 20 and all(url.startswith((server.url, "data:")) for url in urls)


def test_an_address_that_is_not_well_formed(open_page, server):
    page = open_page(f"{server.url}/#%")
    expect(page).to_have_title("Chat – Graft")


def test_the_keyboard_reaches_everything(page):
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Skip to the page").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Chat", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_title("Adapters – Graft")


def test_colours_are_chosen_and_kept(page):
    control = page.locator("#theme")
    expect(control).to_have_attribute("aria-label", "Colours: as the system")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    control.click()
    control.click()
    expect(control).to_have_attribute("aria-label", "Colours: dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Colours: dark")


def test_a_key_is_asked_for(open_page, data_dir, check_access):
    with Server(data_dir=data_dir, api_key="a key") as server:
        page = open_page(server.url, expected=["401"])
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This server needs a key.")
        check_access(page)
        dialog.get_by_label("Key", exact=True).fill("another")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("does not accept this key")
        dialog.get_by_label("Key", exact=True).fill("a key")
        page.keyboard.press("Enter")
        expect(page.get_by_role("combobox", name="Adapter")).to_be_visible()
        page.get_by_role("link", name="Server", exact=True).click()
        expect(page.locator(".figure").first).to_be_visible()
        # The tab keeps the key.
        page.reload()
        expect(page.locator(".figure").first).to_be_visible()
        assert page.evaluate("localStorage.getItem('graft.key')") is None


@pytest.mark.parametrize("name", ["chat", "adapters", "training", "training/new", "server"])
def test_nothing_is_wider_than_a_phone(open_page, server, name):
    page = open_page(f"{server.url}/#{name}", PHONE)
    expect(page.get_by_role("heading", level=1)).to_be_attached()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("document.querySelector('main').scrollWidth") <= PHONE["width"]
