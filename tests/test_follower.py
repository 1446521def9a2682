"""Sandboxes that are made while the one whose files they go on with still ends."""

import os
import select
import signal
import socket
from collections.abc import Iterator

import pytest
from support import procs
from support.waiting import eventually

from lisrt import Sandbox, box, channel
from lisrt import follower as followers
from lisrt.channel import Channel, Order
from lisrt.errors import SetupError
from lisrt.follower import Follower, Forgiving
from lisrt.kernel import wire
from lisrt.plan import Plan, make_plan
from lisrt.spawned import Spawner
from lisrt.spawner import current
from lisrt.waiting import drive

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.fixture
def home() -> Spawner:
    return current("native")


@pytest.fixture
def plan(home: Spawner) -> Plan:
    return plan_of(home)


def plan_of(home: Spawner, hostname: str = "sandbox") -> Plan:
    return make_plan(home.roots.get("host"), network="none", mounts=(), workdir="/", user=0, hostname=hostname)


@pytest.fixture
def old(home: Spawner, plan: Plan) -> Iterator[Channel]:
    box = drive(channel.create(Order(home, plan)))
    yield box
    drive(box.close())


@pytest.fixture
def follower(home: Spawner, old: Channel) -> Iterator[Follower]:
    with Follower(old) as one:
        yield one


def begun(follower: Follower) -> tuple[str, socket.socket]:
    """Its name and its socket."""
    assert follower._begun is not None
    _, started = follower._begun
    return started.name, started.sock


def has_directory(home: Spawner, name: str) -> bool:
    return os.path.exists(os.path.join(home.scratch, name))


def waiting_process(home: Spawner) -> int:
    """The one that is becoming PID 1, by its parent and its name."""
    (found,) = (pid for pid in procs.children(home.pid) if procs.name_of(pid) == "lisrt-setup")
    return found


def test_it_waits_for_the_end(home: Spawner, plan: Plan, old: Channel, follower: Follower) -> None:
    """Told to go on, it touches nothing while the other one lives: its overlay would be mounted on what is still written to."""
    drive(follower.begin(Order(home, plan, trusted=False)))
    drive(follower.go(Order(home, plan, trusted=False)))
    assert select.select([begun(follower)[1]], [], [], 0.3)[0] == []
    drive(old.close())
    arrived = drive(follower.arrive(Order(home, plan, trusted=False)))
    assert arrived.alive
    drive(arrived.close())


def test_it_waits_until_it_is_told(home: Spawner, plan: Plan, old: Channel, follower: Follower) -> None:
    """The end of the other one is not enough: its files may be moved after that."""
    drive(follower.begin(Order(home, plan, trusted=False)))
    drive(old.close())
    assert select.select([begun(follower)[1]], [], [], 0.3)[0] == []


def test_another_plan(home: Spawner, plan: Plan, old: Channel, follower: Follower) -> None:
    """What was begun with one plan is not used for another."""
    drive(follower.begin(Order(home, plan_of(home, "other"), trusted=False)))
    name, _ = begun(follower)
    drive(old.close())
    drive(follower.go(Order(home, plan, trusted=False)))
    arrived = drive(follower.arrive(Order(home, plan, trusted=False)))
    assert arrived.alive
    assert arrived.name != name
    drive(arrived.close())


def test_one_that_dies_is_made_anew(home: Spawner, plan: Plan, old: Channel, follower: Follower) -> None:
    """Whatever becomes of what was begun, the sandbox goes on."""
    drive(follower.begin(Order(home, plan, trusted=False)))
    name, _ = begun(follower)
    eventually(lambda: has_directory(home, name))
    os.kill(waiting_process(home), signal.SIGKILL)
    drive(old.close())
    drive(follower.go(Order(home, plan, trusted=False)))
    arrived = drive(follower.arrive(Order(home, plan, trusted=False)))
    assert arrived.alive
    drive(arrived.close())
    eventually(lambda: not has_directory(home, name))


def test_one_that_is_not_wanted_leaves_nothing(home: Spawner, plan: Plan, old: Channel, follower: Follower) -> None:
    """Not its process, and not its directory."""
    drive(follower.begin(Order(home, plan, trusted=False)))
    name, _ = begun(follower)
    eventually(lambda: has_directory(home, name))
    follower.close()
    eventually(lambda: not has_directory(home, name))
    assert old.alive


def test_any_other_message_is_an_end(home: Spawner, plan: Plan, old: Channel, follower: Follower) -> None:
    """LIS_GO, or nothing."""
    drive(follower.begin(Order(home, plan, trusted=False)))
    name, sock = begun(follower)
    eventually(lambda: has_directory(home, name))
    wire.send(sock, wire.encode_plain(wire.QUIT))
    eventually(lambda: not has_directory(home, name))


def test_a_pid_1_that_says_it_ends_and_stays(
    home: Spawner, plan: Plan, old: Channel, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has taken it over: it is killed, and until that is seen nothing is mounted on what it writes to."""
    monkeypatch.setattr(followers, "CLOSE_TIMEOUT", 0.2)
    drive(follower.begin(Order(home, plan, trusted=False)))
    drive(follower.go(Order(home, plan, trusted=False)))
    arrived = drive(follower.arrive(Order(home, plan, trusted=False)))
    assert arrived.alive
    assert not old.alive
    drive(arrived.close())


A_LINK = SetupError("a link at /tmp", stage="directory", errno=40)


@pytest.mark.parametrize("error", [TimeoutError("of a signal handler"), A_LINK, KeyboardInterrupt()])
def test_what_is_not_forgiven(error: BaseException) -> None:
    """What is no failure of a creation, and what would fail again."""
    with pytest.raises(type(error)), Forgiving():
        raise error
    with Forgiving():
        raise BlockingIOError(11, "no room")


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_snapshot_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just when its layer has been taken away: the sandbox goes on, and still has its files when others' have been deleted."""
    with Sandbox() as one:
        one.write("mark", "here")
        taken = []

        def take(home: Spawner, old: Channel, image: object) -> None:
            real(home, old, image)  # type: ignore[arg-type]
            taken.append(image.frozen[0].path)  # type: ignore[attr-defined]
            stop()

        real = box.take
        monkeypatch.setattr(box, "take", take)
        with pytest.raises(KeyboardInterrupt):
            one.snapshot()
        with Sandbox() as other:
            other.write("mark", "")
            home, name = current("native"), other._box.channel.name
        eventually(lambda: not has_directory(home, name))
        assert os.path.exists(f"{taken[0]}/testbed/mark")
        assert one.read_text("mark") == "here"


def test_an_interrupted_reset_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the sandbox has been ended: it is still what it was, and so are its snapshots."""
    with Sandbox() as one:
        one.write("a", "")
        first = one.snapshot()
        one.write("b", "")
        one.snapshot()
        one.write("c", "")
        with monkeypatch.context() as patch:
            patch.setattr(Follower, "begin", stop)
            with pytest.raises(KeyboardInterrupt):
                one.reset(first)
        assert one.run(["ls"]).stdout.split() == ["a", "b", "c"]
        with Sandbox(one.snapshot()) as other:
            assert other.run(["ls"]).stdout.split() == ["a", "b", "c"]
