"""os.fork and multiprocessing after lisrt has been used: each process has its own sandboxes and only those."""

from pathlib import Path

import pytest
from support.fresh import python

pytestmark = pytest.mark.usefixtures("working_host")


def test_a_forked_child_has_sandboxes_of_its_own(tmp_path: Path) -> None:
    """The child gets SandboxGone for the parent's boxes and can make its own; the parent's survive the child's every act."""
    source = """
        import os, sys
        from lisrt import Sandbox, SandboxGone

        ours = [Sandbox(), Sandbox()]
        ours[0].sh("sleep 1000 & echo x > file").check()

        for ending in ("return", "_exit", "exception", "close", "with"):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    for verb, arguments in (("run", (["true"],)), ("read", ("file",)), ("write", ("file", "y"))):
                        try:
                            getattr(ours[0], verb)(*arguments)
                        except SandboxGone:
                            pass
                        else:
                            raise AssertionError(verb + " worked in the child")
                    assert not ours[0].alive
                    with Sandbox() as mine:
                        assert mine.run(["echo", "child"]).stdout == "child\\n"
                        assert mine.sh("ls -A").stdout == ""
                    unclosed = Sandbox()
                    assert unclosed.run(["true"]).ok
                    if ending == "close":
                        ours[0].close()
                        ours[1].close()
                    if ending == "with":
                        with ours[0]:
                            pass
                    status = 0
                    if ending == "exception":
                        os.close(2)
                        raise SystemExit(0)
                finally:
                    if status or ending != "return":
                        os._exit(status)
                sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, ending
            assert ours[0].alive
            assert ours[0].sh("cat file; exit 3").exit_code == 3
            assert ours[1].run(["echo", "parent"]).stdout == "parent\\n"
            with Sandbox() as another:
                assert another.run(["true"]).ok
        for box in ours:
            box.close()
    """
    python(source, cwd=tmp_path)


def test_children_and_grandchildren(tmp_path: Path) -> None:
    """Forks of forks, all at work at the same time."""
    source = """
        import os
        from lisrt import Sandbox

        def family(depth, name):
            with Sandbox() as box:
                box.write("name", name)
                pids = []
                for n in range(2 if depth else 0):
                    pid = os.fork()
                    if pid == 0:
                        try:
                            family(depth - 1, name + str(n))
                        except BaseException as error:
                            os.write(2, repr(error).encode())
                            os._exit(1)
                        os._exit(0)
                    pids.append(pid)
                for _ in range(5):
                    assert box.read("name") == name.encode()
                    assert box.run(["cat", "name"]).stdout == name
                for pid in pids:
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

        family(3, "f")
    """
    python(source, cwd=tmp_path)


@pytest.mark.slow
def test_a_fork_in_the_middle_of_commands(tmp_path: Path) -> None:
    """While other threads are in the middle of calls, whatever locks they hold, the child can start afresh."""
    source = """
        import os, threading
        from lisrt import Sandbox

        done = threading.Event()

        def busy(box):
            while not done.is_set():
                assert box.run(["true"]).ok
                with Sandbox() as other:
                    other.write("x", "y")

        boxes = [Sandbox() for _ in range(3)]
        threads = [threading.Thread(target=busy, args=(box,)) for box in boxes]
        for thread in threads:
            thread.start()
        for number in range(8):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    with Sandbox() as box:
                        status = 0 if box.run(["echo", str(number)]).stdout == f"{number}\\n" else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        done.set()
        for thread in threads:
            thread.join()
        for box in boxes:
            box.close()
    """
    python(source, cwd=tmp_path)


def test_the_parents_end_leaves_the_childs_sandboxes(tmp_path: Path) -> None:
    """A daemonised program: the parent goes, the child's sandboxes live on."""
    source = """
        import os
        from lisrt import Sandbox

        first = Sandbox()
        r, w = os.pipe()
        answer_r, answer_w = os.pipe()
        middle = os.fork()
        if middle == 0:
            of_middle = Sandbox()
            if os.fork() == 0:
                mine = Sandbox()
                os.close(w)
                os.read(r, 1)  # the middle process has gone
                os.write(answer_w, mine.run(["echo", "lives"]).stdout.encode())
                mine.close()
                os._exit(0)
            os._exit(0)
        os.waitpid(middle, 0)
        os.close(w)
        os.close(answer_w)
        assert os.read(answer_r, 100) == b"lives\\n"
        assert first.run(["true"]).ok
        first.close()
    """
    python(source, cwd=tmp_path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    """Workers of every start method make and use sandboxes while the parent uses its own."""
    source = f"""
        import multiprocessing
        from lisrt import Sandbox

        def work(number):
            with Sandbox() as box:
                return box.run(["sh", "-c", f"echo {{number}}; exit {{number}}"]).exit_code

        if __name__ == "__main__":
            ours = Sandbox()
            with multiprocessing.get_context({method!r}).Pool(3) as pool:
                assert pool.map(work, range(12)) == list(range(12))
                assert ours.run(["echo", "parent"]).stdout == "parent\\n"
            assert ours.run(["echo", "parent"]).stdout == "parent\\n"
            ours.close()
    """
    python(source, cwd=tmp_path)


def test_async_after_fork(tmp_path: Path) -> None:
    """The child runs an event loop of its own."""
    source = """
        import asyncio, os
        from lisrt import AsyncSandbox

        async def scenario():
            async with AsyncSandbox() as box:
                return (await box.run(["echo", "x"])).stdout

        assert asyncio.run(scenario()) == "x\\n"
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = asyncio.run(scenario()) != "x\\n"
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert asyncio.run(scenario()) == "x\\n"
    """
    python(source, cwd=tmp_path)


def test_nothing_is_inherited_by_the_hosts_children(tmp_path: Path) -> None:
    """Every descriptor that lisrt opens is close-on-exec: a subprocess with close_fds=False gets none of them."""
    source = """
        import fcntl, os, subprocess
        before = set(os.listdir("/proc/self/fd"))
        from lisrt import Sandbox

        with Sandbox() as one, Sandbox() as two:
            one.run(["true"])
            new = set(os.listdir("/proc/self/fd")) - before
            open_ones = [int(fd) for fd in new if os.path.lexists(f"/proc/self/fd/{fd}")]
            assert open_ones
            for fd in open_ones:
                assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC, os.readlink(f"/proc/self/fd/{fd}")
            child = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, capture_output=True, text=True)
            assert len(child.stdout.split()) <= 4, child.stdout
    """
    python(source, cwd=tmp_path)


def test_a_child_does_not_hold_a_commands_stdin_open(tmp_path: Path) -> None:
    """A fork inherits the pipes of commands that run: end of file still comes when the parent has written all."""
    source = """
        import os, signal, threading
        from support.waiting import eventually
        from lisrt import Sandbox

        with Sandbox() as box:
            box.run(["mkfifo", "gate"]).check()
            counted = []
            script = "echo > started; read line < gate; cat | wc -c"
            thread = threading.Thread(target=lambda: counted.append(box.sh(script, stdin=b"x" * 300_000, timeout=30).stdout))
            thread.start()
            eventually(lambda: box.run(["test", "-e", "started"]).ok)
            pid = os.fork()
            if pid == 0:
                signal.pause()
            box.sh("echo > gate").check()
            thread.join(20)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            print(*counted, end="")
    """
    assert python(source, cwd=tmp_path).stdout == "300000\n"


def test_forks_while_threads_run_commands(tmp_path: Path) -> None:
    """At any moment, also while another thread closes its pipes: the child is on its own, and says nothing."""
    source = """
        import os, threading
        from lisrt import Sandbox, spawner

        stop = threading.Event()

        def work(box):
            while not stop.is_set():
                box.run(["true"], stdin="x")

        boxes = [Sandbox() for _ in range(4)]
        threads = [threading.Thread(target=work, args=(boxes[n % 4],)) for n in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if spawner.running() is None and not boxes[0].alive else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        for box in boxes:
            assert box.sh("exit 3").exit_code == 3
            box.close()
        print("fine")
    """
    assert python(source, cwd=tmp_path).stdout == "fine\n"
