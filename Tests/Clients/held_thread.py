#!/usr/bin/env python3
"""A tenant holds a lock that a thread of its worker waits for; worker and keeper are killed. The next keeper's worker knows of
that thread: it has this tenant wait, and no other, until the lock is let go; then everything is right.

Usage: held_thread.py PROGRAM. Starts a daemon of its own. Root, with /dev/fuse. Prints "verified".
"""
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import fuse
import hostile
import processes


def connected(path):
    """Once it listens."""
    found = []

    def connects():
        try:
            found.append(hostile.Daemon(path))
        except OSError:
            return False
        return True

    hostile.eventually(connects, "the daemon listens")
    return found[0]


def check(daemon, log, failures):
    def complaints(worker):
        """How many workers have told that they wait for that one's thread."""
        with open(log) as file:
            return sum(f"is not served before a thread of worker {worker} ends" in line for line in file)

    good = hostile.Neighbour(daemon.path)
    server, child = hostile.holder(daemon, failures, is_registered=True)
    stuck, asker = hostile.kill_stuck_worker(daemon, good.work)
    hostile.eventually(lambda: complaints(stuck) == 1, "the next worker waits")
    for number in (2, 3):
        keeper, worker = daemon.keeper, daemon.worker()
        # The worker's; the one that is ready for the next worker has been started later.
        daemon.keeper = processes.children(keeper, "attendant")[0]
        os.kill(keeper, signal.SIGKILL)
        good.work()
        assert daemon.worker() != worker
        hostile.eventually(lambda: complaints(stuck) == number, "the next keeper's worker waits, too")
    server.let_go()
    reply = hostile.library.json.loads(asker.socket.recv(65536))
    assert reply["ok"] and reply["state"] == "Pending", reply
    os.write(child.output, b"x")
    assert child.hears(), "its memory is right"
    good.work()
    child.end()
    server.end()
    good.end()


def main():
    if not fuse.is_there() or (failures := hostile.failing_reads()) is None:
        print("*** SKIPPED: no /dev/fuse, not root, or a kernel that drops mmap_lock; no thread is held ***", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as directory:
        words = ["--keep-free", "0", "--log-level", "warning", "--socket", f"{directory}/socket", "--swap-dir", directory]
        log = f"{directory}/log"
        with open(log, "w") as errors:
            first = subprocess.Popen([sys.argv[1], "serve", *words], stderr=errors)
        daemon = connected(f"{directory}/socket")
        try:
            check(daemon, log, failures)
        except BaseException:
            with open(log) as file:
                print(file.read(), file=sys.stderr)
            raise
        finally:
            os.kill(daemon.keeper, signal.SIGTERM)
            first.wait()
        hostile.eventually(lambda: not os.path.exists(f"{directory}/socket"), "the daemon ends")


main()
print("verified")
