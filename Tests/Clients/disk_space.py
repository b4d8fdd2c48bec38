#!/usr/bin/env python3
"""The disk gets its space back: of removed pages soon, of everything after disable, gradually where that is asked for. And
threads that write and read exist while a command runs, no longer.

Usage: disk_space.py SOCKET. Prints "verified" when the swap file shrank as it should. Root, or the daemon's own user.
"""
import ctypes
import mmap
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
import client as library
import processes

MIB = 1 << 20
SIZE = 72 * MIB
MADV_REMOVE = 9
STEP_SECONDS = 5


def main():
    tenant = library.Tenant(sys.argv[1], "disk", SIZE)
    ask = tenant.client.ask
    credentials = tenant.client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    daemon = struct.unpack("iII", credentials)[0]

    def on_disk():
        """Mebibytes that the daemon's largest unnamed file outside of memory takes."""
        largest = 0
        for name in os.listdir(f"/proc/{daemon}/fd"):
            try:
                target, status = os.readlink(f"/proc/{daemon}/fd/{name}"), os.stat(f"/proc/{daemon}/fd/{name}")
            except OSError:
                continue
            if target.endswith("(deleted)") and not target.startswith("/memfd:"):
                largest = max(largest, status.st_blocks * 512 // MIB)
        return largest

    def until(what, condition):
        for _ in range(1200):
            if condition(on_disk()):
                return
            time.sleep(0.05)
        raise SystemExit(f"{what}: {on_disk()} MiB are on the disk")

    def threads():
        """The names of a command's threads."""
        names = []
        for worker in processes.workers(daemon) or [daemon]:
            for thread in os.listdir(f"/proc/{worker}/task"):
                try:
                    names.append(open(f"/proc/{worker}/task/{thread}/comm").read().strip().partition(" ")[2])
                except OSError:
                    pass  # it has ended
        assert "jobs" in names, names
        return {"helper", "write-behind", "write-behin", "read-ahead"} & set(names)

    def out():
        ask({"op": "enable"})
        ask({"op": "out", "wait": True})
        deadline = time.monotonic() + 60
        while threads():  # the entry of a thread that has ended lives on for an instant
            assert time.monotonic() < deadline, threads()

    out()
    until("out", lambda size: size >= 71)
    # A balloon takes 4 MiB: so much comes back, though no command asks for it.
    address = ctypes.addressof(ctypes.c_char.from_buffer(tenant.memory))
    libc = ctypes.CDLL(None)
    assert libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(4 * MIB), MADV_REMOVE) == 0
    tenant.content[: 4 * MIB] = bytes(4 * MIB)
    until("remove", lambda size: size <= 69)
    # Gradually: 64 MiB now, the rest later; a plain disable ends that.
    begin = time.monotonic()
    ask({"op": "disable", "wait": True, "slow_file_cleanup": True})
    assert ask({"op": "status"})["state"] == "Ready"
    until("the first step", lambda size: size <= 8)
    left = on_disk()
    assert left >= 2 or time.monotonic() - begin > STEP_SECONDS, left
    ask({"op": "disable", "wait": True})
    assert on_disk() == 0, on_disk()
    assert tenant.is_intact()
    # enable cuts it short, and what is written from then on is safe from it.
    out()
    ask({"op": "disable", "wait": True, "slow_file_cleanup": True})
    out()
    time.sleep(1.2)
    assert on_disk() >= 67, on_disk()
    assert tenant.is_intact()
    ask({"op": "unregister"})
    assert tenant.is_intact()
    print("verified")


main()
