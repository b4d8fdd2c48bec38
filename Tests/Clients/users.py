#!/usr/bin/env python3
"""Users are kept apart: nobody but root sees another's tenant, and nobody can take all connections or pages.

Usage: users.py SOCKET. Root only; the socket must let everybody connect. Prints "verified".
"""
import ctypes
import fcntl
import mmap
import os
import socket
import sys
import traceback

sys.path.insert(0, os.path.dirname(__file__))
import client as library

SIZE = 1 << 20
CONNECTIONS, PAGES = 256, 1 << 31  # of one user, as PROTOCOL.md says
COMMANDS = ["status", "enable", "trim", "out", "disable", "unregister", "add-process"]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


def as_user(user, path, body):
    """Runs `body` in a child that is another user, where it can reach the socket but by its name alone."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(os.path.dirname(path))
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            body(os.path.basename(path))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def code(reply):
    return None if reply["ok"] else reply["error"]["code"]


def refuse_others(path, tenants):
    client = library.Client(path)
    for tenant in tenants:
        for op in COMMANDS:
            reply = client.exchange({"op": op, "tenant": tenant})
            assert code(reply) == "no-such-tenant", (op, reply)
    assert client.ask({"op": "list"})["tenants"] == []
    assert code(client.exchange({"op": "upgrade"})) == "permission-denied"
    client.socket.close()


def is_let_in(path):
    """A connection that was answered, or None."""
    client = library.Client(path)
    try:
        return client if client.exchange({"op": "list"})["ok"] else None
    except (OSError, ValueError):  # closed at once: nothing comes
        return None


def take_too_much(path):
    """As many connections as may be, and one more; more pages than may be."""
    own = library.Tenant(path, "users", SIZE)
    own.client.ask({"op": "enable"})
    own.client.ask({"op": "out", "wait": True})
    assert own.is_intact()
    assert [tenant["tenant"] for tenant in own.client.ask({"op": "list"})["tenants"]] == ["users"]

    size = (PAGES - 2) * mmap.PAGESIZE  # what one tenant may have
    memfd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, size)
    fcntl.fcntl(memfd, library.F_ADD_SEALS, library.F_SEAL_SHRINK)
    protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED
    address = libc.mmap(None, ctypes.c_size_t(size), protection, flags, memfd, ctypes.c_long(0))
    assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    region = {"address": address, "size": size, "memfd": 0, "offset": 0}
    greedy = library.Client(path)
    request = {"op": "register", "protocol": 1, "tenant": "greedy", "regions": [region]}
    reply = greedy.exchange(request, [library.make_userfaultfd(), memfd])
    assert code(reply) == "no-memory" and str(PAGES) in reply["error"]["message"], reply

    clients = [own.client, greedy]
    while client := is_let_in(path):
        clients.append(client)
    # (Those that were closed just now may count yet.)
    assert CONNECTIONS - 2 <= len(clients) <= CONNECTIONS, len(clients)
    return own, clients


def main():
    path = sys.argv[1]
    root = library.Tenant(path, "roots", SIZE)
    (told, telling), (done, ending) = os.pipe(), os.pipe()

    def user(path):
        refuse_others(path, ["roots", "nobodys"])
        own, clients = take_too_much(path)
        os.write(telling, b"t")
        assert os.read(done, 1) == b"d"
        assert own.is_intact()
        for client in clients[1:]:
            client.socket.close()
        while not is_let_in(path):
            pass  # until the daemon has seen that they are gone
        own.client.ask({"op": "unregister"})
        assert own.is_intact()

    child = as_user(65534, path, user)
    os.close(telling)
    assert os.read(told, 1) == b"t", "the user failed"
    # The others are none the worse: root gets in, and may do everything; another user gets in, and sees nothing.
    names = [tenant["tenant"] for tenant in root.client.ask({"op": "list"})["tenants"]]
    assert names == ["roots", "users"], names
    operator = library.Client(path)
    assert operator.ask({"op": "enable", "tenant": "users"})["state"] == "Pending"
    assert operator.ask({"op": "status", "tenant": "users"})["metrics"]["staging_pages"] > 0
    other = as_user(65533, path, lambda path: refuse_others(path, ["roots", "users"]))
    assert os.waitpid(other, 0)[1] == 0, "the other user failed"
    os.write(ending, b"d")
    assert os.waitpid(child, 0)[1] == 0, "the user failed"
    root.client.ask({"op": "unregister"})
    assert root.is_intact()
    print("verified")


main()
