#!/usr/bin/env python3
"""A tenant with a thread that no signal can stop for a while: enable must fail, change nothing, and work later.

Usage: unstoppable.py SOCKET. Prints "verified". The thread waits in clone(CLONE_VFORK) for its child, which waits to be told:
state D. It is the only one of its process, lest the child wait for ever for an interpreter lock that another one held.
"""
import ctypes
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(__file__))
import client as library

SYS_CLONE = {"x86_64": 56, "aarch64": 220}[library.platform.machine()]
CLONE_VFORK = 0x4000
PR_SET_PDEATHSIG = 1


def play_tenant(path, say, wait):
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    tenant = library.Tenant(path, "unstoppable", 4 << 20)
    if libc.syscall(SYS_CLONE, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        say()
        wait()
        os._exit(0)
    say()
    wait()
    assert tenant.is_intact()
    tenant.client.ask({"op": "unregister"})
    assert tenant.is_intact()


def main():
    (hearing, telling), (waiting, going_on) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(going_on)
        play_tenant(sys.argv[1], lambda: os.write(telling, b"x"), lambda: os.read(waiting, 1))
        os._exit(0)
    os.close(telling)
    assert os.read(hearing, 1), "the tenant has failed"
    client = library.Client(sys.argv[1])
    request = {"tenant": "unstoppable"}
    refusal = client.exchange({"op": "enable", **request})
    assert refusal["error"]["code"] == "freeze-failed", refusal
    status = client.ask({"op": "status", **request})
    assert status["state"] == "Ready" and status["metrics"]["staging_pages"] == 0, status
    os.write(going_on, b"x")
    assert os.read(hearing, 1), "the tenant has failed"
    status = client.ask({"op": "enable", **request})
    assert status["state"] == "Pending" and status["metrics"]["staging_pages"] == 1024, status
    os.write(going_on, b"x")
    assert os.waitpid(pid, 0)[1] == 0, "the tenant has failed"
    print("verified")


main()
