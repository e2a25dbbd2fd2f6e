"""The pages of training jobs."""

import json
import re

import pytest
from graft_server import ROOT
from playwright.sync_api import expect

ROWS = (ROOT / "examples/data/pirate.jsonl").read_text().splitlines()


def data(lines):
    return {"name": "rows.jsonl", "mimeType": "application/jsonl", "buffer": "\n".join(lines).encode() + b"\n"}


def new_job(open_page, server, lines):
    page = open_page(f"{server.url}/#training/new")
    page.get_by_label("Choose a JSONL file").set_input_files(data(lines))
    return page


def result(page, name):
    return page.locator("dl.facts dt", has_text=re.compile(f"^{name}$")).locator("xpath=following-sibling::dd[1]")


@pytest.fixture(scope="module")
def finished(server):
    """Two jobs that have ended, which differ in their rank."""
    file = server.client().files.create(file=("rows.jsonl", "\n".join(ROWS[:8]).encode()), purpose="fine-tune")
    jobs = []
    for rank in (2, 4):
        settings = {"n_epochs": 2, "batch_size": 4, "lora_r": rank, "validation_split": 0.25, "checkpoint_steps": 1}
        body = {
            "model": "base", "training_file": file.id, "suffix": f"rank-{rank}", "seed": 1,
            "method": {"type": "supervised", "supervised": {"hyperparameters": settings}},
        }
        jobs.append(server.http.post("/v1/fine_tuning/jobs", json=body).json()["id"])
    for job in jobs:
        with server.http.stream("GET", f"/v1/fine_tuning/jobs/{job}/events?stream=true") as events:
            events.read()
        assert server.http.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] == "succeeded"
    return jobs


def test_problems_are_shown_by_line(open_page, server):
    lines = [ROWS[0], "{", json.dumps({"messages": [{"role": "robot", "content": "x"}]}), ROWS[1]]
    page = new_job(open_page, server, lines)
    problems = page.get_by_label("Problems")
    expect(problems.get_by_role("heading")).to_have_text(re.compile(r"The training file has \d problems"))
    expect(problems.locator("li").first).to_contain_text("Line 2")
    expect(problems).to_contain_text("invalid_json")
    expect(problems).to_contain_text("unrecognized_role")
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()


def test_a_preview_and_an_estimate(open_page, server):
    page = new_job(open_page, server, ROWS)
    learnt = page.get_by_label("Trained tokens").locator("pre").first.locator("mark")
    expect(learnt).to_have_text(json.loads(ROWS[0])["messages"][1]["content"] + "<|im_end|>")
    expect(result(page, "Examples")).to_have_text("36")
    expect(result(page, "Steps")).to_have_text("27")
    expect(result(page, "Time")).to_have_text(re.compile("about .*"))
    expect(result(page, "Memory")).to_have_text(re.compile(r"MiB beside the model"))
    page.get_by_label("Epochs").fill("1")
    page.get_by_label("Held out for validation").fill("0.25")
    expect(result(page, "Examples")).to_have_text("27, 9 for validation")
    expect(result(page, "Steps")).to_have_text("7")


def test_settings_that_cannot_be_used_are_named(open_page, server):
    page = open_page(f"{server.url}/#training/new", expected=["400"])
    page.get_by_label("Choose a JSONL file").set_input_files(data(ROWS[:4]))
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()
    page.get_by_text("More settings").click()
    page.get_by_label("Modules").fill("q_proj, nothing")
    expect(page.locator(".two .bad")).to_contain_text("nothing")
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()


def test_a_job_from_start_to_end(open_page, server):
    page = new_job(open_page, server, ROWS[:12])
    page.get_by_label("Name of the result").fill("console")
    page.get_by_label("Epochs").fill("30")
    page.get_by_label("Rank").fill("2")
    page.get_by_text("More settings").click()
    page.get_by_label("Steps between checkpoints").fill("2")
    start = page.get_by_role("button", name="Start training")
    page.wait_for_timeout(500)
    expect(start).to_be_enabled()
    start.click()
    # Figures come while the job runs.
    step = page.locator(".figure", has_text="Step").locator("strong")
    expect(step).to_have_text(re.compile(r"\d+ of 90"), timeout=60_000)
    job = page.url.rsplit("/", 1)[1]
    expect(page.get_by_label("Loss: chart").locator("path.s0")).to_be_attached()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".title .badge")).to_have_text("paused", timeout=30_000)
    assert server.http.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] == "paused"
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".title .badge")).to_have_text("running", timeout=30_000)
    # A checkpoint answers in the chat while the job runs, and its samples stand beside the base's.
    chat = page.get_by_label("Checkpoints").get_by_role("link", name="Chat with step").first
    expect(chat).to_be_visible(timeout=60_000)
    expect(page.get_by_label("Samples").locator("dt", has_text="Step").first).to_be_visible()
    expect(page.get_by_label("Samples").locator("dd:not(.muted)").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".title .badge")).to_have_text("cancelled", timeout=30_000)
    assert server.http.get(f"/v1/fine_tuning/jobs/{job}").json()["status"] == "cancelled"


def test_a_checkpoint_in_the_chat(open_page, server, finished):
    page = open_page(f"{server.url}/#training/{finished[0]}")
    page.get_by_role("link", name="Chat with step 3").click()
    expect(page).to_have_title("Chat – Graft")
    first = page.get_by_role("combobox", name="Adapter of column 1")
    expect(first).to_have_value(re.compile("rank-2.*:ckpt-step-3$"))
    expect(page.get_by_role("combobox", name="Adapter of column 2")).to_have_value("")


def test_samples_beside_the_bases(open_page, server, finished):
    page = open_page(f"{server.url}/#training/{finished[0]}")
    samples = page.get_by_label("Samples")
    samples.get_by_text("Prompts").click()
    samples.get_by_label("One a line").fill("Who are you?")
    samples.get_by_role("button", name="Ask these").click()
    expect(samples.locator("dd.muted")).to_have_count(0, timeout=60_000)
    reply = server.http.post("/v1/chat/completions", json={
        "messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0, "max_tokens": 48,
    }).json()["choices"][0]["message"]["content"]
    assert samples.locator("dd").first.text_content() == reply
    assert samples.locator("dt").all_text_contents()[::3] == ["Base", "Step 3"]


def test_samples_that_the_server_made(open_page, server):
    """They are there whenever the page is opened, and the page asks for nothing."""
    page = new_job(open_page, server, ROWS[:8])
    page.get_by_label("Epochs").fill("2")
    page.get_by_role("spinbutton", name="Rank").fill("2")
    page.get_by_text("More settings").click()
    page.get_by_label("Prompts for samples").fill("Who are you?\n\n What is snow? ")
    start = page.get_by_role("button", name="Start training")
    page.wait_for_timeout(500)
    expect(start).to_be_enabled()
    start.click()
    expect(page.locator(".title .badge")).to_have_text("succeeded", timeout=60_000)
    job = page.url.rsplit("/", 1)[1]
    expect(page.get_by_label("Samples").locator("dd.muted")).to_have_count(0, timeout=60_000)
    assert server.http.get(f"/v1/fine_tuning/jobs/{job}").json()["sample_prompts"] == ["Who are you?", "What is snow?"]
    kept = server.http.get(f"/v1/fine_tuning/jobs/{job}/checkpoints").json()["data"][0]["samples"]
    later = open_page(server.url)
    asked = []
    later.on("request", lambda request: asked.append(request.url) if "completions" in request.url else None)
    later.goto(f"{server.url}/#training/{job}")
    samples = later.get_by_label("Samples")
    expect(samples.locator("dd.muted")).to_have_count(0)
    expect(samples.locator("h3")).to_have_text(["Who are you?", "What is snow?"])
    for index, sample in enumerate(kept):
        answers = samples.locator(".sample").nth(index).locator("dd").all_text_contents()
        assert (answers[0], answers[-1]) == (sample["base"], sample["answer"])
    assert asked == []


def test_curves_over_each_other(open_page, server, finished):
    page = open_page(f"{server.url}/#training")
    for job in finished:
        page.locator(f"[data-key='{job}']").check()
    page.get_by_role("button", name="Overlay their curves").click()
    overlay = page.get_by_label("Overlay", exact=True)
    chart = overlay.get_by_label("Training loss: chart")
    expect(chart.locator("path")).to_have_count(2)
    expect(overlay.get_by_role("row").filter(has_text="lora_r")).to_contain_text(re.compile("lora_r[24][42]"))
    loss = [event for event in server.http.get(f"/v1/fine_tuning/jobs/{finished[0]}/events?limit=100").json()["data"]
            if event["type"] == "metrics"][0]["data"]["train_loss"]
    chart.focus()
    page.keyboard.press("ArrowRight")
    expect(overlay.locator(".readout").first).to_contain_text(str(float(f"{loss:.3g}")))


def test_everyone_can_read_it(open_page, server, finished, in_all_looks):
    page = new_job(open_page, server, ROWS)
    expect(result(page, "Time")).to_have_text(re.compile("about .*"))
    in_all_looks(page, "form")
    page.goto(f"{server.url}/#training/{finished[1]}")
    expect(page.get_by_label("Samples").locator("dd.muted")).to_have_count(0, timeout=60_000)
    in_all_looks(page, "job")
    page.goto(f"{server.url}/#training")
    expect(page.locator(f"[data-key='{finished[0]}']")).to_be_visible()
    in_all_looks(page, "training")
