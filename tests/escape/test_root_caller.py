"""Root on the host as the caller: what only its sandboxes could do, because outside, root inside has the number 0.

The rest of this folder runs as root, too: .ci/run.
"""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.features import missing
from support.subjects import Box

from lisrt import Mount

pytestmark = pytest.mark.root


@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom", "tty"])
def test_the_hosts_devices_keep_their_modes(box: Box, name: str) -> None:
    """The nodes are the host's own, and root owns them: mode, times and attributes can't be set from inside."""
    before = os.stat(f"/dev/{name}")
    source = """
import os, sys
from kernel import attempt
path = "/dev/" + sys.argv[1]
print(attempt(os.chmod, path, os.stat(path).st_mode & 0o777), attempt(os.utime, path, (1, 1)), attempt(os.unlink, path),
      attempt(os.rename, path, path + "x"), attempt(os.mkdir, "/dev/new"), attempt(os.chmod, "/dev", 0o755))
"""
    assert set(box.python(source, name).check().stdout.split()) <= {"EROFS", "EBUSY"}
    after = os.stat(f"/dev/{name}")
    assert (after.st_mode, after.st_mtime_ns, after.st_rdev) == (before.st_mode, before.st_mtime_ns, before.st_rdev)


def test_what_covers_proc_keeps_its_mode(box: Box) -> None:
    """The hidden files of /proc are the host's /dev/null: as closed to chmod."""
    before = os.stat("/dev/null").st_mode
    covered = box.sh("for f in /proc/*; do [ ! -c $f ] || echo $f; done").stdout.split()
    assert covered
    for path in covered:
        assert "Read-only" in box.run(["chmod", "666", path]).stderr
    assert os.stat("/dev/null").st_mode == before


def test_the_hosts_programs_are_read_only_for_root(box: Box) -> None:
    """/usr, the one that root could write: EROFS for everything that changes a file, its mode or its attributes."""
    source = """
import fcntl, os
from kernel import attempt, call
for path in ("/usr/bin/env", "/usr", "/usr/lib/os-release"):
    print(attempt(os.chmod, path, 0o755), attempt(os.utime, path), attempt(os.rename, path, path + "x"))
    print(attempt(os.open, path, os.O_WRONLY | os.O_NOFOLLOW) if os.path.isfile(path) else "EROFS")
    print(call("ioctl", os.open(path, os.O_RDONLY), 0x40086602, b"\\0" * 8))  # FS_IOC_SETFLAGS
print(attempt(os.mkdir, "/usr/new"), attempt(os.symlink, "x", "/usr/bin/new"))
"""
    assert set(box.python(source).check().stdout.split()) <= {"EROFS", "EBUSY", "ETXTBSY", "ELOOP", "ENOTTY", "EPERM"}


def test_root_inside_reads_no_file_that_root_outside_may(box: Box) -> None:
    """/etc/shadow, the host's private keys, root's home: none of them has a name inside."""
    for path in ("/etc/shadow", "/etc/gshadow", "/root/.bashrc", "/root/.profile", "/var/lib/dpkg/status"):
        if os.path.isfile(path):
            assert box.sh(f"cat {path} 2>/dev/null").stdout_bytes != Path(path).read_bytes(), path
    for path in ("/root", "/boot", "/etc/ssl/private", "/etc/ssh", "/var/lib", "/run/secrets"):
        assert not set(box.sh(f"ls -A {path} 2>/dev/null").stdout.split()) & {"ssl-cert-snakeoil.key", "dpkg", ".ssh", ".bashrc"}
        assert not [name for name in box.sh(f"ls -A {path} 2>/dev/null").stdout.split() if name.endswith("_key")]


def test_a_device_or_a_setuid_program_in_a_mount(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """What root has put into a directory and mounts: no device of it works, and the directory gets none from inside."""
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    box = open_box(mounts=[Mount(tmp_path, "/data", writable=True)])
    assert "ermission denied" in box.sh("echo x > /data/null").stderr
    box.sh("mknod /data/mem c 1 1; mknod /data/disk b 254 0; mknod /data/white c 0 0; mkfifo /data/fifo")
    assert sorted(os.listdir(tmp_path)) == ["fifo", "null"]
    user = open_box(user=1000, mounts=[Mount(tmp_path, "/data", writable=True)])
    user.sh("mknod /data/mem c 1 1; mknod /data/white c 0 0")
    assert sorted(os.listdir(tmp_path)) == ["fifo", "null"]


def test_the_hosts_later_mounts_do_not_appear(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """A file system that is mounted below a mounted directory afterwards stays out of the sandbox."""
    (tmp_path / "below").mkdir()
    box = open_box(mounts=[Mount(tmp_path, "/data")])
    done = subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "below"], capture_output=True, text=True)
    if done.returncode != 0:
        missing(f"right to mount: {done.stderr}")
    try:
        (tmp_path / "below/file").write_text("of the host")
        assert box.run(["ls", "-A", "/data/below"]).stdout == ""
    finally:
        subprocess.run(["umount", tmp_path / "below"], check=True)


def test_roots_own_processes_are_out_of_reach(box: Box) -> None:
    """Inside, no signal, no priority and no limit reaches what root runs outside."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        source = "import os, sys; from kernel import attempt; print(*(attempt(os.kill, int(pid), 9) for pid in sys.argv[1:]))"
        assert box.python(source, str(process.pid), str(os.getpid())).stdout.split() == ["ESRCH"] * 2
        box.sh("kill -9 -1")
        assert process.poll() is None
        process.kill()
