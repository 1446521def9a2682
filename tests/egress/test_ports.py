"""Published ports, and the gateway that serves them together with proxies."""

import errno
import os
import resource
import socket
from collections.abc import Callable

import pytest
from support.subjects import Box
from support.waiting import eventually

from lisrt.egress import gateway

LISTEN = """if True:
    import os, socket
    server = socket.create_server(("127.0.0.1", 8080), backlog=256)
    if os.fork():
        os._exit(0)
    while True:
        server.accept()[0].sendall(b"hello")
"""
OpenBox = Callable[..., Box]


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=40) as client:
        return client.recv(5)


def test_a_gateway_that_ends(open_box: OpenBox) -> None:
    """Its ports are closed with it; published again they are served by the next one."""
    box = open_box()
    box.python(LISTEN, timeout=30).check()
    port = box.publish(8080)
    assert ask(port) == b"hello"
    one = gateway.current()
    one._loop.call_soon_threadsafe(one._loop.stop)
    eventually(lambda: not one.alive)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    assert dict(box.ports) == {}
    box.unpublish(8080)
    assert box.publish(8080, port) == port
    assert ask(port) == b"hello"


def test_no_file_to_open(open_box: OpenBox) -> None:
    """Then nobody is let in until there is one, and the gateway goes on."""
    box = open_box()
    box.python(LISTEN, timeout=30).check()
    port = box.publish(8080)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    with socket.socket() as client:
        try:
            client.settimeout(40)
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    opened.append(os.open("/dev/null", os.O_RDONLY))
            client.connect(("127.0.0.1", port))
            for _ in range(3):  # the gateway has seen it
                gateway.current().run(_nothing()).result()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for fd in opened:
                os.close(fd)
        assert client.recv(5) == b"hello"
    assert ask(port) == b"hello"


async def _nothing() -> None:
    pass
