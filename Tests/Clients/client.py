#!/usr/bin/env python3
"""A client written from PROTOCOL.md alone: registers memory, has it swapped out, reads itself back.

Usage: client.py SOCKET [MEBIBYTES]. Prints "verified" and exits 0 when every byte came back right. Linux, x86-64 or arm64.
"""
import array
import ctypes
import fcntl
import json
import mmap
import os
import platform
import random
import socket
import sys

SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}[platform.machine()]
USERFAULTFD_IOC_NEW = 0xAA00
F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2


def make_userfaultfd():
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    try:
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
        return fcntl.ioctl(device, USERFAULTFD_IOC_NEW, flags)
    except OSError:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.syscall(SYS_USERFAULTFD, flags | 1)  # UFFD_USER_MODE_ONLY
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        return descriptor


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)

    def ask(self, request, descriptors=()):
        socket.send_fds(self.socket, [json.dumps(request).encode()], list(descriptors))
        reply = json.loads(self.socket.recv(65536))
        if not reply["ok"]:
            raise SystemExit(f"{request['op']}: {reply['error']['code']}: {reply['error']['message']}")
        return reply


def main():
    path = sys.argv[1]
    size = int(sys.argv[2] if len(sys.argv) > 2 else 16) << 20
    memfd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, size)
    fcntl.fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)
    memory = mmap.mmap(memfd, size, mmap.MAP_SHARED)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    content = random.Random(1).randbytes(size // 2)
    memory[: len(content)] = content  # the second half stays a hole

    client = Client(path)
    name = f"python-{os.getpid()}"
    region = {"address": address, "size": size, "memfd": 0, "offset": 0}
    client.ask(
        {"op": "register", "protocol": 1, "tenant": name, "freeze": "signal", "regions": [region], "id": 1},
        [make_userfaultfd(), memfd],
    )
    pages = len(content) // mmap.PAGESIZE
    # Another connection commands, as an operator would: this process is stopped while its memory is moved.
    status = client.ask({"op": "enable"})
    assert status["state"] == "Pending" and status["metrics"]["staging_pages"] == pages, status
    assert memory[12345] == content[12345]  # comes back by a fault
    client.ask({"op": "trim", "wait": True})
    status = client.ask({"op": "out", "wait": True})
    assert status["state"] == "Active" and status["metrics"]["swap_pages"] >= pages - 1, status
    assert memory[: len(content)] == content
    assert memory[size - 1] == 0
    memory[0:5] = b"hello"
    client.ask({"op": "enable"})
    status = client.ask({"op": "disable", "wait": True})
    assert status["state"] == "Ready" and status["metrics"]["staging_pages"] == 0, status
    assert memory[0:5] == b"hello" and memory[5 : len(content)] == content[5:]
    client.ask({"op": "unregister"})
    print("verified")


main()
