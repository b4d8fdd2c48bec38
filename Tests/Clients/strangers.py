#!/usr/bin/env python3
"""Mappings that nobody has announced: enable refuses where one is used, and warns where it is not.

Usage: strangers.py SOCKET. Prints "verified" when all is as it should be.
"""
import mmap
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(__file__))
import client as library

SIZE = 64 * mmap.PAGESIZE


def main():
    tenant = library.Tenant(sys.argv[1], "strange", SIZE)
    ask = tenant.client.ask

    def fork():
        """A child with a mapping of its own; it touches a page of it when it is told to."""
        ready, go = os.pipe()
        done, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            while os.read(ready, 1) == b"x":
                tenant.memory[0]
                os.write(tell, b"y")
            os._exit(0)
        os.close(ready)
        os.close(tell)
        return pid, go, done

    # In Ready nothing tells of a fork: the child's mapping is unused, so a warning names it.
    pid, go, done = fork()
    status = ask({"op": "enable"})
    assert len(status["warnings"]) == 1 and f"process {pid} " in status["warnings"][0], status
    ask({"op": "disable", "wait": True})
    # Now it has touched the memory.
    os.write(go, b"x")
    assert os.read(done, 1) == b"y"
    reply = tenant.client.exchange({"op": "enable"})
    assert not reply["ok"] and reply["error"]["code"] == "unsupported", reply
    assert f"process {pid} " in reply["error"]["message"], reply
    assert ask({"op": "status"})["state"] == "Ready"
    ask({"op": "enable", "accept_strange_mappings": True})
    assert tenant.is_intact()
    ask({"op": "disable", "wait": True})
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # A second mapping of the tenant's own is no better.
    assert "warnings" not in ask({"op": "enable"})
    ask({"op": "disable", "wait": True})
    second = mmap.mmap(tenant.memfd, SIZE, mmap.MAP_SHARED)
    second[0]
    reply = tenant.client.exchange({"op": "enable"})
    assert not reply["ok"] and f"process {os.getpid()} " in reply["error"]["message"], reply
    second.close()
    ask({"op": "enable"})
    ask({"op": "unregister"})
    assert tenant.is_intact()
    print("verified")


main()
