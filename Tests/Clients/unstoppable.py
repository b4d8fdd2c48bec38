#!/usr/bin/env python3
"""A tenant with a thread that no signal can stop for a while: enable must fail, change nothing, and work later.

Usage: unstoppable.py SOCKET. Prints "verified". The thread waits in clone(CLONE_VFORK) for its sleeping child: state D.
"""
import ctypes
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
import client as library

SYS_CLONE = {"x86_64": 56, "aarch64": 220}[library.platform.machine()]
CLONE_VFORK = 0x4000


def hang(seconds):
    time.sleep(0.1)  # until the main thread sleeps: the child would wait for ever for an interpreter lock held elsewhere
    if ctypes.CDLL(None).syscall(SYS_CLONE, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(seconds)
        os._exit(0)


def main():
    tenant = library.Tenant(sys.argv[1], "unstoppable", 4 << 20)
    thread = threading.Thread(target=hang, args=(2.5,))
    thread.start()
    time.sleep(0.3)
    refusal = tenant.client.exchange({"op": "enable"})
    assert refusal["error"]["code"] == "freeze-failed", refusal
    status = tenant.client.ask({"op": "status"})
    assert status["state"] == "Ready" and status["metrics"]["staging_pages"] == 0, status
    thread.join()
    status = tenant.client.ask({"op": "enable"})
    assert status["state"] == "Pending" and status["metrics"]["staging_pages"] == 1024, status
    assert tenant.is_intact()
    tenant.client.ask({"op": "unregister"})
    assert tenant.is_intact()
    print("verified")


main()
