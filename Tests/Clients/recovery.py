"""How long it takes after the worker's death until a page that is out comes back, and until `status` is answered.

Usage: recovery.py SOCKET [GIBIBYTES [KILLS]]     prints the figures to standard error, then "verified", and exits 0

The tenant is sparse: a page in every 2 MiB is resident, half of these are in staging, and half on disk.
"""
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
import time

import client as library
import processes

PAGE, STEP = 4096, 2 << 20
PAUSE_SECONDS = 0.5


class SparseTenant:
    def __init__(self, path, size):
        self.memfd = os.memfd_create("sparse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memfd, size)
        fcntl.fcntl(self.memfd, library.F_ADD_SEALS, library.F_SEAL_SHRINK)
        self.memory = mmap.mmap(self.memfd, size, mmap.MAP_SHARED)
        self.places = [step + step // STEP * PAGE % STEP for step in range(0, size, STEP)]
        self.write(self.places)
        self.userfaultfd = library.make_userfaultfd()
        self.client = library.Client(path)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        region = {"address": address, "size": size, "memfd": 0, "offset": 0}
        self.client.ask(
            {"op": "register", "protocol": 1, "tenant": "sparse", "regions": [region]}, [self.userfaultfd, self.memfd])

    def write(self, places):
        for place in places:
            self.memory[place : place + 8] = struct.pack("Q", place + 1)

    def is_right(self, place):
        return self.memory[place : place + 8] == struct.pack("Q", place + 1)


def show(name, seconds):
    seconds.sort()
    print(f"{name}: p50 {seconds[len(seconds) // 2] * 1000:.1f} ms, max {seconds[-1] * 1000:.1f} ms", file=sys.stderr)


def main():
    size = int(float(sys.argv[2]) * (1 << 30)) if len(sys.argv) > 2 else 256 << 20
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    tenant = SparseTenant(sys.argv[1], size)
    ask, places = tenant.client.ask, tenant.places
    keeper = processes.keeper_of(tenant.client.socket)
    ask({"op": "enable"})
    ask({"op": "out", "wait": True})
    for place in places[::2]:
        assert tenant.is_right(place)
    ask({"op": "enable"})  # what came back is in staging now
    faults, answers = [], []
    for number in range(kills):
        time.sleep(PAUSE_SECONDS)
        os.kill(processes.workers(keeper)[0], signal.SIGKILL)
        start = time.monotonic()
        assert tenant.is_right(places[number * 7 % len(places)])
        faults.append(time.monotonic() - start)
        ask({"op": "status"})
        answers.append(time.monotonic() - start)
    print(f"{size >> 20} MiB, {len(places)} pages out, {kills} kills", file=sys.stderr)
    show("a page is back", faults)
    show("status is answered", answers)
    assert all(tenant.is_right(place) for place in places)
    ask({"op": "unregister"})
    assert all(tenant.is_right(place) for place in places)
    print("verified")


main()
