#!/usr/bin/env python3
"""The daemon as a service, before a manager that is played here: it hears what the daemon says (sd_notify(3)), keeps the
descriptors that it stores, and hands them to the next (sd_listen_fds(3)).

Usage: service.py PROGRAM life      activation, readiness, watchdog, another life with what was kept, the end in order
       service.py PROGRAM deaths    keeper and worker die in one blow, again and again; the tenant sees nothing of it
Prints "verified" and exits 0.
"""
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time

import client as library
import processes

ROUNDS, PAGES, PAGE = 4, 2048, 4096
FIRST = 3  # SD_LISTEN_FDS_START
WATCHDOG_SECONDS = 3


class Manager:
    """The service's notify socket, and its store."""

    def __init__(self, directory, listener=None):
        self.directory, self.listener, self.store, self.heard = directory, listener, {}, queue.SimpleQueue()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"{directory}/notify")
        self.lock = threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            data, files, _, _ = socket.recv_fds(self.socket, 65536, 10)
            fields = dict(line.split("=", 1) for line in data.decode().split("\n"))
            with self.lock:
                if "FDSTORE" in fields:
                    assert fields["FDPOLL"] == "0" and len(files) == 1, fields
                    self.store.setdefault(fields["FDNAME"], []).extend(files)
                if "FDSTOREREMOVE" in fields:
                    for descriptor in self.store.pop(fields["FDNAME"], []):
                        os.close(descriptor)
            self.heard.put(fields)

    def hear(self, word, seconds=120):
        """Waits for a message with that; None when the time is up."""
        deadline = time.monotonic() + seconds
        try:
            while word not in (fields := self.heard.get(timeout=max(0, deadline - time.monotonic()))):
                pass
            return fields
        except queue.Empty:
            return None

    def start(self):
        """The descriptors stand from 3 on, and the daemon is told whom they are for."""
        with self.lock:
            kept = [(name, d) for name, descriptors in self.store.items() for d in descriptors]
            if self.listener:
                kept.insert(0, ("swap-monitor.socket", self.listener.fileno()))
            self.keeper = os.fork()
            if self.keeper == 0:
                high = max([d for _, d in kept] + [FIRST + len(kept)]) + 1
                spare = [os.dup2(d, high + number) for number, (_, d) in enumerate(kept)]
                for number, d in enumerate(spare):
                    os.dup2(d, FIRST + number, inheritable=True)
                os.closerange(FIRST + len(kept), 4096)
                environment = dict(os.environ, NOTIFY_SOCKET=f"{self.directory}/notify")
                if kept:
                    names = ":".join(name for name, _ in kept)
                    environment |= dict(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)), LISTEN_FDNAMES=names)
                if self.listener:
                    environment["WATCHDOG_USEC"] = str(WATCHDOG_SECONDS * 1000000)
                words = ["serve", "--socket", f"{self.directory}/socket", "--swap-dir", f"{self.directory}/swap"]
                words += ["--keep-free", "0", "--log-level", "error", "--end-with-parent"]
                os.execve(sys.argv[1], [sys.argv[1], *words], environment)
        assert self.hear("READY")["MAINPID"] == str(self.keeper)

    def kill(self):
        """Worker and keeper at once, as the end of a control group does: both stopped, so that neither sees the other's death."""
        os.kill(self.keeper, signal.SIGSTOP)
        theirs = children(self.keeper)
        theirs += [child for worker in theirs for child in children(worker)]
        for process in theirs + [self.keeper]:
            os.kill(process, signal.SIGKILL)
        os.waitpid(self.keeper, 0)

    def end(self):
        os.kill(self.keeper, signal.SIGTERM)
        assert self.hear("STOPPING")
        assert os.waitpid(self.keeper, 0)[1] == 0


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


class Tenant:
    """In a process of its own (one that is monitored can't fork while no daemon lives): does what it is told, line by line."""

    def __init__(self, path):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            tenant = library.Tenant(path, "kept", PAGES * PAGE)
            while line := theirs.recv(100).decode():
                getattr(self, line.split()[0])(tenant, *map(int, line.split()[1:]))
                theirs.send(b"done")
            os._exit(0)
        theirs.close()
        ours.settimeout(120)
        self.socket = ours

    def tell(self, line):
        self.socket.send(line.encode())

    def heard(self):
        assert self.socket.recv(100) == b"done", "the tenant has failed"

    def ask(self, line):
        self.tell(line)
        self.heard()

    def end(self):
        self.ask("leave")
        self.socket.close()
        assert os.waitpid(self.pid, 0)[1] == 0

    # What it does, on the connection that it has had from the first.

    @staticmethod
    def enable(tenant, number):
        tenant.write(5 * PAGE, b"round %d" % number)
        reply = tenant.client.ask({"op": "enable"})
        assert reply["state"] == "Pending", reply
        if number % 4 == 1:
            reply = tenant.client.ask({"op": "out", "wait": True})
            assert reply["state"] == "Active", reply

    @staticmethod
    def check(tenant, number):
        """Nobody serves just now: who touches what is out waits."""
        place = number * 1237 % PAGES * PAGE
        assert tenant.memory[place : place + PAGE] == tenant.content[place : place + PAGE], "it reads something else"

    @staticmethod
    def disable(tenant):
        assert tenant.is_intact()
        assert tenant.client.ask({"op": "disable", "wait": True})["state"] == "Ready"
        assert tenant.is_intact()

    @staticmethod
    def leave(tenant):
        assert tenant.is_intact()
        tenant.client.ask({"op": "unregister"})
        assert tenant.is_intact()


def life(directory):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{directory}/socket")
    listener.listen()
    manager = Manager(directory, listener)
    manager.start()
    tenant = Tenant(f"{directory}/socket")
    tenant.ask("enable 0")
    while not manager.hear("WATCHDOG")["STATUS"].startswith("1 tenant, 1 monitored; 8.00 MiB in staging"):
        pass
    # A worker whose control thread does nothing: the watchdog goes hungry.
    os.kill(processes.workers(manager.keeper)[0], signal.SIGSTOP)
    signs, end = 0, time.monotonic() + 2 * WATCHDOG_SECONDS
    while time.monotonic() < end:
        signs += manager.hear("WATCHDOG", end - time.monotonic()) is not None
    assert signs <= 1, signs
    # The manager ends both, and starts it again with what it has kept.
    manager.kill()
    manager.start()
    tenant.ask("disable")
    tenant.end()
    manager.end()
    assert os.path.exists(f"{directory}/socket"), "the socket's file is the manager's"


def deaths(directory):
    manager = Manager(directory)
    manager.start()
    tenant = Tenant(f"{directory}/socket")
    for number in range(ROUNDS):
        tenant.ask(f"enable {number}")
        manager.kill()
        tenant.tell(f"check {number}")
        time.sleep(0.1)
        manager.start()
        tenant.heard()
    tenant.end()
    manager.end()
    deadline = time.monotonic() + 60
    while manager.store and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not manager.store, "what an orderly end leaves in the store"


signal.alarm(600)  # it ends rather than hang
with tempfile.TemporaryDirectory() as own_directory:
    {"life": life, "deaths": deaths}[sys.argv[2]](own_directory)
print("verified", flush=True)
