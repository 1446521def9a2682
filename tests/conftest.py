"""Fixtures and rules for every test. LISRT_MUST_WORK=1: nothing may be skipped for what this host lacks."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from support.procs import new_marker
from support.subjects import NOT_UNDER_BWRAP, NOT_WITH_IDS, SUBJECTS, Box, Subject

import lisrt

MUST_WORK = os.environ.get("LISRT_MUST_WORK") == "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a moment; leave out with -m 'not slow'")
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:  # `nohup make test &`: what the tests start would inherit it
            signal.signal(number, handler)
    config.addinivalue_line("markers", "root: needs root on the host; left out when run as an ordinary user")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Root's tests are no business of an ordinary user: left out, not skipped. What bubblewrap can't do must fail there."""
    for item in items:
        function, _, kind = item.name.partition("[")
        if kind.startswith("sync-bwrap") and function in NOT_UNDER_BWRAP:
            item.add_marker(pytest.mark.xfail(reason=NOT_UNDER_BWRAP[function], strict=True))
        if "subuid" in kind and function in NOT_WITH_IDS:
            item.add_marker(pytest.mark.xfail(reason=NOT_WITH_IDS[function], strict=True))
    if os.geteuid() == 0:
        return
    others = [item for item in items if item.get_closest_marker("root")]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if not item.get_closest_marker("root")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under LISRT_MUST_WORK=1 a skip that the host caused is a failure; one that the author wrote down stays a skip."""
    report = yield
    if MUST_WORK and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("skip") is None:
        report.outcome = "failed"
        report.longrepr = f"LISRT_MUST_WORK=1, yet skipped: {call.excinfo.value if call.excinfo else report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module skipped for something missing is a failure too."""
    report = yield
    if MUST_WORK and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"LISRT_MUST_WORK=1, yet skipped: {report.longrepr}"
    return report


@contextlib.contextmanager
def _alarm(item: pytest.Item) -> Iterator[None]:
    """A test that hangs is a test that fails, with the traceback of where it hung."""
    seconds = 240 if item.get_closest_marker("slow") else 60

    def ring(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"hung for {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _alarm(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with _alarm(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with _alarm(item):
        yield


@pytest.fixture(scope="session")
def working_host() -> None:
    """Skip where the host can't have sandboxes at all; any other fault is for the tests to find."""
    try:
        lisrt.Sandbox().close()
    except lisrt.HostError as error:
        pytest.skip(f"this host cannot make sandboxes: {error}")


@pytest.fixture
def unprivileged() -> None:
    """For behaviours that root does not have, such as being refused a file."""
    if os.geteuid() == 0:
        pytest.skip("run the tests as an ordinary user")


@pytest.fixture(scope="session")
def memory_scratch() -> Iterator[str | None]:
    """A scratch place in memory, of this run alone, where programs may be executed there: for the launcher that copies images.

    ext4 without a journal looks at every inode that was deleted in the last minutes before it takes one: with a thousand for
    each of five hundred sandboxes that made a suite of 30 s one of 200 s. /dev/shm itself would not do: a test's user
    namespace had left `lisrt-0` there, which was not root's.
    """
    memory = "/dev/shm"
    if os.environ.get("LISRT_SCRATCH") or not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="lisrt-tests-", dir=memory, ignore_cleanup_errors=True) as made:
        yield made


@pytest.fixture
def roomy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, memory_scratch: str | None) -> None:
    """Memory as the scratch place of the launcher that copies images."""
    if request.node.callspec.params["subject"] in ("bwrap", "sync-bwrap") and memory_scratch:
        monkeypatch.setenv("LISRT_SCRATCH", memory_scratch)


@pytest.fixture(params=list(SUBJECTS))
def subject(request: pytest.FixtureRequest, working_host: None, roomy: None) -> Iterator[Subject]:
    """Each kind of sandbox in turn."""
    made = SUBJECTS[request.param]()
    yield made
    made.shutdown()


@pytest.fixture
def open_box(subject: Subject) -> Iterator[Callable[..., Box]]:
    """Make sandboxes with options of one's own; all are closed at the end of the test."""
    with contextlib.ExitStack() as boxes:

        def make(**options: object) -> Box:
            box = Box(subject, **options)
            boxes.callback(box.close)
            return box

        yield make


@pytest.fixture
def box(open_box: Callable[..., Box]) -> Box:
    """One sandbox with default options."""
    return open_box()


@pytest.fixture
def marker() -> str:
    """A number for `sleep` by which the host finds the processes of this test."""
    return new_marker()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A scratch base for sandboxes of a fresh Python: pass it as LISRT_SCRATCH."""
    path = tmp_path / "scratch"
    path.mkdir(mode=0o700)
    return path
