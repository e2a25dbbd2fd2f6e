"""Runs the graft binary on a terminal of its own, as a person would."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from graft_server import BINARY, PATIENCE, environment


def plain(text: str) -> str:
    """The text without colours and the like, of which the last one may have come in part."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b(\[[0-9;?]*)?$", "", text)


class Terminal:
    """A command on a terminal. What it writes is in `written`."""

    def __init__(self, *arguments: object, columns: int = 80, env: dict[str, str] | None = None,
                 program: object = BINARY):
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [str(program), *map(str, arguments)], stdin=follower, stdout=follower, stderr=follower,
            # The terminal is the command's own, so that Ctrl-C reaches it.
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
            env=environment() | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | (env or {}),
        )
        os.close(follower)
        self.written = ""

    def read(self) -> bool:
        """Takes what comes within a tenth of a second; false at the end."""
        if select.select([self.leader], [], [], 0.1)[0]:
            try:
                part = os.read(self.leader, 65536)
            except OSError:
                return False
            self.written += part.decode(errors="replace").replace("\r\n", "\n")
            return bool(part)
        return True

    def expect(self, text: str) -> None:
        """Waits until the command has written a text since the last call of `send`."""
        deadline = time.monotonic() + PATIENCE
        while text not in plain(self.written):
            assert self.read() and time.monotonic() < deadline, f"no {text!r} in {self.written!r}"

    def ask(self, line: str, expected: str = "") -> None:
        """Enters a line; waits for a text in the answer, then for the next prompt.

        What is typed before a prompt is echoed and edited by the terminal and not by the command, so the next keys must
        wait for it. A prompt is at the start of a line that nothing follows.
        """
        self.send(line + "\r")
        self.expect(expected)
        deadline = time.monotonic() + PATIENCE
        while not re.search(r"[\r\n]> $", plain(self.written)):
            assert self.read() and time.monotonic() < deadline, f"no prompt in {self.written!r}"

    def send(self, keys: str) -> None:
        self.written = ""
        os.write(self.leader, keys.encode())

    def end(self) -> int:
        """Reads to the end; returns the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < deadline, self.written
        os.close(self.leader)
        return self.process.wait(timeout=PATIENCE)


def on_terminal(*arguments: object, **options) -> tuple[str, int]:
    """What a command writes on a terminal, and its exit code."""
    terminal = Terminal(*arguments, **options)
    code = terminal.end()
    return terminal.written, code
