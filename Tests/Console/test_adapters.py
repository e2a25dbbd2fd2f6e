"""The page of adapters."""

import io
import json
import re
import shutil
import struct
import tarfile
import zipfile

import pytest
from graft_server import ROOT
from playwright.sync_api import expect

PIRATE = ROOT / "examples/adapters/pirate"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def page(open_page, server):
    return open_page(f"{server.url}/#adapters")


@pytest.fixture
def mine(server):
    """A name that the test's adapter gets, and that is removed afterwards."""
    yield "mine"
    server.http.delete("/v1/adapters/mine")


def state(server, name):
    return server.http.get(f"/v1/adapters/{name}").json()


def archive(change=lambda data: data, **files):
    """A zip archive of the adapter in a folder, with further files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in FILES:
            target.write(PIRATE / name, f"a folder/{name}")
        for name, content in files.items():
            target.writestr(name, content)
    return {"name": "mine.zip", "mimeType": "application/zip", "buffer": bytes(change(bytearray(buffer.getvalue())))}


def row(page, name):
    return page.get_by_role("row").filter(has=page.get_by_label(f"Select {name}"))


def upload(page, files, name="mine"):
    page.get_by_label("Choose files or a zip").set_input_files(files)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator(".notice")).to_contain_text(f"{name} is loaded")


def test_the_list_says_what_the_server_knows(page, server):
    before = len(server.http.get("/v1/adapters").json()["data"])
    expect(page.locator("table.adapters > tbody > tr")).to_have_count(before)
    server.complete("Once", query={"adapter": "pirate:0.5,shout:0.5"}, max_tokens=1)
    metrics = server.http.get("/metrics").text
    served = sum(
        int(number) for label, number in re.findall(r'graft_requests_total\{adapter="([^"]*)",[^}]*\} (\d+)', metrics)
        if "pirate" in label
    )
    expect(row(page, "pirate").locator("td").nth(6)).to_have_text(str(served))
    expect(row(page, "pirate")).to_contain_text("In memory")
    page.get_by_label("Filter by name").fill("shou")
    expect(page.locator("table.adapters > tbody > tr")).to_have_count(1)


@pytest.mark.parametrize("kind", ["files", "folder", "zip"])
def test_upload(page, server, mine, kind):
    if kind == "folder":
        page.get_by_label("Choose a folder").set_input_files(PIRATE)
        expect(page.get_by_label("Name", exact=True)).to_have_value("pirate")
        page.get_by_label("Name", exact=True).fill(mine)
        page.get_by_label("Keep in memory (pinned)").check()
        page.get_by_role("button", name="Upload", exact=True).click()
    else:
        upload(page, [PIRATE / name for name in FILES] if kind == "files" else archive(notes="more"))
    expect(row(page, mine)).to_contain_text("Pinned" if kind == "folder" else "In memory")
    assert state(server, mine)["content_hash"] == state(server, "pirate")["content_hash"]


def drop(page, path):
    """Drops a file or a folder of the disk on the page, as the mouse would."""
    area = page.locator(".drop")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {
            "type": kind, "x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2,
            "data": {"items": [], "files": [str(path)], "dragOperationsMask": 1}})
    session.detach()


@pytest.mark.parametrize("depth", [0, 1])
def test_a_folder_is_dropped(page, server, tmp_path, depth):
    """The adapter's folder, or one that holds it beside something else."""
    folder = tmp_path / "dropped" if depth == 0 else tmp_path / "all/dropped"
    shutil.copytree(PIRATE, folder)
    (folder.parent / "notes.txt").write_text("nothing")
    drop(page, folder if depth == 0 else folder.parent)
    expect(page.get_by_label("Name", exact=True)).to_have_value("dropped")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(row(page, "dropped")).to_contain_text("In memory")
    assert state(server, "dropped")["content_hash"] == state(server, "pirate")["content_hash"]
    server.http.delete("/v1/adapters/dropped")


def test_a_folder_without_an_adapter_is_dropped(page, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    drop(page, tmp_path)
    expect(page.locator(".notice.error")).to_contain_text("There is no folder with adapter_config.json")


def test_files_are_dropped(page, server, mine):
    """A drop of files that are no part of a file system, as from another page."""
    files = {name: list((PIRATE / name).read_bytes()) for name in FILES}
    page.evaluate("""(files) => {
      const transfer = new DataTransfer();
      for (const [name, bytes] of Object.entries(files)) transfer.items.add(new File([new Uint8Array(bytes)], name));
      document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""", files)
    page.get_by_label("Name", exact=True).fill(mine)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(row(page, mine)).to_contain_text("In memory")


def oversized(data):
    """The central directory says that the last file is larger than it is allowed to be."""
    at = data.rindex(b"PK\x01\x02")
    data[at + 24:at + 28] = struct.pack("<I", 0xFFFFFFFE)
    return data


def understated(data):
    """The central directory says that the weights unpack to ten bytes."""
    at = data.rindex(b"PK\x01\x02")
    data[at + 24:at + 28] = struct.pack("<I", 10)
    return data


@pytest.mark.parametrize("change,message", [
    (oversized, "more than 4 GiB"), (understated, "cannot be unpacked"), (lambda data: data[:-40], "no zip archive"),
    (lambda data: data[:100] + data[200:], "damaged"), (lambda data: b"text", "no zip archive"),
])
def test_a_hostile_archive_is_refused(page, server, change, message):
    page.get_by_label("Choose files or a zip").set_input_files(archive(change))
    submit = page.get_by_role("button", name="Upload", exact=True)
    notice = page.locator(".notice.error")
    expect(submit.or_(notice).first).to_be_visible()
    if submit.is_visible():
        page.get_by_label("Name", exact=True).fill("mine")
        submit.click()
    expect(notice).to_contain_text(message)
    assert server.http.get("/v1/adapters/mine").status_code == 404


def test_what_the_server_refuses_is_shown(open_page, server):
    page = open_page(f"{server.url}/#adapters", expected=["400"])
    broken = {"name": FILES[0], "mimeType": "application/json", "buffer": b"{}"}
    weights = {"name": FILES[1], "mimeType": "application/octet-stream", "buffer": (PIRATE / FILES[1]).read_bytes()}
    page.get_by_label("Choose files or a zip").set_input_files([broken, weights])
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator(".notice.error")).to_contain_text("adapter_config.json")


def test_the_actions(page, server, mine):
    upload(page, archive())
    first = state(server, mine)["version"]
    page.get_by_label("More about mine").click()
    details = page.locator("tr.details")
    details.get_by_role("button", name="Pin in memory").click()
    expect(row(page, mine)).to_contain_text("Pinned")
    assert state(server, mine)["pinned"] is True
    details.get_by_role("button", name="Unpin").click()
    expect(row(page, mine)).not_to_contain_text("Pinned")
    details.get_by_role("button", name="Unload").click()
    expect(row(page, mine)).to_contain_text("Unloaded")
    assert state(server, mine)["state"] == "unloaded"
    details.get_by_role("button", name="Load", exact=True).click()
    expect(row(page, mine)).to_contain_text("In memory")
    # Another version, and back to the first.
    shout = [ROOT / "examples/adapters/shout" / name for name in FILES]
    upload(page, shout)
    expect(details.locator(".versions tbody tr")).to_have_count(2)
    details.get_by_role("button", name="Make current").click()
    expect(row(page, mine).locator("td").nth(3)).to_have_text(str(first))
    assert state(server, mine)["content_hash"] == state(server, "pirate")["content_hash"]
    with page.expect_download() as download:
        details.get_by_role("button", name=f"Download version {first + 1}").click()
    with tarfile.open(download.value.path()) as tar:
        assert tar.extractfile(f"{mine}/{FILES[1]}").read() == shout[1].read_bytes()
    details.get_by_role("button", name=f"Delete version {first + 1}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(details.locator(".versions tbody tr")).to_have_count(1)
    details.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert state(server, mine)["versions"]
    details.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_label("Select mine")).to_have_count(0)
    assert server.http.get("/v1/adapters/mine").status_code == 404


def test_loading_from_the_servers_folder(page, server, mine):
    page.get_by_role("button", name="Load from the server's folder").click()
    page.get_by_role("textbox", name="Folder").fill("shout")
    page.get_by_label("Name", exact=True).fill(mine)
    page.get_by_role("dialog").get_by_role("button", name="Load").click()
    expect(row(page, mine)).to_be_visible()
    assert state(server, mine)["content_hash"] == state(server, "shout")["content_hash"]


def test_compare_and_mix(page, server, mine):
    config = json.loads((PIRATE / FILES[0]).read_text()) | {"lora_alpha": 8}
    upload(page, [
        {"name": FILES[0], "mimeType": "application/json", "buffer": json.dumps(config).encode()},
        {"name": FILES[1], "mimeType": "application/octet-stream", "buffer": (PIRATE / FILES[1]).read_bytes()},
    ])
    page.get_by_label("Select mine").check()
    page.get_by_label("Select pirate").check()
    page.get_by_role("button", name="Compare configurations").click()
    expect(page.get_by_role("heading", name="1 settings differ")).to_be_visible()
    expect(page.locator("tr.differs")).to_have_text(["lora_alpha816"])
    page.get_by_label("Scale of mine").fill("0.5")
    page.get_by_role("button", name="Mix in the chat").click()
    expect(page).to_have_title("Chat – Graft")
    expect(page.get_by_label("Scale of mine")).to_have_value("0.5")
    expect(page.get_by_label("Scale of pirate")).to_have_value("1")


def test_everyone_can_read_it(open_page, server, in_all_looks):
    page = open_page(f"{server.url}/#adapters")
    page.get_by_label("Select pirate").check()
    page.get_by_label("Select shout").check()
    expect(page.get_by_label("Scale of shout")).to_be_visible()
    in_all_looks(page, "adapters")
    page.get_by_label("More about pirate").click()
    expect(page.locator(".versions")).to_be_visible()
    page.get_by_role("button", name="Compare configurations").click()
    expect(page.get_by_role("region", name="Configurations side by side")).to_be_visible()
    in_all_looks(page)
