"""How long things live: background children, daemons, timeouts that kill a whole tree and nothing else."""

import threading
import time

import pytest
from support.procs import assert_gone, assert_lives, marked, sleeping
from support.subjects import Box
from support.waiting import eventually, not_blocked

from lisrt import Outcome, SandboxGone

#: A shell waits here until its last background child has become `sleep`.
BEGUN = 'until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done'

#: Each way to slip away from whoever kills a process, or its group, or its session. `sleep $M` is what must die.
ESCAPES = {
    "child": "sleep $M & echo up; wait",
    "grandchild": "bash -c 'bash -c \"sleep $M; :\"; :' & echo up; wait",
    "exec": "echo up; exec sleep $M",
    "setsid": "setsid sleep $M & echo up; wait",
    "nohup": "nohup sleep $M >/dev/null 2>&1 & echo up; wait",
    "orphan": "(sleep $M >/dev/null 2>&1 &); echo up; while :; do /bin/sleep 1; done",
    "double fork": "(setsid sh -c 'sleep $M <&- >&- 2>&- & exit' &); echo up; while :; do /bin/sleep 1; done",
    "SIGTERM ignored": "trap '' TERM INT HUP; bash -c 'trap \"\" TERM; sleep $M; :' & echo up; wait",
    "stopped": f"sleep $M & {BEGUN}; echo up; kill -STOP $! $$; wait",
    "stopped daemon": f"echo up; (setsid sh -c 'sleep $M & {BEGUN}; kill -STOP $!' &); kill -STOP $$",
    "wide": "for i in 1 2 3 4 5 6 7 8 9 10; do sleep $M & setsid sleep $M & done; echo up; wait",
}

#: Prints the pids under which a command sees `sleep $M`.
SEEN_INSIDE = """
for process in /proc/[0-9]*; do
    [ "$(tr '\\0' ' ' 2>/dev/null < $process/cmdline)" = "sleep $M " ] && echo ${process#/proc/}
done
"""

#: A process that replaces itself by its own child as fast as it can: whoever kills by pid comes too late.
REFORK = """
import os, sys, time
if os.fork() == 0:
    if sys.argv[2] == "setsid":
        os.setsid()
    while True:
        if os.fork():
            os._exit(0)
print("up", flush=True)
time.sleep(1000)
"""


def births(box: Box) -> int:
    """How many processes were born in the sandbox during a moment in which this command makes none."""
    source = """
import time
last = lambda: int(open("/proc/loadavg").read().split()[-1])
before = last(); time.sleep(0.1); print(last() - before)
"""
    return int(box.python(source).check().stdout)


def test_a_background_child_holds_no_one_up(box: Box, marker: str) -> None:
    """A command whose child keeps the pipes open is over when its own process exits, with its output so far."""
    with not_blocked():
        result = box.sh(f"sleep {marker} & echo started; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("started\n", "err\n", 3)
    assert result.outcome is Outcome.EXITED


def test_a_background_child_holds_no_one_up_until_the_timeout(box: Box, marker: str) -> None:
    """With a deadline set, the command still ends when its process does; the deadline no longer counts."""
    with not_blocked():
        result = box.sh(f"sleep {marker} & echo started", timeout=100)
    assert (result.stdout, result.outcome) == ("started\n", Outcome.EXITED)


@pytest.mark.parametrize("how", ["sleep $M &", "setsid sleep $M >/dev/null 2>&1 &", "(setsid sleep $M & )"])
def test_what_a_command_leaves_behind_lives_on(box: Box, marker: str, how: str) -> None:
    """Children left on a normal end go on; a later command sees them and can end them."""
    box.sh(how, env={"M": marker}).check()
    assert_lives(marker)
    seen = box.sh(SEEN_INSIDE, env={"M": marker}).stdout.split()
    assert len(seen) == 1
    box.sh(f"kill {seen[0]}").check()
    assert_gone(marker)


def test_a_server_serves_later_commands(box: Box) -> None:
    """A server that an agent starts in one command answers in the next, and its files too."""
    server = """
import os, socket
listener = socket.create_server(("127.0.0.1", 8000))
if os.fork():
    os._exit(0)
while True:
    peer, _ = listener.accept()
    peer.sendall(b"hello " + peer.recv(100))
    peer.close()
"""
    with not_blocked():
        box.python(server).check()
    client = "import socket; s = socket.create_connection(('127.0.0.1', 8000)); s.sendall(b'you'); print(s.recv(100).decode())"
    for _ in range(3):
        assert box.python(client).stdout == "hello you\n"


def test_a_background_child_may_go_on_writing(box: Box, marker: str) -> None:
    """A child that writes to the pipe it was born with, after the command is over, isn't killed by it."""
    noise = "head -c 1000000 /dev/zero; for i in 1 2 3; do echo noise; sleep 0.05; done"
    box.sh(f"({noise}; {noise} >&2; exec sleep {marker}) & echo started").check()
    assert_lives(marker)


def test_the_daemons_output_after_the_end_is_nobodys(box: Box, marker: str) -> None:
    """A child that goes on writing to the old pipe neither blocks nor pollutes later commands."""
    box.sh("(while :; do echo noise || exit; done) & echo mine")
    assert box.run(["echo", "clean"]).stdout == "clean\n"


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_timeout_kills_the_whole_tree(box: Box, marker: str, escape: str) -> None:
    """Whatever a process did to get away, at the deadline it dies; the output until then is kept."""
    with not_blocked():
        result = box.sh(ESCAPES[escape], env={"M": marker}, timeout=0.3)
    assert result.outcome is Outcome.TIMED_OUT
    assert result.stdout == "up\n"
    assert_gone(marker)
    assert box.run(["echo", "alive"]).stdout == "alive\n"


@pytest.mark.parametrize("escape", ESCAPES)
def test_the_escapes_do_run(box: Box, marker: str, escape: str) -> None:
    """The tests above test something: each of these trees does start its sleep."""
    pending = box.start("sh", ESCAPES[escape], env={"M": marker}, timeout=100)
    eventually(lambda: sleeping(marker), what="the start of the sleep")
    box.close()
    with pytest.raises(SandboxGone):
        pending.result()
    assert_gone(marker)


@pytest.mark.parametrize("how", ["plain", "setsid"])
def test_a_timeout_kills_a_chain_that_keeps_forking(box: Box, marker: str, how: str) -> None:
    """A chain of processes, each the child of the last and gone at once, ends at the deadline as well."""
    pending = box.start("run", ["python3", "-c", REFORK, marker, how], timeout=1)
    eventually(lambda: births(box) > 5, what="a chain that moves")
    assert pending.result().outcome is Outcome.TIMED_OUT
    assert births(box) == 0
    assert_gone(marker)


def test_earlier_daemons_survive_a_timeout(box: Box, marker: str) -> None:
    """What an earlier command left behind has no part in a later command's timeout."""
    box.sh(f"sleep {marker} & setsid sleep {marker} & (setsid sleep {marker} &)").check()
    before = eventually(lambda: len(sleeping(marker)) == 3 and sleeping(marker))
    box.sh("sleep 1000 & setsid sleep 1000 & wait", timeout=0.3)
    assert sleeping(marker) == before


def test_a_daemons_young_children_survive_a_timeout(box: Box, marker: str) -> None:
    """A child that an earlier daemon starts while another command runs belongs to the daemon, not to that command."""
    box.sh(f"mkfifo poke; (while read line < poke; do sleep {marker} & done) >/dev/null 2>&1 &").check()
    pending = box.start("sh", "echo go > poke; echo poked > poked; sleep 1000", timeout=1)
    pid = assert_lives(marker)
    assert pending.result().outcome is Outcome.TIMED_OUT
    assert assert_lives(marker) == pid


def test_other_running_commands_survive_a_timeout(box: Box, marker: str) -> None:
    """A command that runs beside the one that is killed goes on, with its children and its orphans."""
    box.sh("mkfifo gate").check()
    script = f"(setsid sleep {marker} >/dev/null 2>&1 &); sleep {marker} & read word < gate; echo $word; exit 7"
    pending = box.start("sh", script)
    before = eventually(lambda: len(sleeping(marker)) == 2 and sleeping(marker))
    assert box.sh("sleep 1000 & (setsid sleep 1000 &); wait", timeout=0.3).outcome is Outcome.TIMED_OUT
    assert sleeping(marker) == before
    box.sh("echo on > gate").check()
    result = pending.result()
    assert (result.stdout, result.exit_code) == ("on\n", 7)


def test_commands_time_out_each_at_its_own_deadline(box: Box, marker: str) -> None:
    """Six commands with six deadlines: the short ones end first and take no other with them."""
    calls = [box.start("sh", f"sleep {marker} & wait", timeout=0.2 + 0.1 * i) for i in range(6)]
    survivor = box.start("sh", "read word < <(sleep 1; echo on); echo $word", timeout=100)
    durations = [call.result().duration for call in calls]
    assert durations == sorted(durations)
    assert survivor.result().stdout == "on\n"
    assert_gone(marker)


def test_partial_output_is_kept_on_timeout(box: Box) -> None:
    """What the tree had said until the deadline is there, of both streams, and files it wrote stay."""
    result = box.sh("echo out; echo err >&2; (echo from a child); echo saved > file; sleep 1000", timeout=0.3)
    assert (result.stdout, result.stderr) == ("out\nfrom a child\n", "err\n")
    assert box.read("file") == b"saved\n"


def test_a_flood_is_timed_out_too(box: Box) -> None:
    """A program that writes for ever is stopped at its deadline, its output capped."""
    with not_blocked():
        result = box.run(["yes"], timeout=0.3, max_output=1000)
    assert result.outcome is Outcome.TIMED_OUT
    assert result.truncated
    assert result.stdout_bytes.startswith(b"y\ny\n")
    assert result.dropped_stdout > 0


def test_a_fork_bomb_of_one_command_ends_with_it(box: Box, marker: str) -> None:
    """Processes that multiply until they may not are all gone at the deadline, and the sandbox still serves."""
    bomb = """
import os, sys, time
print("up", flush=True)
for _ in range(6):
    os.fork()
time.sleep(1000)
"""
    result = box.run(["python3", "-c", bomb, marker], timeout=0.7)
    assert result.outcome is Outcome.TIMED_OUT
    assert_gone(marker)
    assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_kill_all_from_inside_spares_the_sandbox(box: Box, marker: str) -> None:
    """`kill -9 -1` ends the processes of the sandbox but not the sandbox."""
    box.sh(f"sleep {marker} &").check()
    assert_lives(marker)
    box.sh("kill -9 -1", timeout=100)
    assert_gone(marker)
    assert box.alive
    assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_the_dead_are_reaped(box: Box) -> None:
    """Orphans that end leave no zombies in the sandbox."""
    box.sh("for i in 1 2 3 4 5 6 7 8 9 10; do (setsid true &); done").check()
    states = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '"
    eventually(lambda: box.sh(states).stdout == "0\n", what="the reaping of ten orphans")


def test_closing_ends_everything(box: Box, marker: str) -> None:
    """Close, and whatever ran inside is gone: daemons, running commands, stopped processes."""
    box.sh(f"(setsid sleep {marker} &); sleep {marker} & {BEGUN}; kill -STOP $!").check()
    pending = box.start("sh", f"trap '' TERM; sleep {marker}; :", timeout=100)
    eventually(lambda: len(sleeping(marker)) == 3)
    with not_blocked():
        box.close()
    assert_gone(marker)
    assert isinstance(pending.exception(timeout=20), SandboxGone)


def test_a_command_in_flight_learns_of_the_close(box: Box, marker: str) -> None:
    """A thread that waits for a command when another closes the sandbox gets SandboxGone, at once."""
    pending = box.start("run", ["sleep", marker])
    assert_lives(marker)
    start = time.monotonic()
    box.close()
    assert isinstance(pending.exception(timeout=20), SandboxGone)
    assert time.monotonic() - start < 5


def test_many_close_at_once(box: Box, marker: str) -> None:
    """Closing from several threads at once is closing."""
    box.sh(f"sleep {marker} &").check()
    threads = [threading.Thread(target=box.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not box.alive
    assert_gone(marker)
    assert not marked(marker)
