"""A file whose server answers when it likes: the way to hold locks of the kernel's for ever. For root, with /dev/fuse.

The file system is one regular file, mounted over a file in a mount namespace of the server's own and its children's.
"""
import ctypes
import os
import struct
import tempfile
import threading

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 3, 14, 15, 18, 25, 26
MNT_FORCE, MNT_DETACH = 1, 2
UNANSWERED = (2, 36)  # FORGET, INTERRUPT
IN_HEADER, OUT_HEADER = struct.Struct("=IIQQIIIHH"), struct.Struct("=IiQ")
libc = ctypes.CDLL(None, use_errno=True)


def is_there():
    return os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)


class File:
    """Serves on a thread. `hangs` says of which operations no more are answered; `failing_reads` end with EIO first."""

    def __init__(self, size=1 << 20, failing_reads=0, hangs=()):
        self.size, self.failing_reads, self.hangs = size, failing_reads, set(hangs)
        self.hanging, self.unanswered = threading.Semaphore(0), []  # released for each that is not answered
        self.check(libc.unshare(CLONE_NEWNS))
        self.check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self.path = tempfile.mkstemp(prefix="swap-monitor-fuse")[1]
        options = f"fd={self.device},rootmode=100000,user_id=0,group_id=0"
        self.check(libc.mount(b"fuse", self.path.encode(), b"fuse", 0, options.encode()))
        threading.Thread(target=self.serve, daemon=True).start()

    @staticmethod
    def check(result):
        if result != 0:
            raise OSError(ctypes.get_errno(), "mounting a FUSE file")

    def end(self):
        """Whoever waits goes on, with errors."""
        libc.umount2(self.path.encode(), MNT_FORCE | MNT_DETACH)
        os.close(self.device)
        os.unlink(self.path)

    def serve(self):
        while True:
            try:
                request = os.read(self.device, 1 << 17)
            except OSError:
                return  # ended
            _, operation, unique, *_ = IN_HEADER.unpack_from(request)
            if operation in UNANSWERED:
                continue
            if operation == READ and self.failing_reads > 0:
                self.failing_reads -= 1
                os.write(self.device, OUT_HEADER.pack(OUT_HEADER.size, -5, unique))
                continue
            if operation in self.hangs:
                self.unanswered.append(request)
                self.hanging.release()
                continue
            self.answer(request)

    def let_go(self):
        """From now on everything is answered, what hangs first."""
        self.hangs = set()
        for request in self.unanswered:
            self.answer(request)

    def answer(self, request):
        _, operation, unique, *_ = IN_HEADER.unpack_from(request)
        reply = self.reply(operation, request)
        os.write(self.device, OUT_HEADER.pack(OUT_HEADER.size + len(reply), 0, unique) + reply)

    def reply(self, operation, request):
        if operation == INIT:
            return struct.pack("=IIIIHHIIHH8I", 7, 31, 1 << 16, 0, 8, 8, 1 << 16, 1, 16, 0, *[0] * 8)
        if operation == GETATTR:  # valid for no time, so every fstat asks
            return struct.pack("=QII6Q10I", 0, 0, 0, 1, self.size, 8, 0, 0, 0, 0, 0, 0, 0o100666, 1, 0, 0, 0, 4096, 0)
        if operation == OPEN:
            return struct.pack("=QII", 1, 0, 0)
        if operation == READ:
            return bytes(struct.unpack_from("=QQI", request, IN_HEADER.size)[2])
        return b""
