"""Checks the Debian package in a fresh root of Debian: it installs, serves the small model under the unit's limits, is upgraded,
removed and purged. Needs root. Usage: check_deb.py PACKAGE MODEL ROOT.tar, where ROOT.tar has systemd."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

package, model, archive = (Path(argument).resolve() for argument in sys.argv[1:])
PATIENCE = 300
UNIT = Path(__file__).resolve().parents[2] / "packaging/systemd/graft.service"
# What systemd-analyze may say against the unit, in tenths. It listens on the network, which counts for about ten.
MAXIMUM_EXPOSURE = 20


def step(text):
    print("check-deb:", text, flush=True)


def run(*command, check=True, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE, **options)
    if check and done.returncode:
        sys.exit(f"check-deb: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Root:
    """A root of Debian in a folder."""

    def __init__(self, folder):
        self.folder = folder
        run("tar", "-xf", archive, "-C", folder)
        self.open()

    def open(self):
        for name in ("proc", "dev"):
            run("mount", "--rbind", f"/{name}", self / name)
            run("mount", "--make-rslave", self / name)

    def __truediv__(self, path):
        return self.folder / path

    def close(self):
        for name in ("proc", "dev"):
            run("umount", "-l", self / name, check=False)

    def run(self, *command, user=None, **options):
        chroot = ["chroot", *([f"--userspec={user}:{user}"] if user else []), self.folder]
        return run(*chroot, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8",
                   *command, **options)

    def write(self, path, text, mode=0o644):
        (self / path).parent.mkdir(parents=True, exist_ok=True)
        (self / path).write_text(text)
        (self / path).chmod(mode)

    def install(self, path):
        shutil.copy(path, self / "tmp/graft.deb")
        self.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "/tmp/graft.deb")
        (self / "tmp/graft.deb").unlink()

    def files(self):
        """Every path but those of the package manager's own records and of kernels' file systems."""
        ignored = ("proc", "dev", "sys", "run", "tmp", "var/lib/dpkg", "var/lib/apt", "var/cache", "var/log", "var/lib/systemd/timers")
        found = run("find", self.folder, "-xdev", "-printf", "%P\\n").splitlines()
        return {path for path in found if not path.startswith(ignored)}


def allowed_calls(root):
    """The system calls that the unit's filter allows."""

    def members(name):
        if not name.startswith("@"):
            return {name}
        lines = root.run("systemd-analyze", "syscall-filter", name).splitlines()[1:]
        words = [line.strip() for line in lines if line.startswith("    ") and not line.strip().startswith("#")]
        return set().union(*map(members, words)) if words else set()

    calls = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.M):
        names = set().union(*(members(name) for name in line.removeprefix("~").split()))
        calls = calls - names if line.startswith("~") else calls | names
    return calls | members("@default")


class Service:
    """The server as the unit starts it, under strace, with a service manager that is made up here."""

    def __init__(self, root, trace):
        self.name = f"graft-check-{os.getpid()}"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind("\0" + self.name)
        self.manager.settimeout(PATIENCE)
        start = re.search(r"^ExecStart=(.*)$", UNIT.read_text(), re.M)[1].split()
        variables = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": "@" + self.name, "WATCHDOG_USEC": "1000000"}
        self.process = subprocess.Popen(
            ["/usr/bin/strace", "-f", "-qq", "-o", str(trace), "/usr/sbin/chroot", "--userspec=graft:graft", str(root.folder), *start],
            env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True).start()

    def wait_for(self, message):
        heard = []
        while True:
            try:
                heard += self.manager.recv(4096).decode().split("\n")
            except TimeoutError:
                sys.exit(f"check-deb: the service manager never heard {message}, only {heard}:\n{''.join(self.log)}")
            if message in heard:
                return

    def stop(self):
        # strace does not pass the signal on.
        os.kill(int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0]), signal.SIGTERM)
        self.wait_for("STOPPING=1")
        code = self.process.wait(PATIENCE)
        self.manager.close()
        assert code == 0, (code, "".join(self.log))


class System:
    """The root with its own systemd running in it."""

    def __init__(self, root):
        root.close()
        self.root = root
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--boot", "--console=pipe", "-D", str(root.folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + PATIENCE
        while "active" != self.run("systemctl", "is-active", "multi-user.target", check=False).strip():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline, "systemd does not start"
            time.sleep(0.2)

    def run(self, *command, **options):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return ""
        return run("nsenter", "--all", "--target", children[0], "--", *command, **options)

    def property(self, name):
        return self.run("systemctl", "show", "--value", "--property", name, "graft").strip()

    def await_property(self, name, value):
        deadline = time.monotonic() + PATIENCE
        while (found := self.property(name)) != value:
            assert time.monotonic() < deadline, f"{name} is {found}:\n" + self.run("journalctl", "-u", "graft", "--no-pager")
            time.sleep(0.2)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.root.open()


def ask(port, key=""):
    body = json.dumps({"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, headers)
    return json.load(urllib.request.urlopen(request, timeout=PATIENCE))["choices"][0]["text"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def later_version(package, folder):
    """The same package with a later version."""
    run("dpkg-deb", "-R", package, folder / "later")
    control = folder / "later/DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1+later", control.read_text(), flags=re.M))
    run("dpkg-deb", "--root-owner-group", "-Znone", "-b", folder / "later", folder / "later.deb")
    return folder / "later.deb"


def check(root, folder):
    before = root.files()
    root.run("apt-get", "update", "-qq")

    step("install")
    root.install(package)
    version = root.run("graft", "--version")
    assert re.match(r"\d+\.\d+\.\d+ \(kernels: ", version) and "commit: " in version, version
    assert not re.search(r"swift|Foundation", root.run("ldd", "/usr/bin/graft")), "the binary needs Swift's libraries"
    for path in ("usr/share/man/man1/graft-serve.1.gz", "usr/share/bash-completion/completions/graft",
                 "usr/share/zsh/vendor-completions/_graft", "usr/share/fish/vendor_completions.d/graft.fish"):
        assert (root / path).stat().st_size > 100, path
    assert "graft" in root.run("stat", "-c", "%U %a", "/var/lib/graft") and (root / "var/lib/graft").stat().st_mode & 0o77 == 0
    state = root.run("systemctl", "is-enabled", "graft.service", check=False)
    assert "disabled" in state, state

    step("the unit")
    said = root.run("systemd-analyze", "verify", "--man=no", "graft.service")
    assert "graft" not in said, said
    print(root.run("systemd-analyze", "security", "--offline=yes", f"--threshold={MAXIMUM_EXPOSURE}", "graft.service").splitlines()[-1])

    step("serve")
    port = free_port()
    settings = (root / "etc/graft/config.yaml").read_text()
    edited = settings.replace("#model: /srv/graft/model.gguf", "model: /srv/graft/model.gguf").replace("port: 8080", f"port: {port}")
    assert edited.count("\nmodel: ") == 1 and str(port) in edited
    root.write("etc/graft/config.yaml", edited)
    root.write("etc/graft/environment", "GRAFT_API_KEY=secret\n", mode=0o600)
    (root / "srv/graft").mkdir()
    shutil.copy(model, root / "srv/graft/model.gguf")
    trace = folder / "trace"
    service = Service(root, trace)
    service.wait_for("READY=1")
    answer = ask(port)
    assert "Paris" in answer, answer
    service.wait_for("WATCHDOG=1")
    service.stop()
    text = trace.read_text()
    # What chroot(1) does before it becomes graft is not counted.
    called = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)[( ]", text[text.index('execve("/usr/bin/graft"'):], re.M))
    refused = called - allowed_calls(root) - {"resumed"}
    assert not refused, f"the unit's filter would refuse {sorted(refused)}"
    assert {"epoll_wait", "sendto"} & called and len(called) > 40

    step("systemd")
    system = System(root)
    try:
        system.run("systemctl", "start", "graft")
        assert "serving model at http://127.0.0.1" in system.property("StatusText"), system.property("StatusText")
        # The key is in the environment file.
        assert "Paris" in ask(port, "secret")
        first = system.property("MainPID")
        system.run("systemctl", "kill", "--signal=KILL", "graft")
        system.await_property("NRestarts", "1")
        system.await_property("ActiveState", "active")
        assert system.property("MainPID") != first and "Paris" in ask(port, "secret")
        system.run("systemctl", "stop", "graft")
        assert (system.property("ActiveState"), system.property("Result")) == ("inactive", "success")
        root.write("etc/graft/config.yaml", edited.replace("model: /srv", "#model: /srv"))
        system.run("systemctl", "start", "graft", check=False)
        system.await_property("ActiveState", "failed")
        assert system.property("ExecMainStatus") == "2", "wrong settings end with 2 and are not tried again"
        assert "--model is missing" in system.run("journalctl", "-u", "graft", "--no-pager")
        root.write("etc/graft/config.yaml", edited)
    finally:
        system.stop()

    step("upgrade")
    data = root.run("find", "/var/lib/graft", "-type", "f")
    assert "graft.sqlite" in data
    root.install(later_version(package, folder))
    assert "+later" in root.run("dpkg-query", "-W", "-f", "${Version}", "graft")
    assert (root / "etc/graft/config.yaml").read_text() == edited and root.run("find", "/var/lib/graft", "-type", "f") == data

    step("remove")
    root.run("apt-get", "remove", "-y", "-qq", "graft")
    assert not (root / "usr/bin/graft").exists() and not (root / "lib/systemd/system/graft.service").exists()
    assert (root / "etc/graft/config.yaml").read_text() == edited and root.run("find", "/var/lib/graft", "-type", "f") == data

    step("purge")
    root.run("apt-get", "purge", "-y", "-qq", "graft")
    root.run("apt-get", "autoremove", "-y", "-qq", "--purge")
    # Libraries that came as dependencies leave a few caches; nothing of graft's is left but its user.
    left = {path for path in root.files() - before if not path.startswith("srv/graft") and path != "srv/graft"}
    assert not [path for path in left if "graft" in path], left
    assert left <= {"etc/group-", "etc/gshadow-", "etc/passwd-", "etc/shadow-", "etc/.pwd.lock"} | {
        path for path in left if path.startswith(("etc/alternatives", "etc/ld.so", "etc/ssl", "etc/ldap", "usr/share", "usr/local"))}, left


with tempfile.TemporaryDirectory(prefix="graft-check-deb-") as name:
    folder = Path(name)
    folder.chmod(0o755)
    (folder / "root").mkdir()
    root = Root(folder / "root")
    try:
        check(root, folder)
    finally:
        root.close()
step("passed")
