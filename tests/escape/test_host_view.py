"""What the host has and a sandbox must not see: processes, services, secrets of its environment, memory it shares."""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fresh import python
from support.subjects import Box

from .conftest import KERNEL


@pytest.fixture
def bystander(marker: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user, on the host, with a secret in its environment and memory."""
    with subprocess.Popen(["sleep", marker], env={"SECRET": "bystander-5c1e"}) as process:
        yield process
        process.kill()


def test_processes_of_the_host_are_out_of_reach(box: Box, bystander: subprocess.Popen[bytes], marker: str) -> None:
    """By kill(-1), by their numbers on the host, by pidfd, by ptrace, by /proc: not there."""
    source = """
import os, signal, sys
from kernel import attempt, call
for pid in map(int, sys.argv[1:]):
    print(attempt(os.kill, pid, 0), attempt(os.kill, pid, 9), attempt(os.killpg, pid, 9), attempt(os.pidfd_open, pid),
          call("ptrace", 16, pid, 0, 0), attempt(os.listdir, f"/proc/{pid}"), attempt(os.sched_getaffinity, pid),
          call("prlimit64", pid, 7, 0, b"\\0" * 16), attempt(os.getpgid, pid))
for number in range(1, 65):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        if number not in (32, 33):  # libc's own
            signal.signal(number, signal.SIG_IGN)
            os.kill(-1, number)
os.kill(-1, signal.SIGKILL)
"""
    pids = [bystander.pid, os.getpid(), os.getppid()]
    pids = [pid for pid in pids if pid > 1000]
    answers = set(box.python(source, *map(str, pids)).stdout.split())
    assert answers == {"ESRCH", "ENOENT"}
    assert bystander.poll() is None
    found = box.sh("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/comm 2>/dev/null | tr '\\0' '\\n'").stdout
    assert marker not in found and "bystander" not in found


#: What finds the services of a user's session and of a cluster. munge's key to the whole cluster is a socket.
TELLTALES = {
    "SSH_AUTH_SOCK": "{}/ssh/agent.1",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path={}/bus",
    "XDG_RUNTIME_DIR": "{}",
    "GPG_AGENT_INFO": "{}/S.gpg-agent",
    "KRB5CCNAME": "FILE:{}/krb5cc",
    "DOCKER_HOST": "unix://{}/docker.sock",
    "SLURM_JOB_ID": "4711",
    "SLURM_CONF": "{}/slurm.conf",
    "SLURM_STEP_NODELIST": "node[1-3]",
    "MUNGE_SOCKET": "{}/munge.socket.2",
    "AWS_SECRET_ACCESS_KEY": "value-5c1e",
    "HF_TOKEN": "value-5c1e",
    "HTTPS_PROXY": "http://user:value-5c1e@proxy",
    "LD_PRELOAD": "",
    "PYTHONPATH": "/value-5c1e",
}


#: Looks for the sockets by their paths on the host, and for their like anywhere.
LOOK = """
import os, socket, sys
from kernel import attempt
for path in sys.argv[1:]:
    print(attempt(socket.socket(socket.AF_UNIX).connect, path))
for top, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(top, name) not in ("/proc", "/usr")]
    for name in files:
        if name in ("munge.socket.2", "krb5cc", "agent.1", "bus", "docker.sock"):
            print("FOUND", os.path.join(top, name))
"""


def test_agents_and_batch_systems_are_invisible(tmp_path: Path, working_host: None) -> None:
    """Look-alikes of ssh-agent, D-Bus, gpg, munge and Docker run in every place that a user can put them in."""
    runtime = tmp_path / "run"
    own = [runtime / name for name in ("ssh/agent.1", "bus", "S.gpg-agent", "docker.sock")]
    bases = [base for base in ("/tmp", "/var/tmp", "/dev/shm", "/run", f"/run/user/{os.getuid()}") if os.access(base, os.W_OK)]
    places = own + [Path(base, f"lisrt-escape-{os.getpid()}", "munge.socket.2") for base in bases]
    with contextlib.ExitStack() as listeners:
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            listeners.callback(shutil.rmtree, place.parent, ignore_errors=True)
            listener = listeners.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(place))
            listener.listen()
        (runtime / "krb5cc").write_text("value-5c1e")
        source = f"""
            from lisrt import Sandbox
            with Sandbox() as box:
                box.write("kernel.py", {KERNEL!r})
                print(box.sh("env | sort").check().stdout)
                print(box.run(["python3", "-c", {LOOK!r}, *{[str(place) for place in places]!r}]).check().stdout)
        """
        said = python(source, cwd=tmp_path, env={name: value.format(runtime) for name, value in TELLTALES.items()}).stdout
    assert said.count("ENOENT") == len(places)
    for word in ("FOUND", "5c1e", "SLURM", "4711", str(runtime), "SSH_AUTH", "DBUS", "XDG_RUNTIME", "PROXY", "AWS"):
        assert word not in said, said


def test_servers_of_the_host_are_out_of_reach(box: Box, marker: str) -> None:
    """TCP and UDP on loopback and on the host's addresses, and abstract sockets, which have no file that could be hidden."""
    addresses = {"127.0.0.1", "::1", "0.0.0.0"}
    with socket.create_server(("", 0)) as tcp, socket.socket(socket.AF_UNIX) as stream, socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM
    ) as datagram:
        stream.bind("\0stream" + marker)
        stream.listen()
        datagram.bind("\0datagram" + marker)
        datagram.setblocking(False)
        source = f"""
import os, socket
from kernel import attempt
for address in {sorted(addresses)!r}:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    print(attempt(socket.socket(family).connect, (address, {tcp.getsockname()[1]})))
print(attempt(socket.socket(socket.AF_UNIX).connect, "\\0stream{marker}"))
print(attempt(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto, b"x", "\\0datagram{marker}"))
print("{marker}" in open("/proc/net/unix").read())
"""
        answers = box.python(source).check().stdout.split()
        assert answers[-1] == "False"
        assert set(answers[:-1]) <= {"ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH"}
        with pytest.raises(BlockingIOError):
            datagram.recv(1)


def test_memory_and_queues_by_name_are_not_shared(box: Box) -> None:
    """SysV segments, semaphores and message queues, POSIX queues and /dev/shm: the sandbox's are its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    key = 0x5C1E0000 | os.getpid() & 0xFFFF
    name = f"/lisrt-{os.getpid()}"
    segment, semaphores, queue = (libc.shmget(key, 4096, 0o1600), libc.semget(key, 1, 0o1600), libc.msgget(key, 0o1600))
    assert min(segment, semaphores, queue) >= 0, os.strerror(ctypes.get_errno())
    posix = libc.mq_open(name.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    shm = Path("/dev/shm") / name[1:]
    shm.write_text("of the host")
    try:
        source = f"""
import ctypes, os
from kernel import libc, errno
print([libc.shmget({key}, 0, 0), libc.semget({key}, 0, 0), libc.msgget({key}, 0), libc.mq_open(b"{name}", 0)])
print(os.path.exists("/dev/shm{name}"), open("/proc/sysvipc/shm").read().count("\\n"))
libc.shmget({key}, 8192, 0o1600), libc.msgget({key}, 0o1600)
fd = libc.mq_open(b"{name}", os.O_CREAT | os.O_RDWR, 0o600, None)
open("/dev/shm{name}", "w").write("of the sandbox")
print(fd >= 0)
"""
        assert box.python(source).check().stdout.splitlines() == ["[-1, -1, -1, -1]", "False 1", "True"]
        assert shm.read_text() == "of the host"
        assert libc.shmget(key, 4096, 0) == segment, "and it is no larger"
    finally:
        libc.shmctl(segment, 0, None), libc.semctl(semaphores, 0, 0), libc.msgctl(queue, 0, None)
        if posix >= 0:
            libc.mq_unlink(name.encode())
        shm.unlink()


HOST_KEY = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
for ring in (-3, -4, -5):  # session, user, user session
    libc.syscall(add_key, b"user", b"lisrt-escape-key", b"value-5c1e", 10, ring)
from lisrt import Sandbox
with Sandbox() as box:
    box.write("kernel.py", KERNEL)
    print(box.run(["python3", "-c", '''
from kernel import call
print(call("keyctl", 0, -3, 1), call("keyctl", 0, -4, 0), call("request_key", b"user", b"lisrt-escape-key", 0, -3),
      call("keyctl", 10, -4, b"user", b"lisrt-escape-key"), {call("keyctl", 11, serial, 0, 0) for serial in range(1, 300)})
print(open("/proc/keys").read(), open("/proc/key-users").read())
''']).check().stdout)
for ring in (-3, -4, -5):
    libc.syscall(keyctl, 3, libc.syscall(keyctl, 10, ring, b"user", b"lisrt-escape-key", 0))
"""


def test_the_users_keys_are_out_of_reach(tmp_path: Path, working_host: None) -> None:
    """A key in each keyring of the user can be neither found, read nor listed."""
    said = python(f"KERNEL = {KERNEL!r}\n{HOST_KEY}", cwd=tmp_path).stdout
    assert said.split() == ["EPERM"] * 4 + ["{'EPERM'}"]


def test_sys_and_cgroups_are_not_there(box: Box) -> None:
    """Nor anything in the places where a host mounts media and its users' file systems."""
    assert box.sh("ls -A /sys /mnt /media | grep -v -e : -e '^$'").stdout == ""


def test_the_hosts_name_logins_and_log_are_not_told(box: Box) -> None:
    """uname, /etc and /proc have the sandbox's name; there are no records of who logs in, and no kernel log."""
    name = socket.gethostname()
    assert box.run(["uname", "-n"]).stdout == "sandbox\n" != f"{name}\n"
    told = box.sh("cat /etc/hostname /proc/sys/kernel/hostname /etc/hosts 2>/dev/null").stdout.split()
    assert name not in told
    assert box.sh("cat /run/utmp /var/run/utmp /var/log/wtmp /var/log/lastlog 2>/dev/null").stdout_bytes == b""
    assert not box.run(["dmesg"]).ok
