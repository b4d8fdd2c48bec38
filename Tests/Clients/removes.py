#!/usr/bin/env python3
"""A thousand removes race an enable loop: no removed page comes back, and no later write is lost.

Usage: removes.py SOCKET [REMOVES]. Threads remove random ranges of their own pages (MADV_REMOVE), write and read them, while
another process has everybody moved out, trimmed, written to disk and brought back, again and again. A page's owner knows
what it must hold. Who looks at others' pages knows what they may hold: zeros, or what was not removed before it looked.
Prints "verified".
"""
import ctypes
import mmap
import os
import random
import signal
import sys
import threading

sys.path.insert(0, os.path.dirname(__file__))
import client as library

PAGES, THREADS, STRIPE = 2048, 4, 16
MADV_REMOVE = 9
PR_SET_PDEATHSIG = 1
LONGEST_SECONDS = 600
ENABLES = 3  # at least: they go on removing until so many have moved anything
libc = ctypes.CDLL(None, use_errno=True)  # lets other threads run meanwhile


def operate(path, report):
    """Commands without end; a byte for each `enable` that moved something."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    operator, choice = library.Client(path), random.Random(3)
    while True:
        for op in ["enable"] + choice.sample(["enable", "trim", "out", "disable"], choice.randint(1, 3)):
            reply = operator.exchange({"op": op, "tenant": "removes", "wait": choice.random() < 0.7})
            assert reply["ok"] or reply["error"]["code"] in ("wrong-state", "aborted", "no-such-tenant"), reply
            if op == "enable" and reply["ok"] and reply["state_transition"]["pages"] > 0:
                os.write(report, b"e")


class Pages:
    """The tenant's pages: each word of a page holds its generation, 0 where it was removed."""

    def __init__(self, tenant):
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(tenant.memory))
        self.words = (ctypes.c_uint64 * (PAGES * mmap.PAGESIZE // 8)).from_buffer(tenant.memory)
        self.expected = [0] * PAGES
        self.written = [0] * PAGES
        # Nobody may see a page's generations up to this one any more.
        self.removed = [0] * PAGES
        self.problem = None
        self.ends = False
        self.enables = 0  # that moved something

    def write(self, page, generation):
        self.written[page] = generation
        first = page * mmap.PAGESIZE // 8
        for word in (first, first + mmap.PAGESIZE // 8 - 1):
            self.words[word] = generation << 16 | page
        self.expected[page] = generation

    def read(self, page):
        first = page * mmap.PAGESIZE // 8
        return self.words[first], self.words[first + mmap.PAGESIZE // 8 - 1]

    def check(self, page):
        generation = self.expected[page]
        right = generation << 16 | page if generation else 0
        seen = self.read(page)
        if seen != (right, right):
            self.complain(f"page {page} is {seen}, and should be {right}")

    def remove(self, first, end):
        for page in range(first, end):
            self.expected[page] = 0
        while True:
            failed = libc.madvise(
                ctypes.c_void_p(self.address + first * mmap.PAGESIZE),
                ctypes.c_size_t((end - first) * mmap.PAGESIZE), MADV_REMOVE)
            if not failed:
                break
            if ctypes.get_errno() != 4:  # EINTR
                return self.complain(f"madvise: errno {ctypes.get_errno()}")
        for page in range(first, end):
            self.removed[page] = self.written[page]

    def complain(self, text):
        self.problem = self.problem or text


def own(pages, number, removes):
    """Stripes of a few pages belong to the threads in turn, so every huge page has pages of all."""
    choice, stripes = random.Random(number), range(number, PAGES // STRIPE, THREADS)
    generation = 1
    done = 0
    while done < removes or pages.enables < ENABLES:
        done += 1
        base = choice.choice(stripes) * STRIPE
        first = base + choice.randrange(STRIPE)
        end = choice.randint(first, base + STRIPE - 1) + 1
        pages.remove(first, end)
        for page in range(first, end):
            if choice.random() < 0.3:
                pages.check(page)
            if choice.random() < 0.6:
                generation += 1
                pages.write(page, generation)
        base = choice.choice(stripes) * STRIPE
        for page in range(base, base + STRIPE, 3):
            pages.check(page)
        if pages.problem:
            return
    for stripe in stripes:
        for page in range(stripe * STRIPE, (stripe + 1) * STRIPE):
            pages.check(page)


def count(pages, reports):
    while report := os.read(reports, 4096):
        pages.enables += len(report)
    if not pages.ends:
        pages.complain("the operator has ended")


def look(pages):
    choice = random.Random(99)
    while not pages.ends and not pages.problem:
        page = choice.randrange(PAGES)
        removed = pages.removed[page]
        for word in pages.read(page):
            if word and (word & 0xFFFF != page or not removed < word >> 16 <= pages.written[page]):
                pages.complain(f"page {page} reads as {word:#x}, and {removed} was removed before")


def main():
    signal.alarm(LONGEST_SECONDS)  # should a fault never be served
    path, removes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    reports, report = os.pipe()
    operator = os.fork()
    if operator == 0:
        operate(path, report)
    os.close(report)
    tenant = library.Tenant(path, "removes", PAGES * mmap.PAGESIZE, filled=0)
    pages = Pages(tenant)
    owners = [threading.Thread(target=own, args=(pages, number, removes // THREADS)) for number in range(THREADS)]
    looker = threading.Thread(target=look, args=(pages,))
    counter = threading.Thread(target=count, args=(pages, reports))
    for thread in owners + [looker, counter]:
        thread.start()
    for thread in owners:
        thread.join()
    pages.ends = True
    looker.join()
    assert os.waitpid(operator, os.WNOHANG) == (0, 0), "the operator has ended"
    os.kill(operator, signal.SIGKILL)
    os.waitpid(operator, 0)
    assert not pages.problem, pages.problem
    counter.join()
    tenant.client.ask({"op": "disable", "wait": True})
    for page in range(PAGES):
        pages.check(page)
    assert not pages.problem, pages.problem
    tenant.client.ask({"op": "unregister"})
    for page in range(PAGES):
        pages.check(page)
    assert not pages.problem, pages.problem
    print(f"{removes} removes or more, {pages.enables} enables that moved pages", file=sys.stderr)
    print("verified")


main()
