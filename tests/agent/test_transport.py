"""The way to a model's server that is our own: HTTP/1.1 as servers speak it, well and badly. And when it is taken."""

import asyncio
import gzip
import os
import socket
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificate
from support.fresh import environment, python
from support.model_server import ModelServer, call
from support.packages import installed

from lisrt.agent import Agent, Batch, ExitReason, Model
from lisrt.agent.transport.answer import Answer, NoAnswer
from lisrt.agent.transport.direct import DirectTransport, goes_directly

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "grüße 🌍"}]}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Head and body of the next one; asyncio.IncompleteReadError when there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    [length] = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
    return head, await reader.readexactly(int(length))


def said(text: str, **headers: str) -> bytes:
    """A whole response."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(text.encode())}", *lines, "", text]).encode()


def with_server(serve: Serve, use: Callable[[DirectTransport], Any], path: str = "/v1") -> tuple[Any, int]:
    """What `use` returns, with a transport to a server that treats each connection so; and how many there were."""

    async def run() -> tuple[Any, int]:
        tasks: list[asyncio.Task[Any]] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            try:
                await serve(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # the client has left
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = DirectTransport(f"http://127.0.0.1:{port}{path}", "key")
        try:
            async with asyncio.timeout(20):
                return await use(transport), len(tasks)
        finally:
            await transport.close()
            assert not transport._open
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


def answering(*responses: bytes) -> Serve:
    """One after the other on each connection; whoever asks more is hung up on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for response in responses:
            await read_request(reader)
            writer.write(response)
            await writer.drain()

    return serve


async def ask(transport: DirectTransport) -> Answer:
    return await transport.post(REQUEST)


def test_a_request_is_what_it_should_be() -> None:
    seen: list[tuple[str, bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(said("fine", X_What="yes"))
        await reader.read()

    answer, _ = with_server(serve, ask, path="/a b/v1/")
    assert (answer.status, answer.text, answer.headers["x-what"]) == (200, "fine", "yes")
    head, body = seen[0]
    assert head.startswith("POST /a%20b/v1/chat/completions HTTP/1.1\r\n")
    for line in ("host: 127.0.0.1:", "authorization: bearer key", "content-type: application/json", "accept-encoding: identity"):
        assert f"\n{line}" in head.lower()
    assert body.decode() == '{"model":"m","messages":[{"role":"user","content":"grüße 🌍"}]}'


def test_a_connection_is_kept() -> None:
    async def three(transport: DirectTransport) -> list[str]:
        return [(await ask(transport)).text for _ in range(3)]

    assert with_server(answering(said("1"), said("2"), said("3")), three) == (["1", "2", "3"], 1)


def test_requests_at_once_have_connections_of_their_own() -> None:
    async def many(transport: DirectTransport) -> set[str]:
        await asyncio.gather(*(ask(transport) for _ in range(20)))
        return {one.text for one in await asyncio.gather(*(ask(transport) for _ in range(20)))}

    assert with_server(answering(said("1"), said("2")), many) == ({"2"}, 20)


@pytest.mark.parametrize("how", ["says so", "HTTP/1.0", "just does", "says more than was asked"])
def test_one_that_the_server_gives_up_is_not_used_again(how: str) -> None:
    """Nor is the next request lost: it goes over another one."""
    response = {
        "says so": said("x", Connection="close"),
        "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "just does": said("x"),
        "says more than was asked": said("x") + said("y"),
    }[how]

    async def two(transport: DirectTransport) -> list[str]:
        first = await ask(transport)
        for connection in list(transport._open):  # until it has noticed, while nothing was asked
            await connection.gone
        return [first.text, (await ask(transport)).text]

    assert with_server(answering(response), two) == (["x", "x"], 2)


def test_an_end_that_the_loop_has_not_heard_of() -> None:
    """The server has closed it while this process was busy: the next request must not be lost to it."""
    closed = threading.Event()

    def server(listener: socket.socket) -> None:
        for _ in range(2):
            peer, _address = listener.accept()
            with peer:
                while b"}]}" not in peer.recv(65536):
                    pass
                peer.sendall(said("x"))
            closed.set()

    async def use(url: str) -> list[str]:
        transport = DirectTransport(url, None)
        try:
            first = await ask(transport)
            closed.wait(10)  # and the loop stands still
            return [first.text, (await ask(transport)).text]
        finally:
            await transport.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server, args=(listener,))
        thread.start()
        assert asyncio.run(use(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")) == ["x", "x"]
        thread.join()


WHOLE: dict[str, list[bytes]] = {
    "in pieces": [bytes([byte]) for byte in said("fine")],
    "chunked": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n", b"2;x=y\r\nne\r\n0\r\nTrailer: x\r\n\r\n"],
    "until the end": [b"HTTP/1.1 200 OK\r\n\r\nfi", b"ne"],
    "after news": [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", said("fine")],
    "large": [said("x" * 30_000_000)],
}


@pytest.mark.parametrize("how", WHOLE)
def test_answers_in_all_their_forms(how: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in WHOLE[how]:
            writer.write(piece)
            await writer.drain()

    answer, _ = with_server(serve, ask)
    assert answer.text == ("x" * 30_000_000 if how == "large" else "fine")


def test_text_that_is_none_is_shown_as_it_can_be() -> None:
    answer, _ = with_server(answering(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n\xff!"), ask)
    assert (answer.status, answer.text) == (500, "\ufffd!")


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (b"", "closed the connection without an answer$"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "without an answer; it had sent b'SSH-2.0-OpenSSH_9.2"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "without an answer; it had sent b'HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n", "bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, "too large|too long|Receive buffer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "illegal chunk header"),
    ],
)
def test_what_is_no_answer(response: bytes, words: str) -> None:
    async def fail(transport: DirectTransport) -> None:
        with pytest.raises(NoAnswer, match=words) as raised:
            await ask(transport)
        assert not raised.value.final
        assert not any(connection.usable for connection in transport._idle)

    with_server(answering(response), fail)


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_an_answer_that_was_packed_unasked(kind: str) -> None:
    packed = gzip.compress(b"no such model") if kind == "gzip" else zlib.compress(b"no such model")
    head = f"HTTP/1.1 404 No\r\nContent-Encoding: {kind}\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    answer, _ = with_server(answering(head + packed), ask)
    assert (answer.status, answer.text) == (404, "no such model")
    empty = with_server(answering(b"HTTP/1.1 503 No\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"), ask)[0]
    assert (empty.status, empty.text) == (503, "")
    parts = gzip.compress(b"one ") + gzip.compress(b"two")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(parts)}\r\n\r\n".encode()
    assert with_server(answering(head + parts), ask)[0].text == "one two"


@pytest.mark.parametrize(("kind", "body"), [("br", b"x"), ("gzip", b"x"), ("gzip", gzip.compress(b"x" * 5000)[:-9])])
def test_an_answer_that_can_not_be_unpacked(kind: str, body: bytes) -> None:
    async def fail(transport: DirectTransport) -> None:
        with pytest.raises(NoAnswer, match=f"status 404 that can't be read: it came as {kind}") as raised:
            await ask(transport)
        assert raised.value.final

    head = f"HTTP/1.1 404 No\r\nContent-Encoding: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with_server(answering(head + body), fail)


def test_a_kept_connection_that_ends_without_a_byte_is_replaced() -> None:
    """The server had closed it when the request was on its way."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said("x"))
        await reader.readuntil(b"\r\n\r\n")  # of the next one, which gets no answer

    async def three(transport: DirectTransport) -> list[str]:
        return [(await ask(transport)).text for _ in range(3)]

    assert with_server(serve, three) == (["x"] * 3, 3)


def test_a_server_that_hangs_up_on_a_request_is_asked_twice_at_most() -> None:
    """However many connections are idle."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said("x"))
        seen.append((await read_request(reader))[0])  # and hangs up

    async def use(transport: DirectTransport) -> None:
        await asyncio.gather(*(ask(transport) for _ in range(20)))
        assert len(transport._idle) == 20
        assert (await ask(transport)).text == "x"

    with_server(serve, use)
    assert len(seen) == 1


def test_an_answer_before_the_request_was_read_ends_its_connection() -> None:
    """What is left of a large request would hold up the next one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said("early"))
        await writer.drain()
        await asyncio.Event().wait()

    async def two(transport: DirectTransport) -> list[str]:
        large = {"messages": ["x" * 40_000_000]}
        return [(await transport.post(large)).text for _ in range(2)]

    assert with_server(serve, two) == (["early"] * 2, 2)


def test_an_idle_connection_keeps_nothing() -> None:
    async def use(transport: DirectTransport) -> int:
        await ask(transport)
        [connection] = transport._idle
        return len(connection._body) + (connection._answer is not None)

    assert with_server(answering(said("x" * 1_000_000), said("")), use)[0] == 0


def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lisrt.agent.transport.connection._MOST", 1 << 20)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    async def fail(transport: DirectTransport) -> None:
        with pytest.raises(NoAnswer, match="larger than 1 MiB"):
            await ask(transport)

    with_server(serve, fail)


def test_half_an_answer_is_nobody_elses() -> None:
    """A request that is given up takes its connection along: what still comes there was for that one."""
    asked, release = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if not asked.is_set():
            asked.set()
            await release.wait()
            writer.write(said("for the first"))
        writer.write(said("for the second"))
        await reader.read()

    async def use(transport: DirectTransport) -> str:
        first = asyncio.create_task(ask(transport))
        await asked.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        release.set()
        return (await ask(transport)).text

    assert with_server(serve, use) == ("for the second", 2)


def test_what_can_not_be_sent_is_final() -> None:
    async def use(transport: DirectTransport) -> None:
        transport._headers.append(("X", "a\nb"))
        with pytest.raises(NoAnswer) as raised:
            await ask(transport)
        assert raised.value.final

    with_server(answering(), use)


def test_a_name_that_is_none() -> None:
    async def use() -> None:
        for host in ("no-such-host.invalid", "a" * 100):
            with pytest.raises(NoAnswer):
                await DirectTransport(f"http://{host}/v1", None).post(REQUEST)

    asyncio.run(use())


# --- which way is taken ---

PROXY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("url", "environment", "directly"),
    [
        ("http://localhost:8000/v1", {}, True),
        ("http://[::1]:8000/v1", {}, True),
        ("https://localhost:8000/v1", {}, False),
        ("http://user:pass@host/v1", {}, False),
        ("http://host/v1?api-version=1", {}, False),
        ("http://höst/v1", {}, False),
        ("http://host/v1", {"http_proxy": PROXY}, False),
        ("http://host/v1", {"ALL_PROXY": PROXY}, False),
        ("http://host/v1", {"https_proxy": PROXY}, True),
        ("http://host.site/v1", {"http_proxy": PROXY, "no_proxy": "localhost,.site"}, True),
        ("http://host:8000/v1", {"http_proxy": PROXY, "no_proxy": "host"}, True),
        ("http://other/v1", {"http_proxy": PROXY, "no_proxy": "host"}, False),
    ],
)
def test_which_servers_are_reached_directly(
    url: str, environment: dict[str, str], directly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert goes_directly(url) is directly


def run(model: Model) -> tuple[ExitReason, str | None]:
    episode = Agent(model).run_sync("x")
    return episode.exit_reason, episode.error


def test_a_proxy_is_asked(monkeypatch: pytest.MonkeyPatch, working_host: None) -> None:
    """With the whole address, as proxies want it."""
    pytest.importorskip("openai")
    asked: list[str] = []
    body = call("submit").encode("m").decode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await read_request(reader))[0].splitlines()[0])
        writer.write(said(body, Content_Type="application/json", Connection="close"))
        writer.close()

    async def proxy(started: "asyncio.Future[int]", stop: asyncio.Event) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        started.set_result(server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close()

    async def use() -> tuple[ExitReason, str | None]:
        started, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
        task = asyncio.create_task(proxy(started, stop))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{await started}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.delenv("NO_PROXY", raising=False)
        episode = await Agent(Model("m", "http://models.invalid:8000/v1", retries=0)).run("x")
        stop.set()
        await task
        return episode.exit_reason, episode.error

    assert asyncio.run(use()) == (ExitReason.SUBMITTED, None)
    assert asked == ["POST http://models.invalid:8000/v1/chat/completions HTTP/1.1"]


@pytest.mark.slow
def test_under_uvloop(tmp_path: Path, working_host: None) -> None:
    """Another event loop than the library's."""
    source = """
        import asyncio, sys
        import uvloop
        from lisrt.agent import Agent, Model
        async def main():
            return await asyncio.gather(*(Agent(Model("m", sys.argv[1])).run("x") for _ in range(4)))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print([episode.exit_reason.value for episode in runner.run(main())])
    """
    work = call("execute_bash", command="true")
    with ModelServer(lambda request: work if len(request.messages) < 4 else call("submit")) as server:
        paths = os.pathsep.join([str(installed("uvloop")), environment()["PYTHONPATH"]])
        done = python(source.replace("sys.argv[1]", repr(server.base_url)), cwd=tmp_path, env={"PYTHONPATH": paths})
    assert done.stdout.strip() == str(["submitted"] * 4)
    assert server.connections <= 4


@pytest.mark.parametrize("names", [["IP:127.0.0.1"], ["DNS:elsewhere.example.org"]])
def test_certificates_are_checked(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_host: None
) -> None:
    """One that nobody vouches for, or for another name, is final and says so; those of $SSL_CERT_FILE are trusted."""
    pytest.importorskip("openai")
    made = certificate(tmp_path, *names)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    with ModelServer(lambda _: call("submit"), certificate=made) as server:
        model = Model("m", server.base_url, retries=5, retry_delay=100.0)
        reason, error = run(model)
        assert reason is ExitReason.MODEL_ERROR
        assert "certificate" in (error or "") and "SSL_CERT_FILE" in (error or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(made[0]))
        expected = ExitReason.SUBMITTED if names == ["IP:127.0.0.1"] else ExitReason.MODEL_ERROR
        assert run(model)[0] is expected
    assert len(server.requests) == (expected is ExitReason.SUBMITTED)


def test_plain_http_where_tls_was_expected() -> None:
    pytest.importorskip("openai")
    with ModelServer([]) as server:
        error = run(Model("m", server.base_url.replace("http:", "https:"), retry_delay=100.0))[1] or ""
    assert "does not speak TLS; is it http://" in error


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_certificates_that_are_none(content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything begins, with the name of the file and where it is from."""
    pytest.importorskip("openai")
    place = tmp_path / "ca.pem"
    if content is not None:
        place.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(place))
    agent = Agent(Model("m", "https://127.0.0.1:1/v1"))
    for begin in (lambda: agent.run_sync("x"), lambda: next(Batch(agent, ["x"]).results())):
        with pytest.raises(ValueError, match=f"SSL_CERT_FILE names {place}"):
            begin()


def test_many_threads_have_ways_of_their_own(working_host: None) -> None:
    """Connections belong to an event loop."""
    with ModelServer(lambda _: call("submit")) as server:
        found: list[Any] = []
        model = Model("m", server.base_url)
        threads = [threading.Thread(target=lambda: found.append(run(model))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [(ExitReason.SUBMITTED, None)] * 4
