#!/usr/bin/env python3
"""Clients that nobody trusts harm only themselves.

Usage: hostile.py SOCKET [SCENARIO...]. While each of them does its worst, a neighbour's commands are carried out and its memory
is compared; afterwards the daemon has as many descriptors as before. Prints "verified".
"""
import ctypes
import fcntl
import mmap
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
import client as library
import fuse
import processes

SIZE = 2 << 20
PATIENCE = 120  # seconds, for what takes none on a machine that does nothing else
PR_SET_PDEATHSIG, MADV_REMOVE = 1, 9
MAP_SHARED, MAP_FIXED, PROT_READ, PROT_WRITE = 1, 0x10, 1, 2
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
COMMANDS = ("enable", "trim", "out", "disable", "status")


def eventually(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass that {what}"
        time.sleep(0.02)


class Child:
    """A process that runs `body`, which says when it is doing its worst; dies with this one."""

    def __init__(self, body, *arguments):
        self.input, theirs = os.pipe()
        ours, self.output = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.close(self.input)
            os.close(self.output)
            try:
                body(*arguments, lambda word=b"r": os.write(theirs, word), ours)
            except BaseException as problem:
                print(f"{body.__name__}: {problem!r}", file=sys.stderr)
            os._exit(1)
        os.close(theirs)
        os.close(ours)

    def hears(self, word=b"r"):
        """Whether it says that; waits for it."""
        return os.read(self.input, 1) == word

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.input)
        os.close(self.output)


class Daemon:
    """What can be seen of it."""

    def __init__(self, path):
        self.path = path
        self.client = library.Client(path)
        self.keeper = processes.keeper_of(self.client.socket)

    def worker(self):
        pids = []

        def find():
            pids[:] = processes.workers(self.keeper)
            return pids

        eventually(find, "there is a worker")
        return pids[0]

    def warns(self, words):
        """Whether the status of the tenant "holds" does."""
        status = self.client.exchange({"op": "status", "tenant": "holds"})
        return any(words in warning for warning in status.get("warnings", []))

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (self.keeper, self.worker()))

    def settled(self):
        counts = []

        def rests():
            counts.append(self.descriptors())
            return len(counts) > 10 and len(set(counts[-10:])) == 1

        eventually(rests, "the daemon comes to rest")
        return counts[-1]


# The neighbour.


def neighbour(path, say, orders):
    tenant = library.Tenant(path, "neighbour", SIZE)
    tenant.client.socket.settimeout(PATIENCE)
    say()
    while os.read(orders, 1):
        for number in range(3):
            for op, state in (("enable", "Pending"), ("trim", "Pending"), ("out", "Active"), ("disable", "Ready")):
                status = tenant.client.ask({"op": op, "wait": True})
                assert status["state"] == state, status
                tenant.write(number * 5000, random.randbytes(100))
                if op != "enable":
                    assert tenant.is_intact(), f"the neighbour's memory, after {op}"
        say()


class Neighbour(Child):
    def __init__(self, path):
        super().__init__(neighbour, path)
        assert self.hears()

    def work(self):
        os.write(self.output, b"x")
        assert self.hears(), "the neighbour has come to harm"


# The others: each says so when it has begun.


def reads_nothing(path, say, _):
    connections = [library.Client(path).socket for _ in range(8)]
    for connection in connections:
        connection.setblocking(False)
        try:
            while True:
                connection.send(b'{"op":"list","id":"' + b"x" * 900 + b'"}')
        except BlockingIOError:
            pass
    say()
    signal.pause()


def floods(path, say, _):
    """Requests, good and bad, with descriptors and without; and connections that come and go."""

    def flood(seed):
        choice = random.Random(seed)
        connection = library.Client(path).socket
        file = os.memfd_create("flood")
        while True:
            request = b'{"op":"status","tenant":"x"}' if choice.random() < 0.5 else choice.randbytes(300)
            socket.send_fds(connection, [request], [file] * choice.choice((0, 0, 1, 253)))
            connection.recv(65536)

    def knock():
        while True:
            try:
                library.Client(path).socket.close()
            except OSError:
                pass  # the backlog is full

    for number in range(4):
        threading.Thread(target=flood, args=(number,), daemon=True).start()
    threading.Thread(target=knock, daemon=True).start()
    say()
    signal.pause()


def address_of(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def commands(path, name):
    """Has another process ask for everything, without end."""

    def ask(path, name, say, _):
        connection, choice = library.Client(path), random.Random(9)
        while True:
            connection.exchange({"op": choice.choice(COMMANDS), "tenant": name, "wait": choice.random() < 0.5})

    return Child(ask, path, name)


def clears_nonblock(path, say, _):
    tenant = library.Tenant(path, "clears", SIZE)
    commands(path, "clears")

    def clear():
        while True:
            flags = fcntl.fcntl(tenant.userfaultfd, fcntl.F_GETFL)
            fcntl.fcntl(tenant.userfaultfd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)

    threading.Thread(target=clear, daemon=True).start()
    say()
    while True:
        assert tenant.is_intact()


def maps_and_unmaps(path, say, _):
    tenant = library.Tenant(path, "maps", SIZE)
    commands(path, "maps")
    base, choice = address_of(tenant.memory), random.Random(2)
    say()
    while True:
        first = choice.randrange(SIZE // 4096)
        address, length = base + first * 4096, choice.randint(1, 64) * 4096
        length = min(length, SIZE - first * 4096)
        libc.munmap(address, length)
        if choice.random() < 0.7:
            libc.mmap(address, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, tenant.memfd, first * 4096)


def truncates(path, say, _):
    """Makes its memfd longer, punches it, and shrinks it where it can."""
    tenant = library.Tenant(path, "truncates", SIZE)
    commands(path, "truncates")
    say()
    for number in range(1 << 60):
        os.ftruncate(tenant.memfd, SIZE + number % 1000 * 4096) if number < 1000 else None
        try:
            os.ftruncate(tenant.memfd, 4096)
        except PermissionError:
            pass
        libc.fallocate(tenant.memfd, 3, ctypes.c_long(number * 4096 % SIZE), ctypes.c_long(8192))
        libc.madvise(address_of(tenant.memory) + number * 8192 % SIZE, 4096, MADV_REMOVE)


def forks(path, say, _):
    tenant = library.Tenant(path, "forks", SIZE)
    commands(path, "forks")
    say()
    while True:
        pid = os.fork()
        if pid == 0:
            sum(tenant.memory[::4096])
            os._exit(0)
        if random.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def executes(path, say, _):
    """Tenants that become other programs, or die, in the middle of whatever is going on."""

    def tenant(path, number):
        library.Tenant(path, f"executes-{number}", SIZE).client.socket.send(b'{"op":"enable"}')
        time.sleep(random.random() * 0.01)
        if number % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        os.execv("/bin/true", ["true"])

    for number in range(1 << 60):
        pid = os.fork()
        if pid == 0:
            try:
                tenant(path, number)
            finally:
                os._exit(1)
        os.waitpid(pid, 0)
        if number == 5:
            say()


def registers_twice(path, say, _):
    """One userfaultfd and one memory on many connections at once; only one of them may have it."""
    tenant = library.Tenant(path, "twice", SIZE)
    tenant.client.ask({"op": "unregister"})
    connections = [library.Client(path) for _ in range(16)]
    region = {"address": address_of(tenant.memory), "size": SIZE, "memfd": 0, "offset": 0}
    for number in range(1 << 60):
        for index, connection in enumerate(connections):
            request = {"op": "register", "protocol": 1, "tenant": f"twice-{index % 3}", "regions": [region]}
            socket.send_fds(
                connection.socket, [library.json.dumps(request).encode()], [tenant.userfaultfd, tenant.memfd])
        replies = [library.json.loads(connection.socket.recv(65536)) for connection in connections]
        winners = [connection for connection, reply in zip(connections, replies) if reply["ok"]]
        assert len(winners) == 1, replies
        winners[0].ask({"op": "unregister"})
        if number == 3:
            say()


# Locks of the kernel's, held by a fault on a file whose server does not answer.


def fault(address):
    """On a thread of its own, which never comes back."""
    threading.Thread(target=libc.memchr, args=(ctypes.c_void_p(address), 1, 1), daemon=True).start()


def map_file(file):
    os.close(file.device)  # only the server has it, so that its end is the end of all waiting
    descriptor = os.open(file.path, os.O_RDONLY)
    os.fstat(descriptor)  # or the kernel knows no size
    return libc.mmap(None, 4096, PROT_READ, 2, descriptor, 0)


def failing_reads():
    """How many reads of a fault must fail until the kernel waits for the next one with mmap_lock held (filemap_fault of
    mm/filemap.c); None where it never does. A process tries each."""

    def blocks(file, say, orders):
        address = map_file(file)
        fault(address)
        os.read(orders, 1)
        libc.mmap(None, 4096, PROT_READ, 0x22, -1, 0)  # wants to write-lock
        say(b"f")

    for count in (2, 1, 3, 0):
        server = fuse.File(failing_reads=count, hangs=[fuse.READ])
        child = Child(blocks, server)
        hangs = server.hanging.acquire(timeout=2)  # else the fault has got its SIGBUS
        if hangs:
            os.write(child.output, b"x")
            states = []

            def is_known():
                with open(f"/proc/{child.pid}/stat") as file:
                    states.append(file.read().rpartition(")")[2].split()[0])
                return select.select([child.input], [], [], 0)[0] or states[-20:] == ["D"] * 20

            eventually(is_known, "it is known whether the lock is held")
            hangs = states[-20:] == ["D"] * 20
        server.end()
        child.end()
        if hangs:
            return count
    return None


def holds_memory_lock(path, is_registered, file, say, orders):
    address = map_file(file)
    tenant = library.Tenant(path, "holds", SIZE)
    region = {"address": address_of(tenant.memory), "size": SIZE, "memfd": 0, "offset": 0}
    request = library.json.dumps({"op": "register", "protocol": 1, "tenant": "holds", "regions": [region]}).encode()
    if not is_registered:
        tenant.client.ask({"op": "unregister"})
    fault(address)
    os.read(orders, 1)  # it is held: from here on nothing may map or unmap
    if not is_registered:
        socket.send_fds(tenant.client.socket, [request], [tenant.userfaultfd, tenant.memfd])
    say()
    os.read(orders, 1)  # it is let go
    assert tenant.is_intact()
    say()


def holds_inode_lock(path, file, say, orders):
    """A write keeps its file's lock while the memory that it comes from is waited for."""
    address = map_file(file)
    tenant = library.Tenant(path, "holds", SIZE)
    tenant.client.ask({"op": "enable"})
    say()
    threading.Thread(target=libc.pwrite, args=(tenant.memfd, address, 100, 0), daemon=True).start()
    signal.pause()


def sends_hanging_files(path, file, say, _):
    """Descriptors that can't be examined, or closed, before their server answers."""
    os.close(file.device)
    descriptor = os.open(file.path, os.O_RDWR)
    region = {"address": 4096, "size": 4096, "memfd": 0, "offset": 0}
    say()  # from now on nothing is answered
    time.sleep(0.2)
    for number in range(20):
        connection = library.Client(path).socket
        userfaultfd = library.make_userfaultfd()
        request = {"op": "register", "protocol": 1, "tenant": f"files-{number}", "regions": [region]}
        for descriptors in ([descriptor], [userfaultfd, descriptor], [descriptor] * 100):
            socket.send_fds(connection, [library.json.dumps(request).encode()], descriptors)
    say()
    signal.pause()


def holder(daemon, failures, is_registered):
    """A tenant that holds its memory lock for as long as its file's server likes."""
    server = fuse.File(failing_reads=failures, hangs=[fuse.READ])
    child = Child(holds_memory_lock, daemon.path, is_registered, server)
    server.hanging.acquire()  # it is held
    os.write(child.output, b"x")
    assert child.hears()
    return server, child


def kill_stuck_worker(daemon, work):
    """One that the kernel can't end, for a thread that waits for the lock: the next one serves everybody else.

    Returns its number, and the connection that asked for what it waits in."""
    asker = library.Client(daemon.path)
    asker.socket.send(b'{"op":"enable","tenant":"holds"}')
    work()
    eventually(lambda: daemon.warns("\"jobs\""), "a stuck thread is reported")
    stuck = daemon.worker()
    os.kill(stuck, signal.SIGKILL)
    work()
    assert daemon.worker() != stuck and os.path.exists(f"/proc/{stuck}"), "it lingers"
    return stuck, asker


def check_locks(daemon, work):
    """The memory lock, before and after registration; the memfd's; and files that can't be looked at."""
    failures = failing_reads()
    if failures is None:
        print("*** SKIPPED: this kernel drops mmap_lock ***", file=sys.stderr)
    for is_registered in (False, True) if failures is not None else ():
        server, child = holder(daemon, failures, is_registered)
        work()
        if is_registered:
            _, asker = kill_stuck_worker(daemon, work)
        server.end()
        child.end()
    server = fuse.File(hangs=[fuse.READ])
    child = Child(holds_inode_lock, daemon.path, server)
    assert child.hears()
    server.hanging.acquire()
    # From Linux 6.5 on what is resident is counted without that lock.
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 5):
        assert daemon.warns("can't be counted"), "the status tells what it does not know"
    work()
    server.end()
    child.end()
    server = fuse.File()
    child = Child(sends_hanging_files, daemon.path, server)
    assert child.hears()
    server.hangs = {fuse.GETATTR, fuse.FLUSH, fuse.RELEASE}
    assert child.hears()
    work()
    server.end()
    child.end()


SCENARIOS = [
    reads_nothing, floods, clears_nonblock, maps_and_unmaps, truncates, forks, executes, registers_twice,
]


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    daemon = Daemon(sys.argv[1])
    chosen = sys.argv[2:]
    good = Neighbour(sys.argv[1])
    work = good.work
    work()
    before = daemon.settled()
    for scenario in SCENARIOS:
        if chosen and scenario.__name__ not in chosen:
            continue
        worker = daemon.worker()
        child = Child(scenario, sys.argv[1])
        assert child.hears(), scenario.__name__
        work()
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0), f"{scenario.__name__} has ended"
        child.end()
        eventually(lambda: daemon.descriptors() <= before, f"the descriptors are {before} after {scenario.__name__}")
        assert daemon.worker() == worker, "the worker has died"
    if fuse.is_there():
        if not chosen or "locks" in chosen:
            # Who has taken over lacks what came with requests: it is compared with its like.
            os.kill(daemon.worker(), signal.SIGKILL)
            work()
            before = daemon.settled()
            check_locks(daemon, work)
            eventually(lambda: daemon.descriptors() <= before, f"the descriptors are {before} after locks")
    else:
        print("*** SKIPPED: no /dev/fuse, or not root; held locks are not tried ***", file=sys.stderr)
    good.end()
    print("verified")


if __name__ == "__main__":
    main()
