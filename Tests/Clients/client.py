#!/usr/bin/env python3
"""A client written from PROTOCOL.md alone: registers memory, has it swapped out, reads itself back.

Usage: client.py SOCKET [MEBIBYTES]          prints "verified" and exits 0 when every byte came back right
       client.py SOCKET MEBIBYTES --hold NAME [FREEZE]  stays, as the tenant NAME, until a line (or the end) comes on standard input;
                                               then checks itself likewise. Something to practise the command line on.
Linux, x86-64 or arm64.
"""
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
UFFD_USER_MODE_ONLY = 1
F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2


def make_userfaultfd():
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    try:
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
        return fcntl.ioctl(device, USERFAULTFD_IOC_NEW, flags)
    except OSError:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.syscall(SYS_USERFAULTFD, flags | UFFD_USER_MODE_ONLY)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        return descriptor


class Client:
    """A connection: a packet for a packet."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)

    def exchange(self, request, descriptors=()):
        socket.send_fds(self.socket, [json.dumps(request).encode()], list(descriptors))
        return json.loads(self.socket.recv(65536))

    def ask(self, request, descriptors=()):
        reply = self.exchange(request, descriptors)
        if not reply["ok"]:
            raise SystemExit(f"{request['op']}: {reply['error']['code']}: {reply['error']['message']}")
        return reply


class Tenant:
    """Memory of this process, full of random bytes, registered under a name."""

    def __init__(self, path, name, size, filled=None, freeze="signal"):
        self.memfd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memfd, size)
        fcntl.fcntl(self.memfd, F_ADD_SEALS, F_SEAL_SHRINK)
        self.memory = mmap.mmap(self.memfd, size, mmap.MAP_SHARED)
        self.content = bytearray(random.Random(1).randbytes(1 << 20) * (size >> 20) + bytes(range(256)) * 4096)
        del self.content[size if filled is None else filled :]
        self.memory[: len(self.content)] = bytes(self.content)  # what follows stays a hole
        self.userfaultfd = make_userfaultfd()
        self.client = Client(path)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        region = {"address": address, "size": size, "memfd": 0, "offset": 0}
        self.client.ask(
            {"op": "register", "protocol": 1, "tenant": name, "freeze": freeze, "regions": [region]},
            [self.userfaultfd, self.memfd],
        )

    def write(self, offset, data):
        self.memory[offset : offset + len(data)] = data
        self.content[offset : offset + len(data)] = data

    def is_intact(self):
        return self.memory[: len(self.content)] == self.content


def hold(path, size, name, freeze="signal"):
    tenant = Tenant(path, name, size, freeze=freeze)
    print(f"{name}: {size >> 20} MiB, process {os.getpid()}; Enter compares every byte, and ends it", flush=True)
    sys.stdin.readline()
    assert tenant.is_intact()
    if any(known["tenant"] == name for known in tenant.client.ask({"op": "list"})["tenants"]):
        tenant.client.ask({"op": "unregister"})
        assert tenant.is_intact()
    print("verified")


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    if sys.argv[3:4] == ["--hold"]:
        return hold(sys.argv[1], int(sys.argv[2]) << 20, *sys.argv[4:6])
    size = int(sys.argv[2] if len(sys.argv) > 2 else 16) << 20
    tenant = Tenant(sys.argv[1], f"python-{os.getpid()}", size, filled=size // 2)
    client, pages = tenant.client, size // 2 // mmap.PAGESIZE
    status = client.ask({"op": "enable"})
    assert status["state"] == "Pending" and status["metrics"]["staging_pages"] == pages, status
    assert tenant.memory[12345] == tenant.content[12345]  # comes back by a fault
    client.ask({"op": "trim", "wait": True})
    status = client.ask({"op": "out", "wait": True})
    assert status["state"] == "Active" and status["metrics"]["swap_pages"] >= pages - 1, status
    assert tenant.is_intact()
    assert tenant.memory[size - 1] == 0
    tenant.write(0, b"hello")
    client.ask({"op": "enable"})
    status = client.ask({"op": "disable", "wait": True})
    assert status["state"] == "Ready" and status["metrics"]["staging_pages"] == 0, status
    assert tenant.is_intact()
    client.ask({"op": "unregister"})
    print("verified")


if __name__ == "__main__":
    main()
