#!/usr/bin/env python3
"""Bad requests of all kinds, with descriptors of all kinds: each is answered, and nothing stays behind.

Usage: malformed.py SOCKET [MALFORMED [FUZZED]]. A neighbour is swapped out meanwhile; its memory is compared, and the daemon's
descriptors are counted. Prints "verified".
"""
import ctypes
import json
import os
import random
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
import client as library
import processes

SIZE = 1 << 20
CODES = {
    "invalid-request", "too-large", "unsupported-protocol", "invalid-region", "region-overlap", "invalid-descriptor",
    "name-taken", "no-such-tenant", "unsupported", "no-memory", "wrong-state", "permission-denied",
}


def descriptors_of(path):
    probe = library.Client(path).socket
    keeper = processes.keeper_of(probe)
    probe.close()
    pids = [keeper, *processes.workers(keeper)]
    return lambda: [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]


def settled(count):
    counts = []
    while len(counts) < 20 or counts[-20:] != [counts[-1]] * 20:
        counts.append(count())
        time.sleep(0.02)
    return counts[-1]


def main():
    path = sys.argv[1]
    malformed, fuzzed = (int(word) for word in (sys.argv[2:] + ["2000", "5000"][len(sys.argv) - 2 :])[:2])
    choice = random.Random(6)
    neighbour = library.Tenant(path, "neighbour", SIZE)
    for op in ("enable", "out"):
        neighbour.client.ask({"op": op, "wait": True})
    count = descriptors_of(path)
    victim = library.Tenant(path, "victim", SIZE)
    victim.client.ask({"op": "unregister"})
    connection = victim.client.socket
    before = settled(count)

    memfd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    reading, writing = os.pipe()
    files = [
        victim.userfaultfd, victim.memfd, memfd, reading, os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach(), os.pidfd_open(os.getpid()), os.epoll_create(1)
        if hasattr(os, "epoll_create") else writing,
    ]
    region = {
        "address": ctypes.addressof(ctypes.c_char.from_buffer(victim.memory)), "size": SIZE, "memfd": 0, "offset": 0}
    register = {"op": "register", "protocol": 1, "tenant": "victim", "freeze": "caller", "regions": [region]}
    right = [victim.userfaultfd, victim.memfd]
    values = [
        None, True, -1, 0, 1, 4095, 4096, 1 << 62, 1 << 63, (1 << 64) - 1, 1 << 64, 1.5, "", "x", "é", "x" * 70, [], {},
        [region] * 65, "\x00", "live", "signal",
    ]

    def bend():
        """A register request with something wrong, or its descriptors."""
        request, attached = json.loads(json.dumps(register)), list(right)
        kind = choice.randrange(6)
        if kind == 0:
            request[choice.choice(["protocol", "tenant", "freeze", "regions"])] = choice.choice(values)
        elif kind == 1:
            request["regions"][0][choice.choice(list(region))] = choice.choice(values)
        elif kind == 2:
            attached = [choice.choice(files) for _ in range(choice.choice([0, 1, 2, 3, 253]))]
        elif kind == 3:
            request["op"] = choice.choice(["add-process", "status", "enable", "unregister", "fly", "list", None, 7])
            request["tenant"] = choice.choice(["nobody", "x" * 65, 7])
        elif kind == 4:
            del request[choice.choice(list(request))]
        else:
            request["regions"] = [region, region]
        return json.dumps(request).encode(), attached

    def fuzz():
        """Bytes of a request, bent at random."""
        packet = bytearray(json.dumps(choice.choice([register, {"op": "status", "tenant": "nobody", "id": [1]}])).encode())
        for _ in range(choice.randint(1, 6)):
            place = choice.randrange(len(packet) + 1)
            match choice.randrange(4):
                case 0:
                    packet[place:place] = choice.randbytes(choice.randint(1, 8))
                case 1:
                    del packet[place : place + choice.randint(1, 8)]
                case 2:
                    packet[place : place + 1] = choice.choice([b'"', b"{", b"[", b"}", b"\\", b"0", b"\xff", b"\x00", b","])
                case 3:
                    packet[place:place] = bytes(packet[: choice.randint(0, 40)])
        return bytes(packet), [choice.choice(files) for _ in range(choice.choice([0, 0, 1, 2, 5]))]

    def exchange(packet, attached):
        nonlocal accepted
        socket.send_fds(connection, [packet], attached)
        reply = json.loads(connection.recv(65536))
        if not reply["ok"]:
            assert reply["error"]["code"] in CODES, (packet, reply)
        elif reply.get("tenant") == "neighbour":
            raise AssertionError((packet, reply))
        elif "page_size" in reply:  # it was right after all
            accepted += 1
            victim.client.ask({"op": "unregister"})

    accepted = 0
    for number in range(malformed):
        exchange(*bend())
        if number % 500 == 0:
            assert neighbour.client.ask({"op": "status"})["state"] == "Active"
            assert neighbour.memory[number : number + 100] == neighbour.content[number : number + 100]
    for number in range(fuzzed):
        exchange(*fuzz())
    for _ in range(20):  # and who goes away in the middle
        other = library.Client(path)
        for _ in range(20):
            socket.send_fds(other.socket, [bend()[0]], files)
        other.socket.close()
    exchange(b"x" * 65537, right)
    deadline = time.monotonic() + 120
    while any(now > then for now, then in zip(count(), before)):
        assert time.monotonic() < deadline, f"descriptors: {count()}, {before} before"
        time.sleep(0.05)
    neighbour.client.ask({"op": "enable"})
    assert neighbour.is_intact()
    neighbour.client.ask({"op": "unregister"})
    assert neighbour.is_intact()
    print(f"{malformed} malformed, {fuzzed} fuzzed, {accepted} right by chance; descriptors {before}", file=sys.stderr)
    print("verified")


main()
