"""A worker written from Sources/Adapters/Keeper/LinkPacket.swift, to run under a real keeper (see KeeperProcessTests).

The first one leaves a file and is killed, the second one waits for the signal to end and crashes, the third one is sent that
signal again, and ends in order."""
import os, signal, socket, struct, sys

HOLD, READY, INVENTORY, INVENTORY_END, DONE = 1, 4, 16, 17, 18
link = socket.socket(fileno=3)


def receive():
    bytes_, descriptors, _, _ = socket.recv_fds(link, 65536, 250)
    kind, count = struct.unpack_from("=II", bytes_)
    keys = [struct.unpack_from("=QII", bytes_, 8 + 16 * i) for i in range(count)]
    return kind, dict(zip(keys, descriptors)), bytes_[8 + 16 * count :]


def hold(key, content):
    file = os.memfd_create("kept")
    os.write(file, content)
    socket.send_fds(link, [struct.pack("=IIQII", HOLD, 1, *key)], [file])
    assert receive()[0] == DONE


held = {}
while True:
    kind, entries, text = receive()
    if kind == INVENTORY_END:
        break
    assert kind == INVENTORY
    held.update(entries)
assert struct.unpack("=i", text) == (os.getppid(),), text
assert sorted(os.listdir("/proc/self/fd"), key=int)[:3] == ["0", "1", "2"]
strangers = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 5 and int(n) not in held.values() and os.path.lexists(f"/proc/self/fd/{n}")]
assert not any("memfd" in name for name in strangers), strangers

KEY = (7, 3, 1)
link.send(struct.pack("=II", READY, 0))
if KEY not in held:
    hold(KEY, b"first")
    os.kill(os.getpid(), signal.SIGKILL)
content = os.pread(held[KEY], 100, 0)
signal.sigwait([signal.SIGTERM])
if content == b"first":
    hold(KEY, b"second")
    os.kill(os.getpid(), signal.SIGSEGV)
assert content == b"second"
