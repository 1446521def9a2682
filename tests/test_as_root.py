"""A host's root may use lisrt, too. Inside it is still nobody: the kernel knows the difference only by its powers."""

import os
import stat
from pathlib import Path

import pytest

from lisrt import Mount, Sandbox

pytestmark = pytest.mark.root


def test_root_gets_a_sandbox_like_anybody() -> None:
    """Commands, files and time limits work; the uid is 0, and it is worth nothing."""
    with Sandbox() as box:
        assert box.run(["id", "-u"]).stdout == "0\n"
        status = dict(line.split(":\t", 1) for line in box.read_text("/proc/self/status").splitlines())
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        box.write("a/b", "x", mode=0o600)
        assert box.read("a/b") == b"x"
        assert box.sh("sleep 1000 & sleep 1000", timeout=0.2).outcome == "timed_out"


@pytest.mark.parametrize(
    "command",
    [
        "touch /usr/x", "mount -t tmpfs none /tmp", "mknod /tmp/null c 1 3; test -e /tmp/null", "chroot /", "hostname other",
        "unshare -U true",
    ],
)  # fmt: skip
def test_roots_powers_stay_outside(command: str) -> None:
    """What root may do on the host fails inside."""
    with Sandbox() as box:
        assert box.sh(command).exit_code != 0


def test_a_read_only_mount_is_read_only_for_root(tmp_path: Path) -> None:
    """The mount's flag is locked by the namespace: the files' owner can't lift it."""
    (tmp_path / "file").write_text("of the host")
    with Sandbox(mounts=[Mount(tmp_path, "/data")]) as box:
        assert box.read("/data/file") == b"of the host"
        done = box.sh("echo x > /data/file; mount -o remount,rw /data; chmod 777 /data; rm -f /data/file")
        assert "Read-only file system" in done.stderr
    assert (tmp_path / "file").read_text() == "of the host"


def test_what_root_leaves_is_roots_alone() -> None:
    """The scratch base of root can't be entered by others."""
    with Sandbox() as box:
        base = Path(box._box.home.scratch).parent
        status = base.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o700)
