"""The processes of a daemon, by the number of its keeper, who is at the other end of a connection."""
import socket
import struct


def keeper_of(connected):
    return struct.unpack("=iII", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def workers(keeper):
    """One at most, but in the instant when the next one follows. (Its attendant is the keeper's child as well.)"""
    return children(keeper, "worker")


def children(keeper, command):
    """Its children that run that command of ours, the oldest first."""
    found = []
    with open(f"/proc/{keeper}/task/{keeper}/children") as file:
        for pid in file.read().split():
            try:
                with open(f"/proc/{pid}/cmdline") as words:
                    if words.read().split("\0")[1:2] == [command]:
                        found.append(int(pid))
            except OSError:
                pass  # it has ended
    return found
