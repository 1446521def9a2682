"""/proc tells of the machine and can set the machine: what is there of it, inside, can be read without harm, and not written."""

from collections.abc import Callable

import pytest
from support.subjects import Box

#: Every file below /proc that says it can be written, tried with an open for writing; nothing is written.
WRITABLE = """
import os
from kernel import attempt
own = str(os.getpid())
opened, tried = [], 0
for top, directories, files in os.walk("/proc"):
    if top == "/proc":
        directories[:] = [name for name in directories if not name.isdigit() or name in ("1", own)] + ["self", "thread-self"]
    directories[:] = [name for name in directories if name not in ("fd", "task", "map_files")]  # one's own open files
    for name in files:
        path = os.path.join(top, name)
        tried += 1
        if attempt(os.open, path, os.O_WRONLY | os.O_NONBLOCK).isdigit():
            opened.append(path)
print(tried)
for path in opened:
    print(path)
"""


@pytest.mark.parametrize("user", [0, 1000])
def test_nothing_of_it_can_be_opened_for_writing(open_box: Callable[..., Box], user: int) -> None:
    """No setting of the kernel, of the network or of ipc, no trigger, and nothing of PID 1 or of oneself. What is covered
    by /dev/null swallows what is written."""
    tried, *opened = open_box(user=user).python(WRITABLE).check().stdout.splitlines()
    assert int(tried) > 500
    covered = {"keys", "key-users", "kmsg", "kcore", "timer_list", "interrupts", "softirqs", "sched_debug"}
    roots = {"kpagecount", "kpageflags", "kpagecgroup", "slabinfo", "vmallocinfo", "latency_stats", "timer_stats"}
    assert {path.removeprefix("/proc/") for path in opened} <= covered | roots


SETTINGS = [
    *("kernel/core_pattern", "kernel/modprobe", "kernel/hotplug", "kernel/sysrq", "kernel/hostname", "kernel/shmmax"),
    *("kernel/msgmax", "kernel/sem", "fs/mqueue/queues_max", "fs/binfmt_misc/register", "vm/drop_caches", "vm/overcommit_memory"),
    *("net/ipv4/ip_forward", "net/ipv4/ping_group_range", "net/core/somaxconn", "net/ipv4/ip_unprivileged_port_start"),
    *("user/max_user_namespaces", "user/max_net_namespaces", "kernel/ns_last_pid", "kernel/random/boot_id"),
]


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_as_they_were(box: Box, name: str) -> None:
    """The namespace's own ones, too: outside, root inside has the number of their owner."""
    source = """
import os, sys
from kernel import attempt
path = "/proc/sys/" + sys.argv[1]
print(attempt(os.open, path, os.O_WRONLY), attempt(os.open, path, os.O_RDWR), attempt(os.chmod, path, 0o666))
"""
    assert set(box.python(source, name).check().stdout.split()) <= {"EROFS", "ENOENT", "EACCES", "EPERM"}


@pytest.mark.parametrize("remount", ["mount -o remount,rw /proc", "mount -t proc proc /mnt", "umount /proc", "umount /proc/keys"])
def test_it_stays_as_it_is(box: Box, remount: str) -> None:
    """It can be neither remounted nor mounted elsewhere nor uncovered."""
    before = box.read("/proc/self/mountinfo")
    assert not box.sh(remount).ok
    assert box.read("/proc/self/mountinfo") == before


@pytest.mark.parametrize(
    "name",
    [
        *("kcore", "keys", "key-users", "kmsg", "timer_list", "timer_stats", "sched_debug", "latency_stats", "interrupts"),
        *("softirqs", "slabinfo", "vmallocinfo", "kpagecount", "kpageflags", "kpagecgroup", "sysrq-trigger"),
        *("acpi", "scsi", "asound", "bus", "acpi/wakeup", "scsi/scsi", "bus/pci/devices", "bus/input/devices"),
    ],
)
def test_what_is_hidden_says_nothing(box: Box, name: str) -> None:
    """Keys of the user, kernel memory, interrupts that time other people's typing: empty, closed or not there."""
    source = """
import os, sys
from kernel import attempt
path = "/proc/" + sys.argv[1]
print(attempt(os.listdir, path) if os.path.isdir(path) else attempt(lambda: open(path, "rb").read(100)))
"""
    assert box.python(source, name).check().stdout.strip() in ("[]", "b''", "EACCES", "EPERM", "ENOENT")


@pytest.mark.parametrize("path", ["/sys", "/sys/firmware", "/sys/kernel", "/sys/fs/cgroup", "/sys/class/powercap", "/sys/module"])
def test_there_is_no_sys(box: Box, path: str) -> None:
    """Neither power meters (CVE-2020-8694) nor firmware nor cgroups: an empty directory at most."""
    assert box.python("import os, sys; print(os.path.isdir(sys.argv[1]) and os.listdir(sys.argv[1]))", path).stdout in (
        "False\n",
        "[]\n",
    )


def test_no_address_of_the_kernel(box: Box) -> None:
    """kallsyms, modules, iomem and the stacks of one's own processes: zeros, empty or closed."""
    source = r"""
import re
for name in ("kallsyms", "modules", "iomem", "ioports", "self/stack", "self/wchan", "net/unix", "net/tcp", "net/netlink"):
    try:
        text = open("/proc/" + name).read()
    except OSError:
        continue
    found = [word for word in re.findall(r"\b[0-9a-f]{16}\b", text) if int(word, 16) >= 1 << 47]
    if found:
        print(name, found[:3])
"""
    assert box.python(source).check().stdout == ""
