#!/usr/bin/env python3
"""A tenant that has a file open for direct I/O: enable refuses and names the sign, unless the client answers for it.

Usage: direct_io.py SOCKET. Prints "verified".
"""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import client as library


def main():
    with tempfile.NamedTemporaryFile(dir=".") as file:
        try:
            direct = os.open(file.name, os.O_RDWR | os.O_DIRECT)
        except OSError:
            print("*** SKIPPED: this directory's filesystem knows no O_DIRECT ***", file=sys.stderr)
            return print("verified")
    tenant = library.Tenant(sys.argv[1], "direct", 4 << 20)
    refusal = tenant.client.exchange({"op": "enable", "id": "x"})
    assert refusal["id"] == "x" and refusal["error"]["code"] == "unsupported", refusal
    assert "O_DIRECT" in refusal["error"]["message"], refusal
    assert tenant.client.ask({"op": "status"})["state"] == "Ready"
    status = tenant.client.ask({"op": "enable", "accept_dma_risk": True})
    assert status["state"] == "Pending" and status["last_operation"] == "enable", status
    tenant.client.ask({"op": "disable", "wait": True})
    os.close(direct)
    assert tenant.client.ask({"op": "enable"})["metrics"]["staging_pages"] == 1024
    tenant.client.ask({"op": "unregister"})
    assert tenant.is_intact()
    print("verified")


main()
