"""What a worker executes to become the keeper, to look at what it passes on (see KeeperProcessTests)."""
import os, struct, sys

assert sys.argv[1:] == ["serve", "a b", ""], sys.argv
list_, process = map(int, os.environ["SWAP_MONITOR_HELD"].split())
assert process == os.getpid()
entries = [struct.unpack("=QIIi", os.pread(list_, 20, at)) for at in range(0, os.fstat(list_).st_size, 20)]
assert {entry[:3] for entry in entries} == {(1, 2, index) for index in range(300)}, entries
for _, _, index, number in entries:
    assert os.fstat(number).st_size == index + 1
inherited = {int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")}
kept = {n for n in inherited if "kept-by-test" in os.readlink(f"/proc/self/fd/{n}")}
assert kept == {entry[3] for entry in entries}, kept
