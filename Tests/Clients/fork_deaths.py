"""A tenant that forks all the time, unannounced, while the daemon's worker is killed again and again: every child finds what
is out, and nobody reads zeros.

Usage: fork_deaths.py SOCKET [KILLS]      prints "verified" and exits 0
"""
import os
import random
import signal
import socket
import struct
import sys
import time

import client as library
import processes

PAGE, PAGES, FORKERS = 4096, 4096, 4
# Longer than a life that the keeper takes for that of a program that can't run.
LIFE_SECONDS = (0.26, 0.5)


def keeper_of(path):
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    probe.connect(path)
    return processes.keeper_of(probe)


def kill_workers(keeper, kills):
    """In a process of its own, which is no fork of the tenant."""
    done = 0
    while done < kills:
        time.sleep(random.uniform(*LIFE_SECONDS))
        for worker in processes.workers(keeper):
            os.kill(worker, signal.SIGKILL)
            done += 1


def fork_on(tenant, numbers, stop):
    """Forks until told to stop, a child a page. Returns how many were forked, and how many read something else."""
    forks, wrong, parent = 0, 0, os.getppid()
    while not os.path.exists(stop) and os.getppid() == parent:
        place = random.choice(numbers) * PAGE
        child = os.fork()
        if child == 0:
            os._exit(0 if tenant.memory[place : place + PAGE] == tenant.content[place : place + PAGE] else 1)
        forks += 1
        wrong += os.waitpid(child, 0)[1] != 0
    return forks, wrong


def main():
    path, kills = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 12
    keeper, stop = keeper_of(path), f"/tmp/fork-deaths-{os.getpid()}"
    killer = os.fork()
    if killer == 0:
        kill_workers(keeper, kills)
        os._exit(0)
    tenant = library.Tenant(path, "fork-deaths", PAGES * PAGE)
    tenant.client.ask({"op": "enable"})
    readers, writer = os.pipe()
    forkers = []
    for number in range(FORKERS):
        forker = os.fork()
        if forker == 0:
            os.write(writer, struct.pack("2i", *fork_on(tenant, range(number, PAGES, FORKERS), stop)))
            os._exit(0)
        forkers.append(forker)
    while os.waitpid(killer, os.WNOHANG)[0] == 0:
        reply = tenant.client.exchange({"op": "enable"})
        # On a busy machine, who forks all the time may not be stopped within a second.
        assert reply["ok"] or reply["error"]["code"] == "freeze-failed", reply
        time.sleep(0.05)
    open(stop, "w").close()
    for forker in forkers:
        os.waitpid(forker, 0)
    os.unlink(stop)
    forks, wrong = map(sum, zip(*(struct.unpack("2i", os.read(readers, 8)) for _ in forkers)))
    print(f"{forks} forks, {kills} kills, {wrong} children read something else", file=sys.stderr)
    tenant.client.ask({"op": "disable", "wait": True})
    assert wrong == 0 and tenant.is_intact()
    print("verified")


main()
