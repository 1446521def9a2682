"""What only the async face has: cancellation, the event loop, several loops, waiting that never blocks the loop."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.procs import assert_gone, assert_lives, marked, new_marker, sleeping
from support.waiting import eventually

import lisrt
from lisrt import AsyncSandbox, Outcome, SandboxGone

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.fixture
def run() -> Iterator[asyncio.Runner]:
    """A fresh event loop in this thread: `run.run(coroutine)`."""
    with asyncio.Runner() as runner:
        yield runner


async def until(predicate: object, what: str) -> None:
    """`eventually`, without holding the loop up."""
    assert callable(predicate)
    await asyncio.to_thread(eventually, predicate, what=what)


def test_ready_when_entered(run: asyncio.Runner) -> None:
    """`async with` gives a sandbox that serves, and closes it."""

    async def scenario() -> None:
        async with AsyncSandbox(hostname="async") as box:
            states = [box.alive]
            assert (await box.run(["uname", "-n"])).stdout == "async\n"
        states.append(box.alive)
        assert states == [True, False]
        with pytest.raises(SandboxGone):
            await box.run(["true"])

    run.run(scenario())


def test_unentered_is_nothing(run: asyncio.Runner) -> None:
    """An AsyncSandbox that was never entered has made nothing and is simply dropped."""

    async def scenario() -> None:
        box = AsyncSandbox()
        assert not box.alive
        await box.close()

    run.run(scenario())


@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout"])
def test_cancelling_kills_the_tree(run: asyncio.Runner, marker: str, how: str) -> None:
    """A cancelled call's whole tree is dead when the cancellation has been delivered; the sandbox goes on."""
    other = new_marker()
    script = f"sleep {marker} & (setsid sleep {marker} &); trap '' TERM; sleep {marker}; :"

    async def scenario() -> None:
        async with AsyncSandbox() as box:
            await box.sh(f"sleep {other} &")
            if how == "cancel":
                task = asyncio.create_task(box.sh(script))
                await until(lambda: len(sleeping(marker)) == 3, "the tree")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                with pytest.raises(TimeoutError):
                    if how == "wait_for":
                        await asyncio.wait_for(box.sh(script), 0.3)
                    else:
                        async with asyncio.timeout(0.3):
                            await box.sh(script)
            assert_gone(marker, within=1)
            assert_lives(other)
            assert (await box.run(["echo", "alive"])).stdout == "alive\n"

    run.run(scenario())
    assert_gone(other)


def test_cancelling_one_spares_the_others(run: asyncio.Runner, marker: str) -> None:
    """Ten calls at once, every other one cancelled: the rest end as they would have."""

    async def scenario() -> None:
        async with AsyncSandbox() as box:
            await box.sh("mkfifo gate")
            tasks = [asyncio.create_task(box.sh(f"sleep {marker} & read word < gate; echo {n}")) for n in range(10)]
            await until(lambda: len(sleeping(marker)) == 10, "ten commands")
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks[::2])
            assert len(sleeping(marker)) == 5
            await box.sh("exec 3<> gate; for i in 1 2 3 4 5; do echo on >&3; done; sleep 1000 <&3 &")
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
            said = [result.stdout for result in results if isinstance(result, lisrt.ExecResult)]
            assert said == [f"{n}\n" for n in range(1, 10, 2)]

    run.run(scenario())


def test_cancelling_with_streams_under_way(run: asyncio.Runner, marker: str) -> None:
    """A call that is cancelled in the middle of megabytes in and out ends cleanly."""

    async def scenario() -> None:
        async with AsyncSandbox() as box:
            for _ in range(10):
                task = asyncio.create_task(box.sh(f"cat; : {marker}", stdin=b"x" * (50 << 20), max_output=100 << 20))
                await until(lambda: marked(marker), "the command")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert_gone(marker, within=1)
            assert (await box.run(["echo", "alive"])).stdout == "alive\n"

    run.run(scenario())


def test_cancelling_a_transfer(run: asyncio.Runner, tmp_path: Path) -> None:
    """Writes, uploads and downloads can be cancelled at any time, and the sandbox goes on."""
    (tmp_path / "big").write_bytes(b"x" * (30 << 20))

    async def scenario() -> None:
        async with AsyncSandbox() as box:
            await box.write("big", b"x" * (30 << 20))
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: box.write("w", b"x" * (30 << 20)),
                lambda: box.read("big"),
                lambda: box.upload(tmp_path / "big", "u"),
                lambda: box.download("big", tmp_path / "d"),
            ]
            for delay in (0, 0.001, 0.004, 0.016):
                for call in calls:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(delay):
                            await call()
                            await asyncio.sleep(1000)
            assert len(await box.read("big")) == 30 << 20
            assert (await box.run(["echo", "alive"])).stdout == "alive\n"

    run.run(scenario())


def test_cancelling_the_opening(run: asyncio.Runner) -> None:
    """Entering may be cancelled at any moment; later ones work."""

    async def scenario() -> None:
        for step in range(30):
            task = asyncio.create_task(AsyncSandbox().__aenter__())
            for _ in range(step % 6):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await (await task).close()
            except asyncio.CancelledError:
                pass
        async with AsyncSandbox() as box:
            assert (await box.run(["true"])).ok

    run.run(scenario())


def test_an_exception_closes(run: asyncio.Runner, marker: str) -> None:
    """Leaving by an exception closes the sandbox and lets the exception through."""

    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            async with AsyncSandbox() as box:
                await box.sh(f"sleep {marker} &")
                raise ZeroDivisionError

    run.run(scenario())
    assert_gone(marker)


def test_commands_run_side_by_side(run: asyncio.Runner) -> None:
    """One awaits what the other does: a call that held the loop up would wait for ever."""

    async def scenario() -> None:
        async with AsyncSandbox() as one, AsyncSandbox() as two:
            await one.sh("mkfifo there back")
            first = one.sh("echo ping > there; cat back", timeout=50)
            second = one.sh("cat there; echo pong > back", timeout=50)
            third = two.sh("sleep 0.1; echo other", timeout=50)
            results = await asyncio.gather(first, second, third)
            assert [result.stdout for result in results] == ["pong\n", "ping\n", "other\n"]

    run.run(scenario())


def test_the_loop_is_never_held_up(run: asyncio.Runner, tmp_path: Path) -> None:
    """While big things are moved the loop goes round: no verb blocks it for long."""
    data = b"x" * (50 << 20)
    (tmp_path / "big").write_bytes(data)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        gaps = [0.0]

        async def tick() -> None:
            last = loop.time()
            while True:
                await asyncio.sleep(0)
                gaps.append(loop.time() - last)
                last = loop.time()

        async with AsyncSandbox() as box:
            ticking = asyncio.create_task(tick())
            for call in (
                lambda: box.write("big", data),
                lambda: box.read("big"),
                lambda: box.upload(tmp_path / "big", "up"),
                lambda: box.download("big", tmp_path / "down"),
                lambda: box.run(["cat"], stdin=data, max_output=64 << 20),
                lambda: box.run(["sleep", "0.05"]),
            ):
                gaps.clear()
                await call()
                assert len(gaps) > 5, "the loop went round meanwhile"
            ticking.cancel()

    run.run(scenario())


def test_many_at_once(run: asyncio.Runner) -> None:
    """Fifty sandboxes are opened, used and closed at once by one loop."""

    async def one(number: int) -> str:
        async with AsyncSandbox() as box:
            await box.write("number", str(number))
            results = await asyncio.gather(*(box.run(["cat", "number"]) for _ in range(3)))
            return "".join(result.stdout for result in results)

    async def scenario() -> None:
        assert await asyncio.gather(*(one(number) for number in range(50))) == [str(number) * 3 for number in range(50)]

    run.run(scenario())


def test_one_loop_after_another() -> None:
    """Nothing of lisrt is bound to the first event loop that it saw."""

    async def scenario() -> str:
        async with AsyncSandbox() as box:
            return (await box.run(["echo", "again"])).stdout

    assert [asyncio.run(scenario()) for _ in range(3)] == ["again\n"] * 3


def test_both_faces_in_one_program(run: asyncio.Runner) -> None:
    """Sync and async sandboxes live side by side, also on the loop's own thread."""

    async def scenario() -> None:
        with lisrt.Sandbox() as sync:
            async with AsyncSandbox() as box:
                assert sync.run(["echo", "sync"]).stdout == "sync\n"
                assert (await asyncio.to_thread(sync.run, ["echo", "thread"])).stdout == "thread\n"
                assert (await box.run(["echo", "async"])).stdout == "async\n"

    run.run(scenario())


def test_a_timeout_is_a_result(run: asyncio.Runner) -> None:
    """The verb's own timeout ends in a result, not in an exception."""

    async def scenario() -> None:
        async with AsyncSandbox() as box:
            result = await box.sh("echo partial; sleep 1000", timeout=0.3)
            assert (result.outcome, result.stdout) == (Outcome.TIMED_OUT, "partial\n")

    run.run(scenario())


def test_the_loop_ends_with_commands_under_way(marker: str) -> None:
    """asyncio.run cancels what is left at the end; nothing lives on, and another loop can close the sandbox."""
    box = AsyncSandbox()

    async def scenario() -> None:
        await box.__aenter__()
        task = asyncio.create_task(box.run(["sleep", marker]))
        await until(lambda: sleeping(marker), "the sleep")
        assert not task.done()

    asyncio.run(scenario())
    assert_gone(marker)
    assert box.alive
    asyncio.run(box.close())
    assert not box.alive


def test_verbs_are_coroutine_functions() -> None:
    """Every verb is awaited."""
    for verb in ("run", "sh", "write", "read", "read_text", "upload", "download", "close"):
        assert inspect.iscoroutinefunction(getattr(AsyncSandbox, verb)), verb


@pytest.mark.parametrize("verb", ["fork", "snapshot", "reset"])
def test_a_cancelled_snapshot_leaves_the_sandbox(run: asyncio.Runner, verb: str) -> None:
    """At whatever moment it comes: the sandbox is there, with its files; what was on its way is gone."""

    async def scenario() -> None:
        async with AsyncSandbox() as box:
            await box.write("f", "x")
            await box.snapshot()
            for number in range(24):
                task = asyncio.ensure_future(getattr(box, verb)())
                await asyncio.sleep(number / 4000)
                task.cancel()
                try:
                    made = await task
                    if verb == "fork":
                        await made.close()
                except asyncio.CancelledError:
                    pass
                assert await box.read_text("f") == "x"
                assert box.alive

    run.run(scenario())
