"""Plays systemd for a daemon whose keeper and worker die in one blow, again and again: keeps the descriptors that the daemon
stores (sd_notify(3), FDSTORE), and hands them to the next (sd_listen_fds(3)). Its tenant sees nothing of it.

Usage: service_manager.py PROGRAM      prints "verified" and exits 0
"""
import array
import os
import signal
import socket
import sys
import tempfile
import threading
import time

import client as library

ROUNDS, PAGES, PAGE = 4, 2048, 4096
FIRST = 3  # SD_LISTEN_FDS_START


class Manager:
    """The service's notify socket, and its store."""

    def __init__(self, program, directory):
        self.program, self.directory, self.store, self.ready = program, directory, {}, threading.Event()
        self.path = f"{directory}/notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.lock = threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            text, ancillary, _, _ = self.socket.recvmsg(4096, 4096)
            descriptors = [d for _, _, data in ancillary for d in array.array("i", data)]
            fields = dict(line.split("=", 1) for line in text.decode().split("\n"))
            with self.lock:
                if fields.get("FDSTORE"):
                    assert fields["FDPOLL"] == "0" and len(descriptors) == 1, fields
                    self.store.setdefault(fields["FDNAME"], []).extend(descriptors)
                if fields.get("FDSTOREREMOVE"):
                    for descriptor in self.store.pop(fields["FDNAME"], []):
                        os.close(descriptor)
            if fields.get("READY"):
                self.ready.set()

    def start(self):
        """As a service manager does: the descriptors from 3 on, and told whom they are for."""
        self.ready.clear()
        with self.lock:
            kept = [(name, d) for name, descriptors in self.store.items() for d in descriptors]
            pid = os.fork()
            if pid == 0:
                spare = [os.dup(d) for _, d in kept]
                high = max(spare + [FIRST + len(kept)]) + 1
                spare = [os.dup2(d, high + i) for i, d in enumerate(spare)]
                for number, d in enumerate(spare):
                    os.dup2(d, FIRST + number, inheritable=True)
                os.closerange(FIRST + len(kept), 4096)
                names = ":".join(name for name, _ in kept)
                told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": names}
                words = ["serve", "--socket", f"{self.directory}/socket", "--swap-dir", f"{self.directory}/swap"]
                words += ["--keep-free", "0", "--log-level", "error"]
                environment = {**os.environ, **(told if kept else {}), "NOTIFY_SOCKET": self.path}
                os.execve(self.program, [self.program] + words, environment)
            self.keeper = pid
        assert self.ready.wait(60), "the daemon is not ready"

    def kill(self):
        """Worker and keeper at once, as the end of a control group does: both stopped, so that neither sees the other's death."""
        os.kill(self.keeper, signal.SIGSTOP)
        with open(f"/proc/{self.keeper}/task/{self.keeper}/children") as children:
            processes = [int(worker) for worker in children.read().split()]
        for worker in list(processes):
            with open(f"/proc/{worker}/task/{worker}/children") as children:
                processes += [int(child) for child in children.read().split()]
        for process in processes + [self.keeper]:
            os.kill(process, signal.SIGKILL)
        os.waitpid(self.keeper, 0)


def tenant(path, commands, answers):
    """In a process of its own: takes one line a round, and answers with what it has seen."""
    own = None
    for round_number, line in enumerate(commands):
        if own is None:
            own = library.Tenant(path, "kept", PAGES * PAGE)
        elif line == "check\n":
            # Nobody serves just now: who touches what is out waits.
            place = random_page(round_number) * PAGE
            assert own.memory[place : place + PAGE] == own.content[place : place + PAGE], "it reads something else"
        elif line == "end\n":
            assert own.is_intact()
            own.client.ask({"op": "unregister"})
            assert own.is_intact()
        else:
            # On the connection that it has had from the first.
            own.write(5 * PAGE, line.encode())
            reply = own.client.ask({"op": "enable"})
            assert reply["state"] == "Pending", reply
            if round_number % 4 == 1:
                reply = own.client.ask({"op": "out", "wait": True})
                assert reply["state"] == "Active", reply
        answers.write("done\n")
        answers.flush()


def random_page(number):
    return number * 1237 % PAGES


def main():
    signal.alarm(600)  # it ends rather than hang
    with tempfile.TemporaryDirectory() as directory:
        to_tenant, from_main = os.pipe()
        to_main, from_tenant = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(from_main)
            tenant(f"{directory}/socket", os.fdopen(to_tenant), os.fdopen(from_tenant, "w"))
            os._exit(0)
        os.close(to_tenant)
        os.close(from_tenant)
        lines = os.fdopen(to_main)

        def tell(line):
            os.write(from_main, line.encode() + b"\n")

        def heard():
            assert lines.readline() == "done\n", "the tenant has failed"

        manager = Manager(sys.argv[1], directory)
        manager.start()
        tell("register")
        heard()
        for round_number in range(ROUNDS):
            tell(f"round {round_number}")
            heard()
            manager.kill()
            tell("check")
            time.sleep(0.1)
            manager.start()
            heard()
        tell("end")
        heard()
        os.close(from_main)
        assert os.waitpid(pid, 0)[1] == 0
        os.kill(manager.keeper, signal.SIGTERM)
        assert os.waitpid(manager.keeper, 0)[1] == 0
        deadline = time.monotonic() + 60
        while manager.store and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not manager.store, "what an orderly end leaves in the store"
    print("verified", flush=True)


main()
