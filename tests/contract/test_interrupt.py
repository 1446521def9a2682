"""Ctrl-C and other signals while a sync call waits."""

import os
import signal
from pathlib import Path

import pytest
from support.fresh import program, python
from support.procs import assert_gone, assert_lives, new_marker, sleeping
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("working_host")


@pytest.mark.parametrize("verb", ["run", "sh"])
def test_keyboard_interrupt_kills_the_tree(tmp_path: Path, marker: str, verb: str) -> None:
    """Ctrl-C during a command raises KeyboardInterrupt, its tree is dead, the sandbox and other daemons go on."""
    source = f"""
        import os, signal
        from lisrt import Sandbox

        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Sandbox() as box:
            box.sh("sleep " + os.environ["OTHER"] + " &")
            script = "(setsid sleep $MARK &); trap '' INT TERM; sleep $MARK; :".replace("$MARK", os.environ["MARK"])
            print("ready", flush=True)
            try:
                box.sh(script) if {verb == "sh"} else box.run(["bash", "-c", script])
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            input()
            print(box.run(["echo", "alive"]).stdout.strip(), flush=True)
    """
    other = new_marker()
    with program(source, cwd=tmp_path, env={"MARK": marker, "OTHER": other}) as script:
        script.expect("ready")
        eventually(lambda: len(sleeping(marker)) == 2, what="two sleeps")
        os.kill(script.pid, signal.SIGINT)
        script.expect("interrupted", within=10)
        assert_gone(marker, within=1)
        assert_lives(other)
        script.tell("go on")
        script.expect("alive")
        assert script.finish() == 0
    assert_gone(other)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGTSTP, signal.SIGQUIT])
def test_a_terminals_signals_are_the_programs_alone(tmp_path: Path, marker: str, number: signal.Signals) -> None:
    """Ctrl-C, Ctrl-Z and a hangup reach the whole foreground group: the program decides, its sandboxes don't notice."""
    source = """
        import os, signal
        from lisrt import Sandbox

        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGTSTP, signal.SIGQUIT):
            signal.signal(number, lambda number, frame: print("signalled", flush=True))
        with Sandbox() as box:
            box.sh("mkfifo gate; sleep $MARK &", env={"MARK": os.environ["MARK"]})
            print("ready", flush=True)
            print(box.sh("cat gate", timeout=1).outcome, flush=True)
            print(box.run(["echo", "alive"]).stdout.strip(), flush=True)
    """
    with program(source, cwd=tmp_path, env={"MARK": marker}) as script:
        script.expect("ready")
        assert_lives(marker)
        os.killpg(script.pid, number)
        script.expect("signalled", within=10)
        script.expect("timed_out")
        script.expect("alive")
        assert script.finish() == 0
        assert_gone(marker)


def test_an_exception_from_a_handler_kills_the_tree(tmp_path: Path, marker: str) -> None:
    """Any exception that a signal handler throws into the wait does the same: SIGTERM turned into SystemExit, a timer."""
    source = """
        import os, signal
        from lisrt import Sandbox

        class Ring(Exception):
            pass

        def ring(number, frame):
            raise Ring

        signal.signal(signal.SIGALRM, ring)
        with Sandbox() as box:
            for _ in range(5):
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                try:
                    box.sh("(setsid sleep $MARK &); sleep $MARK", env={"MARK": os.environ["MARK"]})
                except Ring:
                    print("rang", flush=True)
                input()
            print(box.run(["echo", "alive"]).stdout.strip(), flush=True)
    """
    with program(source, cwd=tmp_path, env={"MARK": marker}) as script:
        for _ in range(5):
            script.expect("rang", within=10)
            assert_gone(marker, within=1)
            script.tell("go on")
        script.expect("alive")
        assert script.finish() == 0


def test_an_interrupt_ends_the_program_by_default(tmp_path: Path, marker: str) -> None:
    """Uncaught, Ctrl-C ends the program as it ends any Python, and nothing of the sandbox is left."""
    source = """
        import os, signal
        from lisrt import Sandbox

        signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python does, unless it was started with SIGINT ignored
        with Sandbox() as box:
            box.run(["sleep", os.environ["MARK"]])
    """
    with program(source, cwd=tmp_path, env={"MARK": marker}) as script:
        assert_lives(marker)
        os.kill(script.pid, signal.SIGINT)
        assert script.finish() == -signal.SIGINT
        assert_gone(marker)
        assert script.stderr().strip().endswith("KeyboardInterrupt")


def test_handlers_that_return_do_not_disturb(tmp_path: Path) -> None:
    """A program whose timer rings a thousand times a second gets the right results all the same."""
    source = """
        import signal
        from lisrt import Sandbox

        rings = 0

        def ring(number, frame):
            global rings
            rings += 1

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        data = bytes(range(256)) * 4096
        for _ in range(3):
            with Sandbox() as box:
                for number in range(10):
                    result = box.run(["sh", "-c", f"cat; exit {number}"], stdin=data, max_output=2 << 20)
                    assert (result.exit_code, result.stdout_bytes) == (number, data)
                box.write("file", data)
                assert box.read("file") == data
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert rings > 20, rings
    """
    python(source, cwd=tmp_path)
