"""The subjects of the contract suite, behind one calling convention.

A test asks for `box` (or `open_box`) and calls `box.run(...)`; `box.start("run", ...)` begins a call and returns a future.
To put another launcher, a pooled or a forked sandbox under the whole suite, add one line to SUBJECTS.
"""

import asyncio
import contextlib
import copy
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import lisrt
from lisrt import ExecResult, Frozen, Transfer
from support.waiting import eventually


class Subject(ABC):
    """One way to make and to call sandboxes."""

    def __init__(self, **defaults: Any) -> None:
        self.defaults = defaults

    @abstractmethod
    def open(self, **options: Any) -> Any:
        """A sandbox that is ready."""

    @abstractmethod
    def call(self, sandbox: Any, verb: str, *args: Any, **options: Any) -> Any:
        """Call a verb and wait for it."""

    @abstractmethod
    def start(self, sandbox: Any, verb: str, *args: Any, **options: Any) -> "Future[Any]":
        """Begin a call; the future has its result."""

    @abstractmethod
    def shutdown(self) -> None:
        """End the threads that this subject uses."""


class SyncSubject(Subject):
    """`Sandbox`, called from the test's thread; begun calls run in threads of their own."""

    def __init__(self, **defaults: Any) -> None:
        super().__init__(**defaults)
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="begun-call")

    def open(self, **options: Any) -> Any:
        return lisrt.Sandbox(**{**self.defaults, **options})

    def call(self, sandbox: Any, verb: str, *args: Any, **options: Any) -> Any:
        return getattr(sandbox, verb)(*args, **options)

    def start(self, sandbox: Any, verb: str, *args: Any, **options: Any) -> "Future[Any]":
        return self._threads.submit(self.call, sandbox, verb, *args, **options)

    def shutdown(self) -> None:
        self._threads.shutdown()


class ForkedSubject(SyncSubject):
    """A fork of a `Sandbox`, which is closed: its root lies above a frozen layer."""

    def open(self, **options: Any) -> Any:
        with super().open(**options) as first:
            return first.fork()


class PooledSubject(SyncSubject):
    """What a `Pool` has made ahead."""

    def __init__(self, **defaults: Any) -> None:
        super().__init__(**defaults)
        self._taken = contextlib.ExitStack()

    def open(self, **options: Any) -> Any:
        pool = self._taken.enter_context(lisrt.Pool(size=2, max_warm=1, **{**self.defaults, **options}))
        eventually(lambda: pool.stats.warm or pool.stats.failures, within=60, what="a warm sandbox, or why there is none")
        return self._taken.enter_context(pool.take())

    def shutdown(self) -> None:
        self._taken.close()
        super().shutdown()


class AsyncSubject(Subject):
    """`AsyncSandbox`, on one event loop per test; calls from several threads meet in that loop."""

    def __init__(self, **defaults: Any) -> None:
        super().__init__(**defaults)
        self._complaints: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self._complaints.append(str(context)))
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop")
        self._thread.start()

    def open(self, **options: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(self._enter(options), self._loop).result()

    async def _enter(self, options: Mapping[str, Any]) -> Any:
        return await lisrt.AsyncSandbox(**{**self.defaults, **options}).__aenter__()

    def call(self, sandbox: Any, verb: str, *args: Any, **options: Any) -> Any:
        return self.start(sandbox, verb, *args, **options).result()

    def start(self, sandbox: Any, verb: str, *args: Any, **options: Any) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(getattr(sandbox, verb)(*args, **options), self._loop)

    async def _drain(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def shutdown(self) -> None:
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        assert not self._complaints, f"the event loop complained: {self._complaints}"


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "sync-native": partial(SyncSubject, launcher="native"),
    "async-native": partial(AsyncSubject, launcher="native"),
    "sync-bwrap": partial(SyncSubject, launcher="bwrap"),
    "forked-native": partial(ForkedSubject, launcher="native"),
    "pooled-native": partial(PooledSubject, launcher="native"),
}

if os.environ.get("LISRT_TEST_IDMAP") == "subuid":  # in CI, in a run of its own: tests/test_idmap.py
    SUBJECTS["sync-subuid"] = partial(SyncSubject, launcher="native", idmap="subuid")

#: What holds under the native launcher and can't under bubblewrap, by test, and why: these must fail there.
#: docs/security.md and the guarantees say the same.
NOT_UNDER_BWRAP = {
    "test_nothing_can_be_nested": "only max_user_namespaces is at its limit, in the namespace above; the other kinds need"
    " a capability, which nobody inside has (tests/test_bwrap.py)",
    "test_pid_1_can_not_be_looked_into": "PID 1 was executed inside the nested user namespace, so root inside may list the"
    " numbers of its descriptors and change its OOM score (tests/test_bwrap.py)",
}

#: What is otherwise with idmap="subuid", by test, and why: these must fail there. tests/test_idmap.py says how it is.
NOT_WITH_IDS = {
    "test_no_capability": "root has seven, over the sandbox's own ids",
    "test_root_emulation_or_honest_refusal": "chown is real",
    "test_other_options_for_another_sandbox": "the mount is a directory that only the host's user may enter, and 1000 is another",
    "test_a_fork_has_the_same_options": "likewise",
    "test_an_image_of_another_launcher": "it is an image of another idmap first",
    "test_giving_away_succeeds_and_changes_nothing": "it is real",
    "test_changing_identity_succeeds_and_changes_nothing": "it is real",
    "test_capabilities_are_set_in_name_only": "capset is the kernel's",
    "test_set_id_bits_are_set_and_worth_nothing": "root has seven capabilities anyway",
}

#: One for each launcher, for suites to which both faces are the same. Another launcher is another line.
LAUNCHERS: dict[str, Callable[[], Subject]] = {
    "native": lambda: SyncSubject(launcher="native"),
    "bwrap": lambda: SyncSubject(launcher="bwrap"),
}
if "sync-subuid" in SUBJECTS:
    LAUNCHERS["subuid"] = SUBJECTS["sync-subuid"]


class Box:
    """A sandbox of either kind; every verb looks synchronous."""

    def __init__(self, subject: Subject, **options: Any) -> None:
        self._subject = subject
        self.sandbox = subject.open(**options)
        self._twins: list[Box] = []

    def start(self, verb: str, *args: Any, **options: Any) -> "Future[Any]":
        """Begin a call; others may go on meanwhile."""
        return self._subject.start(self.sandbox, verb, *args, **options)

    def _call(self, verb: str, *args: Any, **options: Any) -> Any:
        return self._subject.call(self.sandbox, verb, *args, **options)

    def run(self, argv: Any, **options: Any) -> ExecResult:
        return cast(ExecResult, self._call("run", argv, **options))

    def sh(self, script: str, **options: Any) -> ExecResult:
        return cast(ExecResult, self._call("sh", script, **options))

    def python(self, source: str, *arguments: str, **options: Any) -> ExecResult:
        """Run a piece of Python inside."""
        return self.run(["python3", "-c", source, *arguments], **options)

    def write(self, path: Any, data: str | bytes, **options: Any) -> None:
        self._call("write", path, data, **options)

    def freeze(self) -> Frozen:
        return cast(Frozen, self._call("freeze"))

    def thaw(self) -> None:
        self._call("thaw")

    def read(self, path: Any, **options: Any) -> bytes:
        return cast(bytes, self._call("read", path, **options))

    def read_text(self, path: Any, **options: Any) -> str:
        return cast(str, self._call("read_text", path, **options))

    def upload(self, host_path: Any, path: Any) -> Transfer:
        return cast(Transfer, self._call("upload", host_path, path))

    def download(self, path: Any, host_path: Any) -> Transfer:
        return cast(Transfer, self._call("download", path, host_path))

    def snapshot(self, name: str | None = None) -> lisrt.Image:
        return cast(lisrt.Image, self._call("snapshot", name))

    def fork(self, count: int | None = None) -> Any:
        """A Box, or a list of so many; closed with this one, if not before."""
        made = [self._twin(one) for one in (self._call("fork", count) if count else [self._call("fork")])]
        return made if count else made[0]

    def set_network(self, network: Any) -> None:
        self._call("set_network", network)

    def publish(self, port: int, host_port: int = 0) -> int:
        return cast(int, self._call("publish", port, host_port))

    def unpublish(self, port: int) -> None:
        self._call("unpublish", port)

    @property
    def ports(self) -> Mapping[int, int]:
        return cast(Mapping[int, int], self.sandbox.ports)

    def reset(self, to: lisrt.Image | None = None) -> None:
        self._call("reset", to)

    def diff(self) -> list[lisrt.Change]:
        return cast(list[lisrt.Change], self._call("diff"))

    def _twin(self, sandbox: Any) -> "Box":
        twin = copy.copy(self)
        twin.sandbox, twin._twins = sandbox, []
        self._twins.append(twin)
        return twin

    def close(self) -> None:
        for twin in self._twins:
            twin.close()
        self._call("close")

    @property
    def alive(self) -> bool:
        return cast(bool, self.sandbox.alive)

    @property
    def id(self) -> str:
        return cast(str, self.sandbox.id)

    @property
    def image(self) -> str:
        return cast(str, self.sandbox.image)

    @property
    def workdir(self) -> str:
        return cast(str, self.sandbox.workdir)

    @property
    def guarantees(self) -> Mapping[str, str]:
        return cast(Mapping[str, str], self.sandbox.guarantees)
