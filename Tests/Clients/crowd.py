#!/usr/bin/env python3
"""Many processes map one memory, each at an address of its own; half of them die at random, under commands.

Usage: crowd.py SOCKET [PROCESSES]. Every process counts in a lane of its own in every page, and checks each count before it
writes the next. Prints "verified" when every lane of every page, also of the dead, is what its process last wrote.
"""
import ctypes
import mmap
import os
import random
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
import client as library

PAGES, LANE = 512, 64
MADV_DONTFORK = 10
PR_SET_PDEATHSIG = 1


class Member:
    """A process of the crowd: it joins, then counts until it is told to end by a signal."""

    def __init__(self, path, memfd, lane):
        self.padding = mmap.mmap(-1, (lane + 1) * 7 * mmap.PAGESIZE)  # moves the next mapping
        self.memory = mmap.mmap(memfd, PAGES * mmap.PAGESIZE, mmap.MAP_SHARED)
        self.userfaultfd = library.make_userfaultfd()
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        client = library.Client(path)
        request = {"op": "add-process", "tenant": "crowd", "addresses": [address]}
        for _ in range(200):
            reply = client.exchange(request, [self.userfaultfd])
            if reply["ok"]:
                break
            time.sleep(0.01)
        assert reply["ok"], reply
        self.lane = lane

    def count(self, log):
        counts = [0] * PAGES
        choice = random.Random(self.lane)
        # Written by single stores: struct.pack_into clears the bytes first, and a kill may come between.
        words = (ctypes.c_uint64 * (PAGES * mmap.PAGESIZE // 8)).from_buffer(self.memory)
        while True:
            time.sleep(0.002)  # fifty of them must leave something of the machine to others
            page = choice.randrange(PAGES)
            word = (page * mmap.PAGESIZE + self.lane * LANE) // 8
            if words[word] != counts[page]:
                os.write(log, b"!")  # wrong
                os._exit(1)
            counts[page] += 1
            # Logged before it is written: after a kill, the page holds this count or the one before.
            os.pwrite(log, struct.pack("<Q", counts[page]), 8 + page * 8)
            words[word] = counts[page]


def main():
    path, processes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50
    assert processes * LANE < mmap.PAGESIZE, "a page has no lane for each"
    tenant = library.Tenant(path, "crowd", PAGES * mmap.PAGESIZE, filled=0)
    for page in range(PAGES):
        tenant.memory[page * mmap.PAGESIZE + 4095] = 1  # resident
    ctypes.CDLL(None).madvise(
        ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(tenant.memory))),
        ctypes.c_size_t(PAGES * mmap.PAGESIZE), MADV_DONTFORK)
    logs = [os.memfd_create(f"log {lane}") for lane in range(processes)]
    for log in logs:
        os.ftruncate(log, 8 + PAGES * 8)
    operator = library.Client(path)
    pids = {}

    def start(lane):
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # should this script fail
            try:
                Member(path, tenant.memfd, lane).count(logs[lane])
            finally:
                os._exit(2)
        pids[lane] = pid

    choice = random.Random(7)
    doomed = choice.sample(range(processes), processes // 2)
    for round_number in range(40):
        for lane in range(round_number * processes // 20, min((round_number + 1) * processes // 20, processes)):
            start(lane)  # they come while commands run
        op = choice.choice(["enable", "enable", "trim", "out", "disable"])
        reply = operator.exchange({"op": op, "tenant": "crowd", "wait": choice.random() < 0.5})
        assert reply["ok"] or reply["error"]["code"] in ("wrong-state", "aborted"), reply
        if round_number >= 20:
            for _ in range(len(doomed) // max(1, 39 - round_number)):
                lane = doomed.pop()
                os.kill(pids[lane], signal.SIGKILL)
                os.waitpid(pids.pop(lane), 0)
        time.sleep(0.02)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), f"a process ended by itself: {status}"
    status = operator.ask({"op": "disable", "tenant": "crowd", "wait": True})
    assert status["state"] == "Ready", status
    total = 0
    for lane, log in enumerate(logs):
        record = os.pread(log, 8 + PAGES * 8, 0)
        assert record[0] != ord("!"), f"lane {lane} read a wrong count"
        for page in range(PAGES):
            (logged,) = struct.unpack_from("<Q", record, 8 + page * 8)
            (seen,) = struct.unpack_from("<Q", tenant.memory, page * mmap.PAGESIZE + lane * LANE)
            assert seen in (logged, logged - 1), f"lane {lane} page {page}: {seen}, logged {logged}"
            total += seen
    assert total > processes, "nobody counted"
    tenant.client.ask({"op": "unregister"})
    print("verified")


main()
