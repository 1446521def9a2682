"""CVE-2019-5736: the program that starts commands must not be overwritten by them, though it runs with their ids."""

import hashlib
from collections.abc import Iterator

import pytest
from support.subjects import Box

from lisrt.kernel import helper

#: Tries to open, for writing, the program of every process that it can see, for as long as it runs.
HUNTER = """
import os
print("hunting", flush=True)
found = set()
while True:
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            for path in (f"/proc/{pid}/exe", f"/proc/{pid}/task/{pid}/exe", f"/proc/{pid}/map_files"):
                for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                    try:
                        fd = os.open(path, flags)
                        if "lisrt" in os.readlink(f"/proc/self/fd/{fd}"):
                            print("CAUGHT", path, os.write(fd, b"x"), flush=True)
                        os.close(fd)
                    except OSError:
                        pass
"""


@pytest.fixture(autouse=True)
def helper_is_untouched() -> Iterator[None]:
    """The file on the host is the same before and after."""
    before = hashlib.sha256(helper.PATH.read_bytes()).digest()
    yield
    assert hashlib.sha256(helper.PATH.read_bytes()).digest() == before


@pytest.mark.parametrize("argv", [["/proc/self/exe"], ["/proc/self/exe", "spawn", "/tmp"], ["/testbed/script"]])
def test_the_helper_can_not_be_overwritten(box: Box, argv: list[str]) -> None:
    """A command that names the helper itself runs a sealed copy, without rights; whoever waits for that gains nothing."""
    box.write("script", "#!/proc/self/exe\n", mode=0o755)
    hunters = [box.start("run", ["python3", "-c", HUNTER], timeout=2) for _ in range(2)]
    while not all(hunter.done() for hunter in hunters):
        assert not box.run(argv, timeout=20).ok
    for hunter in hunters:
        assert hunter.result().stdout == "hunting\n"
    assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_a_copy_of_the_helper_is_a_program_like_any_other(box: Box) -> None:
    """Inside it can be read by who runs it, and does nothing there: no namespace, no socket to the spawner."""
    box.write("helper", helper.PATH.read_bytes(), mode=0o755)
    box.sh("mkdir -p /tmp/owner")
    for argv in (["./helper"], ["./helper", "spawn", "/tmp/owner"], ["./helper", "init"]):
        result = box.run(argv, timeout=20)
        assert not result.ok
    assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_programs_of_the_host_can_not_be_overwritten(box: Box) -> None:
    """The interpreter itself is the host's own file: read-only, for root inside as well."""
    source = """
import os
from kernel import attempt
for path in ("/proc/self/exe", "/usr/bin/env", "/usr/bin/python3", "/lib64/ld-linux-x86-64.so.2", "/bin/sh"):
    print(attempt(os.open, path, os.O_WRONLY), attempt(os.chmod, path, 0o777), attempt(os.truncate, path, 0))
"""
    assert set(box.python(source).check().stdout.split()) <= {"EROFS", "ETXTBSY", "EPERM", "EACCES", "ENOENT"}
