#!/usr/bin/env python3
"""A tenant that forks, moves and unmaps its memory while it is out, and tells nobody.

Usage: forks.py SOCKET. Prints "verified" when every process read every page right, at whatever address.
"""
import ctypes
import mmap
import os
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
import client as library

PAGE, PAGES = mmap.PAGESIZE, 1024
libc = ctypes.CDLL(None, use_errno=True)
libc.mremap.restype = ctypes.c_void_p
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2


def expect(condition, what):
    if not condition:
        raise SystemExit(f"wrong: {what}")


def fork(body):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if body() else 1)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(2)
    return pid


def join(pid, what):
    _, status = os.waitpid(pid, 0)
    expect(status == 0, f"{what}: status {status}")


def pids(client, name, count):
    """Which processes a child is takes the daemon an instant to find out."""
    for _ in range(6000):
        found = client.ask({"op": "list"})["tenants"][0]["pids"]
        if len(found) == count:
            return found
        time.sleep(0.01)
    raise SystemExit(f"{name}: {count} processes are expected, and there are {found}")


def main():
    path = sys.argv[1]
    tenant = library.Tenant(path, "forks", PAGES * PAGE)
    ask = tenant.client.ask
    base = ctypes.addressof(ctypes.c_char.from_buffer(tenant.memory))

    # A child reads everything right, and what it writes is seen; it is listed while it lives.
    ask({"op": "enable"})
    ready, go = os.pipe()

    def child():
        expect(tenant.memory[: PAGES * PAGE // 2] == tenant.content[: PAGES * PAGE // 2], "the child's first half")
        tenant.memory[5 * PAGE : 5 * PAGE + 5] = b"child"
        return os.read(ready, 1) == b"x" and tenant.memory[-PAGE:] == tenant.content[-PAGE:]

    pid = fork(child)
    tenant.content[5 * PAGE : 5 * PAGE + 5] = b"child"
    expect(pid in pids(tenant.client, "fork", 2), "the child is listed")
    ask({"op": "enable"})  # it is stopped, and what it brought back is moved, too
    ask({"op": "out", "wait": True})
    os.write(go, b"x")
    join(pid, "the child")
    expect(tenant.is_intact(), "the parent's memory after the child")
    pids(tenant.client, "death", 1)

    # A child may announce itself all the same, and a grandchild need not.
    ask({"op": "enable"})

    def announced():
        own = library.Client(path)
        own.ask({"op": "add-process", "tenant": "forks"}, [library.make_userfaultfd()])
        grandchild = fork(lambda: tenant.memory[PAGE * 9 : PAGE * 90] == tenant.content[PAGE * 9 : PAGE * 90])
        join(grandchild, "the grandchild")
        return tenant.is_intact()

    join(fork(announced), "the announced child")

    # Many at once, some of which execute another program or die at once, under commands.
    for round_number in range(6):
        ask({"op": "enable"})  # in Ready, nothing tells of forks
        children = [fork(lambda: tenant.is_intact()) for _ in range(4)]
        other = fork(lambda: os.execv("/bin/true", ["true"]))
        dead = fork(lambda: True)
        for op in ("enable", "out", "trim", "disable")[: round_number % 4 + 1]:
            reply = tenant.client.exchange({"op": op, "wait": True})
            expect(reply["ok"] or reply["error"]["code"] in ("wrong-state", "aborted"), reply)
        for pid in children + [other, dead]:
            join(pid, "one of many")
    ask({"op": "disable", "wait": True})

    # Moved memory is followed.
    ask({"op": "enable"})
    ask({"op": "out", "wait": True})
    target = libc.mmap
    target.restype = ctypes.c_void_p
    new = target(None, ctypes.c_size_t(PAGES * PAGE), 0, 0x22, -1, ctypes.c_long(0))  # a place of its own
    moved = libc.mremap(
        ctypes.c_void_p(base), ctypes.c_size_t(PAGES * PAGE // 4), ctypes.c_size_t(PAGES * PAGE // 4),
        MREMAP_MAYMOVE | MREMAP_FIXED, ctypes.c_void_p(new))
    expect(moved == new, "mremap")
    part = (ctypes.c_char * (PAGES * PAGE // 4)).from_address(new)
    expect(part.raw == tenant.content[: PAGES * PAGE // 4], "the moved part")
    part[0:5] = b"moved"
    tenant.content[0:5] = b"moved"
    ask({"op": "enable"})
    expect(part.raw == tenant.content[: PAGES * PAGE // 4], "the moved part, moved out again")
    rest = (ctypes.c_char * (PAGES * PAGE // 4)).from_address(base + PAGES * PAGE // 4)
    expect(rest.raw == tenant.content[PAGES * PAGE // 4 : PAGES * PAGE // 2], "what stayed")

    # What is unmapped comes back into the memfd.
    ask({"op": "enable"})
    libc.munmap(ctypes.c_void_p(base + PAGES * PAGE // 2), ctypes.c_size_t(PAGES * PAGE // 4))
    expect(part.raw == tenant.content[: PAGES * PAGE // 4], "the moved part, after munmap")
    ask({"op": "out", "wait": True})
    ask({"op": "disable", "wait": True})
    expect(os.pread(tenant.memfd, PAGES * PAGE, 0) == bytes(tenant.content), "the memfd")
    ask({"op": "unregister"})
    expect(os.pread(tenant.memfd, PAGES * PAGE, 0) == bytes(tenant.content), "the memfd at the end")
    print("verified", flush=True)
    os._exit(0)  # the mmap object's own unmapping would meet what was moved


main()
