"""What a server tells the service manager, and prompts in its log."""

import json
import os
import signal
import socket
import time

from graft_server import PATIENCE, Server


def test_the_service_manager_is_told(data_dir, monkeypatch):
    name = f"graft-conformance-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(PATIENCE)

        def messages():
            return manager.recv(4096).decode().split("\n")

        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with Server(data_dir=data_dir) as server:
            assert messages()[0].startswith("STATUS=loading ")
            ready = messages()
            assert ready[0] == "READY=1" and server.url in ready[1], ready
            assert messages() == messages() == ["WATCHDOG=1"]
            server.process.send_signal(signal.SIGTERM)
            while (last := messages()) == ["WATCHDOG=1"]:
                pass
            assert last[0] == "STOPPING=1"
            assert server.process.wait(timeout=PATIENCE) == 0


def test_a_service_manager_that_is_not_there(data_dir, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    with Server(data_dir=data_dir) as server:
        assert server.complete("a", max_tokens=1)["choices"]
        assert any("NOTIFY_SOCKET" in line and "/nowhere/notify" in line for line in server.log)


def test_prompts_are_logged_only_if_asked(data_dir, server):
    secret = 'two "lines"\nof a prompt'
    with Server("--log-prompts", "--log-format", "json", data_dir=data_dir, port_line=r'"url":"([^"]+)') as other:
        assert any("--log-prompts" in line and '"warning"' in line for line in other.log)
        for each in (other, server):
            each.complete(secret, max_tokens=1)
            each.http.post("/v1/embeddings", json={"input": [secret + " again", "x"]}).raise_for_status()
            chat = {"messages": [{"role": "user", "content": secret}], "max_tokens": 1}
            each.http.post("/v1/chat/completions", json=chat).raise_for_status()
            assert each.http.post("/v1/completions", json={"prompt": secret, "max_tokens": -1}).status_code == 400
    # The log is read by another thread, to this line at least.
    deadline = time.monotonic() + PATIENCE
    while not any('"stopping"' in line for line in other.log):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    logged = [json.loads(line) for line in other.log if line.startswith("{")]
    prompts = [(line["path"], json.loads(line["text"])) for line in logged if line["message"] == "prompt"]
    assert prompts[:3] == [
        ("/v1/completions", secret), ("/v1/embeddings", secret + " again"), ("/v1/embeddings", "x")]
    path, chat = prompts[3]
    assert len(prompts) == 4 and path == "/v1/chat/completions" and secret in chat and chat != secret
    assert all(line["id"].startswith("req_") for line in logged if line["message"] == "prompt")
    assert not any("of a prompt" in line for line in server.log)
