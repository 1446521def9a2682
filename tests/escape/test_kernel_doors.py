"""The doors of the kernel that a program has no business with: which answer each one gives."""

from collections.abc import Callable

import pytest
from support.features import missing
from support.subjects import Box

#: What has been the way out of other sandboxes, or wants a capability: EPERM, before the kernel looks at the arguments.
REFUSED = {
    # mounts, old and new: CVE-2022-0185 (fsconfig), CVE-2023-0386 (overlay in a user namespace)
    "mount": (b"none", b"/tmp", b"tmpfs", 0, 0),
    "umount2": (b"/proc", 2),
    "pivot_root": (b"/tmp", b"/tmp"),
    "chroot": (b"/tmp",),
    "fsopen": (b"tmpfs", 0),
    "fsconfig": (0, 6, 0, 0, 0),
    "fsmount": (0, 0, 0),
    "fspick": (-100, b"/", 0),
    "open_tree": (-100, b"/", 1),
    "move_mount": (0, b"", -100, b"/tmp", 4),
    "mount_setattr": (-100, b"/", 0, b"\0" * 32, 32),
    "open_tree_attr": (-100, b"/", 1, b"\0" * 32, 32),
    # namespaces: CVE-2022-0492 and the CVEs of nft begin with one
    "setns": (0, 0),
    # keyrings are in no namespace: CVE-2016-0728 and the host's own keys
    "add_key": (b"user", b"name", b"x", 1, -3),
    "request_key": (b"user", b"name", 0, 0),
    "keyctl": (0, -3, 1),
    # the kernel's widest doors for a user without any rights
    "bpf": (5, b"\0" * 128, 128),
    "perf_event_open": (b"\0" * 128, 0, -1, -1, 0),
    "userfaultfd": (1,),
    "vmsplice": (1, 0, 0, 0),
    # files by their number on the disk (shocker), descriptors and memory of other processes
    "open_by_handle_at": (0, b"\0" * 24, 0),
    "pidfd_getfd": (0, 0, 0),
    "kcmp": (1, 1, 0, 0, 0),
    "process_madvise": (0, 0, 0, 0, 0),
    "move_pages": (0, 0, 0, 0, 0, 0),
    "migrate_pages": (1, 0, 0, 0),
    "cachestat": (0, b"\0" * 16, b"\0" * 40, 0),
    # the machine
    "init_module": (b"", 0, b""),
    "finit_module": (0, b"", 0),
    "delete_module": (b"overlay", 0),
    "kexec_load": (0, 0, 0, 0),
    "reboot": (0xFEE1DEAD, 672274793, 0x89ABCDEF, 0),
    "swapon": (b"/dev/zero", 0),
    "swapoff": (b"/dev/zero",),
    "acct": (b"/tmp/acct",),
    "quotactl": (0, 0, 0, 0),
    "quotactl_fd": (0, 0, 0, 0),
    "syslog": (3, b"", 0),
    "settimeofday": (b"\0" * 16, 0),
    "clock_settime": (0, b"\0" * 16),
    "adjtimex": (b"\0" * 256,),
    "sethostname": (b"x", 1),
    "setdomainname": (b"x", 1),
    "fanotify_init": (2, 0),
    "vhangup": (),
    "ioperm": (0, 1, 1),
    "iopl": (3,),
    "modify_ldt": (0, 0, 0),
}

#: What a kernel may well not have: ENOSYS, and programs fall back on what there was before.
UNKNOWN = {
    "clone3": (b"\0" * 88, 88),
    "io_uring_setup": (1, b"\0" * 120),
    "io_uring_enter": (0, 0, 0, 0, 0),
    "io_uring_register": (0, 0, 0, 0),
    "memfd_secret": (0,),
    "lsm_set_self_attr": (100, b"", 0, 0),
    "listns": (b"\0" * 24, b"\0" * 64, 8, 0),
    "uselib": (b"/bin/true",),
}


def answers(box: Box, calls: dict[str, tuple[object, ...]]) -> dict[str, str]:
    """What each call answers; those that this processor's kernels have not are left out."""
    source = """
import sys
from kernel import NUMBERS, call
for name, arguments in eval(sys.argv[1]).items():
    if name in NUMBERS:
        print(name, call(name, *arguments), flush=True)
"""
    found = box.python(source, repr(calls)).check().stdout.splitlines()
    assert len(found) >= len(calls) - 4
    return dict(line.split() for line in found)


@pytest.mark.parametrize("user", [0, 1000])
def test_dangerous_calls_are_refused(open_box: Callable[..., Box], user: int) -> None:
    """EPERM, for the sandbox's root and for its ordinary user."""
    found = answers(open_box(user=user), REFUSED)
    assert {name: answer for name, answer in found.items() if answer != "EPERM"} == {}


def test_new_calls_are_unknown(box: Box) -> None:
    """ENOSYS: for io_uring and clone3, for memfd_secret, and for every number that no list has."""
    found = answers(box, UNKNOWN)
    assert {name: answer for name, answer in found.items() if answer != "ENOSYS"} == {}
    source = "from kernel import call; print({call(number) for number in [*range(471, 700), 1023, 1024, 5000, 0x3fffffff, -1]})"
    assert box.python(source).stdout == "{'ENOSYS'}\n"


#: CLONE_NEW*, by what it makes.
NAMESPACES = {
    "user": 0x10000000,
    "mount": 0x20000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x8000000,
    "uts": 0x4000000,
    "cgroup": 0x2000000,
    "time": 0x80,
    "user and mount": 0x10020000,
    "user, with a high bit": 0x110000000,
    "by a flag to come": 0x100000,
}


@pytest.mark.parametrize("kind", NAMESPACES)
def test_no_namespace_is_made(box: Box, kind: str) -> None:
    """CVE-2022-0185, -0492, -25636, CVE-2023-0386, -32233, CVE-2024-1086: all want a namespace of their own first."""
    source = """
import os, sys
from kernel import call
flag = int(sys.argv[1])
before = sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns"))
print(call("unshare", flag))
result = call("clone", flag | 17, 0, 0, 0, 0)
if result == "0":
    os._exit(0)
print(result)
assert before == sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns"))
"""
    unshared, cloned = box.python(source, str(NAMESPACES[kind])).check().stdout.split()
    assert unshared == "EPERM"
    if kind not in ("time", "by a flag to come"):  # to clone, these are a signal's number and CLONE_PARENT_SETTID
        assert cloned == "EPERM"


def test_no_namespace_is_entered(box: Box) -> None:
    """setns to each of one's own, by descriptor and by pidfd: EPERM. Parents and owners of namespaces are out of reach."""
    source = """
import fcntl, os
from kernel import attempt, call
for name in sorted(os.listdir("/proc/self/ns")):
    fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
    print(call("setns", fd, 0), call("setns", fd, 0x20000))
    os.close(fd)
print(call("setns", os.pidfd_open(os.getpid()), 0x10000000), call("setns", os.pidfd_open(1), 0x20000))
"""
    assert set(box.python(source).check().stdout.split()) == {"EPERM"}


def test_a_release_agent_has_no_cgroup_to_live_in(box: Box) -> None:
    """CVE-2022-0492: there is no cgroup file system, none can be mounted, and none of the host's can be written."""
    source = """
import os
from kernel import attempt, call
print(call("mount", b"cgroup", b"/tmp", b"cgroup", 0, b"memory"), call("mount", b"none", b"/tmp", b"cgroup2", 0, 0))
print(attempt(os.listdir, "/sys/fs/cgroup"))
print([line for line in open("/proc/self/mountinfo") if " - cgroup" in line])
"""
    assert box.python(source).stdout.splitlines() == ["EPERM EPERM", "ENOENT", "[]"]


@pytest.mark.parametrize("flags", [0x0400000, 0x0100000, 0x0200000, 0x10400000, 1 << 40 | 0x0400000])
def test_protections_of_memory_stay_on(box: Box, flags: int) -> None:
    """personality: READ_IMPLIES_EXEC, MMAP_PAGE_ZERO and their like are refused; what debuggers need is not."""
    source = "import sys; from kernel import call; print(call('personality', int(sys.argv[1])), call('personality', 0xffffffff))"
    assert box.python(source, str(flags)).stdout == "EPERM 0\n"
    assert box.python("from kernel import call; print(call('personality', 0x0040000))").stdout == "0\n"


#: mov eax, 20 (getpid of i386); int 0x80; ret -- sysenter has no way back to a 64-bit program.
INT_80 = "b814000000cd80c3"


@pytest.fixture
def x86_64(box: Box) -> None:
    """For machine code."""
    if box.run(["uname", "-m"]).stdout != "x86_64\n":
        missing("x86-64 processor")


def test_no_32_bit_back_door(box: Box, x86_64: None) -> None:
    """The other tables of numbers that the processor offers, i386's and x32's, answer ENOSYS."""
    source = """
import ctypes, mmap, sys
from kernel import call
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex(sys.argv[1]))
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
print({call(0x40000000 + number) for number in range(600)})
"""
    assert box.python(source, INT_80).check().stdout == "-38\n{'ENOSYS'}\n"


def test_a_file_can_not_be_had_by_its_number(box: Box) -> None:
    """Shocker: handles are given out, and none is taken, whatever inode it names."""
    source = """
import ctypes, os, struct
from kernel import call
handle, mount = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136), ctypes.c_int()
print(call("name_to_handle_at", -100, b"/usr", handle, ctypes.byref(mount), 0))
root = os.open("/usr", os.O_RDONLY)
print({call("open_by_handle_at", root, handle, 0)})
handles = [struct.pack("IiII", 8, 1, inode, 0) for inode in range(1, 4096)]
print({call("open_by_handle_at", root, one, 0) for one in handles})
"""
    given, own, guessed = box.python(source).check().stdout.splitlines()
    assert given in ("0", "EOPNOTSUPP")
    assert (own, guessed) == ("{'EPERM'}", "{'EPERM'}")


def test_programs_can_still_be_stricter(box: Box) -> None:
    """A program may put a filter and Landlock rules on itself, as browsers and package managers do; it can't undo ours."""
    source = """
import ctypes, struct
from kernel import call, libc
allow_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
program = Program(1, ctypes.addressof(allow_all))
print(libc.prctl(22, 2, ctypes.byref(program), 0, 0))
print(call("mount", b"none", b"/tmp", b"tmpfs", 0, 0), call("keyctl", 0, -3, 1), call("clone3", b"", 0))
"""
    assert box.python(source).check().stdout.splitlines() == ["0", "EPERM EPERM ENOSYS"]
