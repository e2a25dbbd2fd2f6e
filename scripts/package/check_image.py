"""Checks an OCI image: what it says of itself, what is in its layers, and that its entry point serves the small model as the
image's user. Needs root. Usage: check_image.py ARCHIVE MODEL"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

archive, model = (Path(argument).resolve() for argument in sys.argv[1:])
KEY = "check"


def run(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=300).stdout


def ask(port, path, body=None, key=KEY):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    return json.load(urllib.request.urlopen(request, timeout=300))


def await_ready(port, process):
    for _ in range(600):
        try:
            return ask(port, "/ready")
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
    raise SystemExit("check-image: the server never became ready")


image = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{archive}"))
settings = image["config"]
assert image["os"] == "linux" and image["architecture"] in ("amd64", "arm64"), image
assert settings["Entrypoint"] == ["/usr/bin/graft"] and settings["Cmd"] == ["serve"]
assert set(settings["ExposedPorts"]) == {"8080/tcp"} and set(settings["Volumes"]) == {"/var/lib/graft"}
user, group = map(int, settings["User"].split(":"))
assert user and group, "the image's user is root"
environment = dict(pair.split("=", 1) for pair in settings["Env"])

with tempfile.TemporaryDirectory(prefix="graft-check-image-") as name:
    folder = Path(name)
    folder.chmod(0o755)
    run("skopeo", "--insecure-policy", "copy", f"oci-archive:{archive}", f"oci:{folder}/layout:image")
    run("umoci", "unpack", "--image", f"{folder}/layout:image", folder / "bundle")
    root = folder / "bundle/rootfs"
    assert (root / "usr/bin/graft").stat().st_mode & 0o111 and not (root / "usr/share/man/man1").exists()
    data = (root / "var/lib/graft").stat()
    assert (data.st_uid, data.st_gid, data.st_mode & 0o777) == (user, group, 0o700)
    assert not (root / "usr/bin/apt-get").exists() and not list((root / "tmp").iterdir())
    assert not list((root / "var/lib/apt/lists").glob("*_Packages*"))
    (root / "models").mkdir()
    shutil.copy(model, root / "models/model.gguf")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    run("mount", "-t", "proc", "proc", root / "proc")
    chroot = ["/usr/sbin/chroot", f"--userspec={user}:{group}", "--groups=", str(root), *settings["Entrypoint"], *settings["Cmd"],
              "--model", "/models/model.gguf"]
    try:
        # Without a key it would answer everybody.
        refused = subprocess.run(chroot, env=environment, capture_output=True, text=True, timeout=300)
        assert refused.returncode == 2 and "--api-key" in refused.stderr, refused
        process = subprocess.Popen(
            chroot, env=environment | {"GRAFT_API_KEY": KEY, "GRAFT_PORT": str(port)}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        await_ready(port, process)
        answer = ask(port, "/v1/completions", {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0})
        assert "Paris" in answer["choices"][0]["text"], answer
        process.terminate()
        assert process.wait(60) == 0
    finally:
        run("umount", "-l", root / "proc")
size = os.path.getsize(archive) // 1_000_000
print(f"check-image: passed ({size} MB, user {user}:{group})")
