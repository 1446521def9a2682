"""writable="none": nothing can be written anywhere, and everything can be read. Each with its positive control."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lisrt import Mount

WRITES = [
    "echo x > /testbed/new",
    "echo x > new",
    "echo x > /tmp/new",
    "echo x > /dev/shm/new",
    "echo x > /root/new",
    "mkdir /new",
    "ln -s /etc/passwd /testbed/link",
    "rm -rf /home/user",
    "chmod 700 /testbed",
    "touch /etc/hostname",
    "mv /tmp /tmp2",
    "mount -o remount,rw /",
    "mount -t tmpfs none /tmp",
]
READS = ["cat /etc/passwd", "ls /testbed", "python3 -c 'print(6*7)'", "echo x > /dev/null", "seq 3 | sort -r", "cat <<< here"]


@pytest.mark.parametrize("script", WRITES)
def test_nothing_can_be_written(open_box: Callable[..., Any], script: str) -> None:
    box = open_box(writable="none")
    done = box.sh(script)
    assert done.exit_code != 0, done
    assert box.sh("find /testbed /tmp /dev/shm /root -name new -o -name link").stdout == ""


@pytest.mark.parametrize("script", WRITES[:10])
def test_otherwise_it_can(open_box: Callable[..., Any], script: str) -> None:
    """The positive control: those scripts work where they may."""
    assert open_box().sh(script).ok


@pytest.mark.parametrize("script", READS)
def test_programs_run_and_read(open_box: Callable[..., Any], script: str) -> None:
    assert open_box(writable="none").sh(script).ok


def test_files_come_by_mounts(open_box: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "given").write_text("text")
    box = open_box(writable="none", mounts=[Mount(tmp_path, "/testbed/documents")], workdir="/testbed/work")
    assert box.sh("pwd; cat ../documents/given").stdout == "/testbed/work\ntext"
    assert not box.sh("echo x >> ../documents/given").ok
    with pytest.raises(OSError):
        box.write("/testbed/x", "y")
    with pytest.raises(OSError):
        box.upload(tmp_path, "/testbed/more")
    assert box.read("/testbed/documents/given") == b"text"
    assert "read-only" in box.guarantees["files"]


def test_a_writable_mount_is_a_contradiction(open_box: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is"):
        open_box(writable="none", mounts=[Mount(tmp_path, "/x", writable=True)])
