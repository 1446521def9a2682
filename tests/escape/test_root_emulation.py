"""Root inside is a name. What it may only seem to do, and what it can do, are facts that package scripts rely on."""

from support.subjects import Box

IDS = """
import os
from kernel import attempt
open("file", "w").close()
"""


def test_giving_away_succeeds_and_changes_nothing(box: Box) -> None:
    """chown in all its forms, to any id; the file stays root's."""
    source = """
for ids in ((1000, 1000), (0, 0), (65534, 65534), (-1, 12)):
    fd = os.open("file", os.O_RDWR)
    directory = os.open(".", os.O_RDONLY)
    os.symlink("nowhere", "link") if not os.path.lexists("link") else None
    print(attempt(os.chown, "file", *ids), attempt(os.fchown, fd, *ids), attempt(os.lchown, "link", *ids),
          attempt(lambda: os.chown("file", *ids, dir_fd=directory, follow_symlinks=False)))
    assert (os.stat("file").st_uid, os.stat("file").st_gid) == (0, 0)
print(attempt(os.chown, "no-such-file", 1, 1))
"""
    assert box.python(IDS + source).check().stdout.split() == ["None"] * 17


def test_changing_identity_succeeds_and_changes_nothing(box: Box) -> None:
    """setuid and its like: 0 before and after, which is why su runs programs as root."""
    source = """
print(attempt(os.setgroups, [4, 20]), attempt(os.setgid, 1000), attempt(os.setegid, 1000), attempt(os.setregid, 7, 7),
      attempt(os.setresgid, 7, 7, 7), attempt(os.setuid, 1000), attempt(os.seteuid, 1000), attempt(os.setreuid, 7, 7),
      attempt(os.setresuid, 7, 7, 7))
print(os.getresuid(), os.getresgid())
"""
    assert box.python(IDS + source).check().stdout.splitlines() == [" ".join(["None"] * 9), "(0, 0, 0) (0, 0, 0)"]


def test_capabilities_are_set_in_name_only(box: Box) -> None:
    """capset says yes, and there are none; what would need one fails."""
    source = """
import ctypes, struct
from kernel import call
header, data = struct.pack("Ii", 0x20080522, 0), struct.pack("IIIIII", *[0xFFFFFFFF] * 6)
print(call("capset", header, data))
print({line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")})
print(call("sethostname", b"x", 1), attempt(os.nice, -5))
"""
    assert box.python(IDS + source).check().stdout.splitlines() == ["0", "{'0000000000000000'}", "EPERM EPERM"]


def test_devices_are_made_in_name_only(box: Box) -> None:
    """mknod of a device, and of an overlay's whiteout, says yes and makes nothing; FIFOs, sockets and files are made."""
    source = """
import stat
for kind, device in ((stat.S_IFCHR, os.makedev(1, 3)), (stat.S_IFBLK, os.makedev(254, 0)), (stat.S_IFCHR, 0)):
    print(attempt(os.mknod, "node", kind | 0o666, device), os.path.lexists("node"))
for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG):
    print(attempt(os.mknod, f"node-{kind}", kind | 0o666), stat.S_IFMT(os.lstat(f"node-{kind}").st_mode) == kind)
"""
    assert box.python(IDS + source).check().stdout.split() == ["None", "False"] * 3 + ["None", "True"] * 3


def test_attributes_are_not_supported(box: Box) -> None:
    """setxattr: ENOTSUP for every name, as on a file system without; getting, listing and removing ask the kernel."""
    source = """
for name in ("user.x", "security.capability", "system.posix_acl_access", "trusted.overlay.opaque", "user.overlay.whiteout"):
    print(attempt(os.setxattr, "file", name, b"x"))
print(attempt(os.getxattr, "file", "user.x"), attempt(os.listxattr, "file"))
"""
    assert box.python(IDS + source).check().stdout.split() == ["ENOTSUP"] * 5 + ["ENODATA", "[]"]


def test_nothing_is_pretended_to_an_ordinary_user(plain_box: Box) -> None:
    """With user=1000 the kernel itself answers, and its answers are refusals."""
    source = """
import stat
print(os.getuid(), attempt(os.chown, "file", 0, 0), attempt(os.setuid, 0), attempt(os.setgid, 5), attempt(os.setgroups, []))
print(attempt(os.mknod, "node", stat.S_IFCHR | 0o666, os.makedev(1, 3)), attempt(os.mknod, "white", stat.S_IFCHR, 0))
print(attempt(os.mknod, "fifo", stat.S_IFIFO | 0o666), os.path.lexists("node"), os.path.lexists("white"))
print(attempt(os.setxattr, "file", "security.capability", b"x"))
"""
    said = plain_box.python(IDS + source).check().stdout.splitlines()
    assert said[0] in ("1000 EINVAL EPERM EPERM EPERM", "1000 EINVAL EINVAL EINVAL EPERM", "1000 EPERM EPERM EPERM EPERM")
    assert said[1:3] == ["EPERM EPERM", "None False False"]
    assert said[3] in ("EPERM", "EINVAL", "ENOTSUP")


def test_set_id_bits_are_set_and_worth_nothing(box: Box) -> None:
    """chmod u+s is what package scripts fall back on; the bit is there, and a program that has it gains nothing."""
    assert box.sh("cp /usr/bin/id su; chmod 6755 su; stat -c %a su; ./su -u; ./su -g").stdout == "6755\n0\n0\n"
    status = box.sh("grep -e NoNewPrivs -e CapEff /proc/self/status").stdout.split()
    assert status == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
