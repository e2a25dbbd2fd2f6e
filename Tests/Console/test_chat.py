"""The chat, against the real model."""

import json
import re

from playwright.sync_api import expect

QUESTION = "Name three colours."


def settings(page, **values):
    page.get_by_role("button", name="Settings").click()
    for label, value in values.items():
        control = page.get_by_label(label.replace("_", " "))
        control.check() if value is True else control.fill(str(value))
    page.get_by_role("button", name="Settings").click()


def send(page, text, wait=True):
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")
    if wait:
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=60_000)


def answer(server, messages, **fields):
    body = {"messages": messages, "temperature": 0, "max_tokens": 12} | fields
    reply = server.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


def user(text):
    return {"role": "user", "content": text}


def texts(page):
    return page.locator(".answer .text").all_text_contents()


def test_two_adapters_answer_what_the_api_answers(page, server):
    settings(page, Temperature=0, Maximum_tokens=12, System_prompt="Be brief.")
    page.get_by_role("button", name="Compare two adapters").click()
    page.get_by_label("Adapter of column 1").get_by_role("combobox").select_option("pirate")
    page.get_by_label("Scale of pirate").fill("0.5")
    send(page, QUESTION)
    system = {"role": "system", "content": "Be brief."}
    first = [answer(server, [system, user(QUESTION)], adapter=adapter) for adapter in ("pirate:0.5", "base")]
    assert texts(page) == first and first[0] != first[1]
    for status in page.locator(".status").all():
        expect(status).to_have_text(re.compile(r"tokens/s · first after .* · \d+ tokens"))
    # Each column continues its own conversation.
    send(page, "And one more?")
    second = [
        answer(server, [system, user(QUESTION), {"role": "assistant", "content": text}, user("And one more?")], adapter=adapter)
        for text, adapter in zip(first, ("pirate:0.5", "base"))
    ]
    assert texts(page) == first + second


def test_a_mix_of_adapters(page, server):
    settings(page, Temperature=0, Maximum_tokens=12)
    page.get_by_label("Adapter", exact=True).get_by_role("combobox").select_option("pirate")
    page.get_by_role("button", name="Mix another adapter in").click()
    page.get_by_label("Scale of pirate").fill("0.4")
    page.get_by_label("Scale of shout").fill("0.6")
    send(page, QUESTION)
    assert texts(page) == [answer(server, [user(QUESTION)], adapter="pirate:0.4,shout:0.6")]
    expect(page.locator(".who")).to_have_text("pirate:0.4 + shout:0.6")


def test_stop_edit_and_retry(page, server):
    settings(page, Temperature=0, Maximum_tokens=4000)
    send(page, "Write a long story about a ship, with many chapters.", wait=False)
    expect(page.locator(".answer .text")).to_have_text(re.compile(r"\S+ \S+"))
    page.keyboard.press("Escape")
    expect(page.locator(".status")).to_contain_text("stopped")
    partial = texts(page)
    settings(page, Maximum_tokens=12)
    send(page, "And then?")
    assert len(texts(page)) == 2 and texts(page)[:1] == partial
    page.get_by_role("button", name="Edit").first.click()
    editor = page.get_by_label("Edit the message")
    editor.fill(QUESTION)
    editor.press("Enter")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expected = answer(server, [user(QUESTION)])
    assert texts(page) == [expected]
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".answer[aria-busy='true']")).to_have_count(0)
    expect(page.locator(".answer .text")).to_have_text(expected)


def test_logprobs(page, server):
    settings(page, Temperature=0, Maximum_tokens=6, **{"Log-probabilities of tokens": True})
    send(page, QUESTION)
    reply = server.http.post("/v1/chat/completions", json={
        "messages": [user(QUESTION)], "temperature": 0, "max_tokens": 6, "logprobs": True, "top_logprobs": 5,
    }).json()["choices"][0]["logprobs"]["content"]
    page.locator(".token").nth(1).hover()
    tip = page.get_by_role("tooltip")
    expect(tip.locator("tr")).to_have_count(5)
    expect(tip.locator(".drawn .number").first).to_have_text(f"{reply[1]['logprob']:.3f}")
    # The same by keyboard.
    page.get_by_label("Text of the answer").focus()
    page.keyboard.press("ArrowRight")
    expect(tip.locator(".drawn .number").first).to_have_text(f"{reply[2]['logprob']:.3f}")
    page.keyboard.press("Escape")
    expect(tip).to_have_count(0)


def test_answers_are_text_and_conversations_are_kept(page, server):
    markup = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
    settings(page, Temperature=0, Maximum_tokens=1)
    event = {"choices": [{"delta": {"content": markup}}]}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        content_type="text/event-stream", body=f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"))
    send(page, markup)
    assert texts(page) == [markup] and page.locator(".turns img, .turns b").count() == 0
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.reload()
    expect(page.locator(".answer .text")).to_have_text(markup)
    expect(page).to_have_title("Chat – Graft")
    page.get_by_role("button", name="Delete “").click(force=True)
    expect(page.locator(".entry")).to_have_count(0)
    page.reload()
    expect(page.locator(".turn")).to_have_count(0)


def test_an_error_is_shown(open_page, server):
    page = open_page(server.url, expected=["400"])
    settings(page, Maximum_tokens=999999)
    send(page, QUESTION)
    expect(page.locator(".failed .status")).to_contain_text("max_tokens")


def test_everyone_can_read_it(open_page, server, in_all_looks, check_access):
    page = open_page(f"{server.url}/#chat/pirate|base")
    settings(page, Temperature=0, Maximum_tokens=24, **{"Log-probabilities of tokens": True})
    page.get_by_role("button", name="Settings").click()
    check_access(page)
    page.get_by_role("button", name="Settings").click()
    send(page, QUESTION)
    page.get_by_label("Text of the answer").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tooltip")).to_be_visible()
    in_all_looks(page, "chat")
