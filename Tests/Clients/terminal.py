#!/usr/bin/env python3
"""The command line on a terminal: progress, its end by Ctrl-C, and the watch, before a daemon that is played here.

Usage: terminal.py PROGRAM      prints "verified" and exits 0 when every screen was right
"""
import json
import os
import pty
import re
import select
import socket
import sys
import tempfile
import threading
import time

LOOKS = 5  # at its progress, until an operation has ended
SECONDS = 3  # that it takes where nobody looks
PATIENCE = 60  # seconds


class PlayedDaemon:
    """Answers status, and enable and trim once its progress was looked at often enough; `refuses_status` has the first fail."""

    def __init__(self, path, refuses_status=False, is_looked_at=True):
        self.refuses_status, self.operation = refuses_status, None
        self.looks, self.looked, self.patience = 0, threading.Condition(), PATIENCE if is_looked_at else SECONDS
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(path)
        self.socket.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            self.answer(connection)
        except OSError:
            pass  # the program was interrupted, or has what it wanted

    def answer(self, connection):
        while packet := connection.recv(65536):
            op = json.loads(packet)["op"]
            with self.looked:
                if op in ("enable", "trim"):
                    self.looks, self.operation = 0, op
                    self.looked.wait_for(lambda: self.looks == LOOKS, self.patience)
                    self.operation = None
                elif op == "status":
                    self.looks += 1
                    self.looked.notify_all()
            if op == "status" and self.refuses_status:
                reply = {"ok": False, "error": {"code": "internal", "message": "no status today"}}
            elif op == "list":
                reply = {"ok": True, "tenants": [{"tenant": "vm1"}]}
            else:
                done = self.looks / LOOKS if self.operation else 1
                metrics = {"resident_pages": round(262144 * (1 - done)), "staging_pages": 262144}
                reply = {"ok": True, "tenant": "vm1", "state": "Pending", "page_size": 4096, "metrics": metrics}
                reply["warnings"] = ["the disk is slow"]
                if self.operation:
                    reply["operation"] = self.operation
                    reply["state_transition"] = {"pages": 0, "examined_pages": round(262144 * done), "time_ms": 0}
            connection.send(json.dumps(reply).encode())


def run(daemon_options, *arguments, interrupt_on=None):
    """What the program writes to its terminal, and its exit code."""
    with tempfile.TemporaryDirectory() as directory:
        daemon = PlayedDaemon(f"{directory}/socket", **daemon_options)
        environment = dict(os.environ, TERM="xterm", SWAP_MONITOR_SOCKET=f"{directory}/socket")
        child, terminal = pty.fork()
        if child == 0:
            os.execve(sys.argv[1], [sys.argv[1], *arguments], environment)
        screen, deadline = b"", time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                screen += os.read(terminal, 4096)
            except OSError:  # EIO: the program has ended
                break
            if interrupt_on and interrupt_on in screen:
                os.write(terminal, b"\x03")
                interrupt_on = None
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        daemon.socket.close()
        return screen.decode(), code


def main():
    screen, code = run({}, "enable", "vm1")
    assert code == 0 and "\r  enable  [" in screen and " % " in screen and "MiB/s" in screen, screen
    before, after = screen.rsplit("\r\x1b[K", 1)  # erased, then the result
    assert before.count("\n") == 0 and after.startswith("warning: the disk is slow\r\nvm1: Pending\r\n"), screen

    screen, code = run({}, "trim", "vm1")  # which may find nothing to drop, and gets on
    assert code == 0 and "\r  trim  [=" in screen, screen

    screen, code = run({"refuses_status": True, "is_looked_at": False}, "enable", "vm1")
    assert code == 0 and re.search(r"\r  enable  \d+\.", screen) and "vm1: Pending" in screen, screen

    screen, code = run({}, "enable", "vm1", interrupt_on=b"enable  [")
    assert code == 1 and "\r\x1b[Kswap-monitor: interrupted" in screen, screen

    screen, code = run({"is_looked_at": False}, "enable", "vm1", "--json")
    assert code == 0 and "enable  [" not in screen and '"ok":true' in screen, screen

    for words in (["status", "--watch"], ["status", "vm1", "--watch"]):
        screen, code = run({}, *words, interrupt_on=b"\x1b[J")
        assert code == 0 and screen.startswith("\x1b[2J\x1b[H") and "Pending" in screen, screen

    with tempfile.TemporaryDirectory() as directory:  # requests go on being counted until everything has been compared
        words = ["--seconds", "1", "--memory", "64M", "--no-kill", "--swap-dir", directory]
        screen, code = run({}, "torture", *words)
    requests = [int(number) for number in re.findall(r"(\d+) requests  ", screen)]
    assert code == 0 and requests and requests == sorted(requests) and requests[-1] > 0, screen
    print("verified")


if __name__ == "__main__":
    main()
