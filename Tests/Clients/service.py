#!/usr/bin/env python3
"""The daemon as a service, before a service manager that is played here: activation, readiness, watchdog, end.

Usage: service.py PROGRAM. Prints "verified".
"""
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
import client as library
import processes

WATCHDOG_SECONDS = 3


def be_tenant(path):
    """Another process: one that is monitored can't fork while no daemon lives."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        theirs.close()
        tenant = library.Tenant(path, "vm", 1 << 20, freeze="caller")
        tenant.client.ask({"op": "enable"})
        ours.send(b"r")
        ours.recv(1)
        assert tenant.is_intact()
        assert tenant.client.ask({"op": "disable", "wait": True})["state"] == "Ready"
        assert tenant.is_intact()
        ours.send(b"v")
        ours.recv(1)
        os._exit(0)
    ours.close()
    theirs.settimeout(120)
    assert theirs.recv(1) == b"r"
    return theirs


def main():
    with tempfile.TemporaryDirectory() as directory:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(f"{directory}/socket")
        listener.listen()
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(f"{directory}/notify")

        def start(stored):
            """`stored` are descriptors by name, from a life before."""
            descriptors = [listener.fileno(), *stored.values()]
            pid = os.fork()
            if pid:
                return pid
            copies = [os.dup(descriptor) for descriptor in descriptors]
            for number, copy in enumerate(copies):
                os.dup2(copy, 3 + number)
            os.closerange(3 + len(copies), 500)
            environment = dict(
                os.environ, NOTIFY_SOCKET=f"{directory}/notify", WATCHDOG_USEC=str(WATCHDOG_SECONDS * 1000000),
                LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)),
                LISTEN_FDNAMES=":".join(["swap-monitor.socket", *stored]))
            words = ["serve", "--socket", f"{directory}/socket", "--swap-dir", f"{directory}/swap", "--keep-free", "0"]
            os.execve(sys.argv[1], [sys.argv[1], *words, "--log-level", "error", "--end-with-parent"], environment)

        store, heard = {}, queue.SimpleQueue()

        def listen():
            """The manager's part."""
            while True:
                data, files, _, _ = socket.recv_fds(manager, 65536, 10)
                lines = dict(line.split("=", 1) for line in data.decode().split("\n"))
                if "FDSTORE" in lines:
                    store[lines["FDNAME"]] = files[0]
                elif "FDSTOREREMOVE" in lines and lines["FDNAME"] in store:
                    os.close(store.pop(lines["FDNAME"]))
                heard.put(lines)

        threading.Thread(target=listen, daemon=True).start()

        def hear(word, seconds=120):
            """Waits for a message with that; None when the time is up."""
            deadline = time.monotonic() + seconds
            try:
                while word not in (lines := heard.get(timeout=max(0, deadline - time.monotonic()))):
                    pass
                return lines
            except queue.Empty:
                return None

        keeper = start({})
        assert hear("READY")["MAINPID"] == str(keeper)
        tenant = be_tenant(f"{directory}/socket")
        while True:
            status = hear("WATCHDOG")["STATUS"]
            if status.startswith("1 tenants, 1 monitored; 1.00 MiB in staging"):
                break
        # A worker whose control thread does nothing: the watchdog goes hungry.
        stuck = processes.workers(keeper)[0]
        os.kill(stuck, signal.SIGSTOP)
        signs, end = 0, time.monotonic() + 2 * WATCHDOG_SECONDS
        while time.monotonic() < end:
            signs += hear("WATCHDOG", end - time.monotonic()) is not None
        assert signs <= 1, signs
        # The manager ends both, and starts it again with what it has kept.
        os.kill(keeper, signal.SIGKILL)
        os.kill(stuck, signal.SIGKILL)
        os.waitpid(keeper, 0)
        kept = dict(store)
        store.clear()
        keeper = start(kept)
        assert hear("READY")["MAINPID"] == str(keeper)
        tenant.send(b"x")
        assert tenant.recv(1) == b"v"
        os.kill(keeper, signal.SIGTERM)
        assert hear("STOPPING")
        assert os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1]) == 0
        assert os.path.exists(f"{directory}/socket"), "the socket's file is the manager's"
        print("verified")


main()
