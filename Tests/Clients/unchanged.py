#!/usr/bin/env python3
"""A program that knows nothing of swap-monitor, and has its memory in a memfd: to be attached to.

  unchanged.py [spin] [filter] [small] [bare]

spin: its main thread never sleeps. filter: a seccomp filter kills it for calls that it does not make itself. small: its
memory is small. bare: it has none.
Says "ready", then answers lines from its standard input: "check" with the number of wrong pages, "write" having written
every second page anew.
"""
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import threading

options = sys.argv[1:]
PAGE = 4096
size = 0 if "bare" in options else (1 if "small" in options else 24) << 20
pages = size // PAGE
generation = [1] * pages
if size:
    file = os.memfd_create("guest-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(file, size)
    fcntl.fcntl(file, 1033, 2 | 4)  # F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW
    memory = mmap.mmap(file, size, mmap.MAP_SHARED)


def content(page):
    return (page << 8 | generation[page]).to_bytes(8, "little") * (PAGE // 8) if page % 7 else bytes(PAGE)


def write(page):
    memory[page * PAGE:(page + 1) * PAGE] = content(page)


def serve():
    print("ready", flush=True)
    for line in sys.stdin:
        wrong = 0
        if line.strip() == "write":
            for page in range(0, pages, 2):
                generation[page] += 1
                write(page)
        else:
            wrong = sum(memory[page * PAGE:(page + 1) * PAGE] != content(page) for page in range(pages))
        print(wrong, flush=True)
    os._exit(0)


for page in range(pages):
    write(page)
if "filter" in options:
    # userfaultfd (323), socketpair (53): SECCOMP_RET_KILL_PROCESS; all else is allowed.
    code = [(0x20, 0, 0, 0), (0x15, 1, 0, 323), (0x15, 0, 1, 53), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
    filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(filter))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert libc.prctl(22, 2, program, 0, 0) == 0, "PR_SET_SECCOMP"
if "spin" in options:
    threading.Thread(target=serve, daemon=True).start()
    count = 0
    while True:
        count += 1
serve()
