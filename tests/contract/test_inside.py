"""The view from inside: who one is, what one sees, what one may not. Looked at by programs that run there.

What breaks out of sandboxes, call by call, is tried in escape/.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.features import missing
from support.fresh import python
from support.procs import assert_lives, init_of
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import LisrtError, Mount


def status(box: Box) -> dict[str, str]:
    """/proc/self/status of a command, by field."""
    lines = box.run(["cat", "/proc/self/status"]).check().stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def listing(box: Box, path: str) -> set[str]:
    """The names in a directory; none where it isn't there or may not be read."""
    return set(box.python("import os, sys\nfor name in os.listdir(sys.argv[1]): print(name)", path).stdout.splitlines())


# Who one is


def test_root_in_name(box: Box) -> None:
    """Commands run as uid 0 and gid 0, called root, with a home and a name for the login."""
    assert box.sh("id -u; id -g; id -un; whoami").stdout == "0\n0\nroot\nroot\n"
    assert box.sh("echo ~; cd ~ && touch writable && echo home").stdout == "/root\nhome\n"


def test_no_capability(box: Box) -> None:
    """Every capability set is empty, the bounding set included, and no program can gain any."""
    found = status(box)
    assert {name: int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert found["NoNewPrivs"] == "1"


def is_filtered(box: Box) -> bool:
    """Whether this version promises a filter of system calls."""
    return "not filtered" not in box.guarantees.get("system calls", "")


def test_the_filter_is_as_promised(box: Box) -> None:
    """System calls pass a filter exactly when the guarantees say so."""
    assert (status(box)["Seccomp"] == "2") == is_filtered(box)


def test_root_emulation_or_honest_refusal(box: Box) -> None:
    """A file belongs to root; giving it away succeeds in name or is refused, and reading it goes on."""
    assert box.sh("echo x > f; chown daemon f; cat f; stat -c %u f").stdout == "x\n0\n"


def test_signals_are_as_a_program_expects(box: Box) -> None:
    """Nothing is blocked and nothing ignored, though Python itself ignores SIGPIPE."""
    found = status(box)
    assert (int(found["SigBlk"], 16), int(found["SigIgn"], 16), int(found["SigCgt"], 16)) == (0, 0, 0)
    assert (int(found["SigPnd"], 16), int(found["ShdPnd"], 16)) == (0, 0)


def test_sigpipe_ends_a_writer(box: Box) -> None:
    """A pipeline whose reader goes ends quietly."""
    with not_blocked():
        result = box.sh("yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert (result.stdout, result.stderr) == ("y\n141\n", "")


def test_the_umask_is_022(box: Box) -> None:
    """Files are made 644 and directories 755."""
    assert status(box)["Umask"] == "0022"
    assert box.sh("touch f; mkdir d; stat -c %a f d").stdout == "644\n755\n"


def test_a_session_of_its_own_without_a_terminal(box: Box) -> None:
    """A command leads its own session, has no controlling terminal and can't get the host's."""
    source = """
import os
assert os.getsid(0) == os.getpid() == os.getpgid(0)
print(open("/proc/self/stat").read().rpartition(")")[2].split()[4])
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError:
    print("none")
"""
    assert box.python(source).check().stdout == "0\nnone\n"


def test_only_three_descriptors(box: Box) -> None:
    """A command has 0, 1 and 2 open and nothing else of ours."""
    source = """
import os
for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        print(fd, os.readlink(f"/proc/self/fd/{fd}").partition(":")[0])
    except FileNotFoundError:
        pass
"""
    fds = dict(line.split(" ", 1) for line in box.python(source).check().stdout.splitlines())
    assert set(fds) == {"0", "1", "2"}
    assert set(fds.values()) <= {"pipe", "/dev/null", "/memfd"}, "no file and no socket of the host"


def test_a_background_child_has_only_three_descriptors(box: Box) -> None:
    """The same holds while other commands run: none sees another's pipes."""
    pending = [box.start("run", ["sleep", "1000"]) for _ in range(5)]
    source = "import os\nprint([fd for fd in range(3, 1024) if os.path.lexists(f'/proc/self/fd/{fd}')])"
    assert box.python(source).stdout == "[]\n"
    box.close()
    assert all(call.exception(timeout=20) for call in pending)


def test_limits_are_usable(box: Box) -> None:
    """No core dumps; enough descriptors and processes for ordinary programs."""
    core, files = box.sh("ulimit -c; ulimit -n").stdout.split()
    assert core == "0"
    assert files == "unlimited" or int(files) >= 1024


# The host's environment


def test_no_host_variable_leaks(tmp_path: Path, working_host: None) -> None:
    """Of the host program's environment nothing is in the commands' environment, nor anywhere in /proc inside."""
    source = """
        import os
        from lisrt import Sandbox

        os.environ["LATE_SECRET"] = "value-73f1-late"
        with Sandbox(env={"MINE": "1"}) as box:
            for line in box.run(["env", "-0"]).stdout.split("\\0"):
                if line:
                    print(line.partition("=")[0])
            found = box.sh("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\\\0' '\\\\n'").stdout
            assert "value-73f1" not in found, found
            print(box.sh("echo $HOME $PATH").stdout, end="")
    """
    names = ("EARLY_SECRET", "SLURM_JOB_ID", "HTTPS_PROXY", "SSH_AUTH_SOCK", "LD_LIBRARY_PATH", "BASH_ENV", "PYTHONSTARTUP")
    extra = dict.fromkeys(names, "/value-73f1")
    *found, last = python(source, cwd=tmp_path, env=extra).stdout.splitlines()
    usual = set("PATH HOME LANG LC_ALL USER LOGNAME SHELL TERM TMPDIR HOSTNAME PWD SHLVL TZ MINE".split())
    assert set(found) <= usual
    assert {"PATH", "HOME", "LANG", "MINE"} <= set(found)
    home, path = last.split()
    assert home == "/root"
    assert str(Path.home()) not in path
    assert {"/usr/bin", "/bin"} & set(path.split(":"))


# Processes


def test_pid_1_can_not_be_killed(box: Box) -> None:
    """No signal from inside ends or stops PID 1."""
    for number in ("KILL", "TERM", "STOP", "SEGV", "INT", "HUP", "ABRT", "USR1", "RTMIN"):
        box.sh(f"kill -{number} 1")
    assert box.alive
    assert box.run(["echo", "alive"]).stdout == "alive\n"


def test_pid_1_can_not_be_looked_into(box: Box) -> None:
    """PID 1's memory, environment, descriptors and root are closed to those inside."""
    readable = """
for name in mem environ maps smaps pagemap auxv syscall stack; do
    if head -c 1 /proc/1/$name >/dev/null 2>&1; then echo $name; fi
done
for name in fd fdinfo map_files task/1/fd; do
    if ls /proc/1/$name >/dev/null 2>&1; then echo $name; fi
done
for name in exe cwd root fd/0 fd/3 ns/user ns/mnt; do
    if readlink /proc/1/$name >/dev/null 2>&1; then echo $name; fi
done
if echo x > /proc/1/mem; then echo write mem; fi 2>/dev/null
if echo 1000 > /proc/1/oom_score_adj; then echo write oom_score_adj; fi 2>/dev/null
"""
    assert box.sh(readable).stdout == ""


def test_only_own_processes_are_visible(box: Box, marker: str) -> None:
    """/proc has PID 1 and the commands of this sandbox; the numbers are small and the host's are not there."""
    box.sh(f"sleep {marker} &").check()
    seen = box.sh("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done").stdout
    assert marker in seen
    inside = box.sh("cd /proc; echo [0-9]*").stdout.split()
    assert "1" in inside
    assert len(inside) <= 5
    assert max(map(int, inside)) < 1000
    assert str(os.getpid()) not in inside or os.getpid() < 1000


def test_the_hosts_processes_can_not_be_signalled(box: Box) -> None:
    """The test's own pid means nothing inside."""
    source = f"import os\ntry: os.kill({os.getpid()}, 0)\nexcept ProcessLookupError: print('none')"
    assert box.python(source).stdout == "none\n"


def test_own_namespaces(box: Box, marker: str) -> None:
    """User, mount, pid, ipc, uts and net namespaces are others than the host's."""
    box.sh(f"sleep {marker} &").check()
    pid = assert_lives(marker)
    for kind in ("user", "mnt", "pid", "ipc", "uts", "net"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert init_of(pid) != 1


def test_neighbours_can_be_debugged(box: Box, marker: str) -> None:
    """Commands of one sandbox see each other fully: a debugger or strace of an agent may work on its own processes."""
    box.sh(f"sleep {marker} &").check()
    assert_lives(marker)
    assert box.sh("for p in /proc/[0-9]*; do readlink $p/exe; done").stdout.count("sleep") == 1


# Privileges that are not there


@pytest.mark.parametrize(
    "command",
    [
        "unshare -Ur true",
        "unshare -U true",
        "unshare -m true",
        "unshare -n true",
        "unshare -p true",
        "mount -t tmpfs none /tmp",
        "mount -t proc none /tmp",
        "mount --bind /usr /tmp",
        "mount -o remount,rw /proc",
        "umount /proc",
        "umount -l /",
        "nsenter -t 1 -m true",
        "chroot / true",
        "swapoff -a && swapon /dev/zero",
        "hostname changed",
        "ip link set lo down",
        "sysctl -w kernel.core_pattern=x",
        "date -s 2001-01-01",
    ],
)
def test_powers_are_refused(box: Box, command: str) -> None:
    """New namespaces, mounts and settings of the machine are refused, and the refusal is an ordinary failure."""
    program = command.split()[0]
    if not box.sh(f"command -v {program}").ok:
        missing(program)
    result = box.sh(command)
    assert not result.ok
    assert box.run(["echo", "alive"]).stdout == "alive\n"


# The network


def test_only_loopback(box: Box) -> None:
    """There is `lo` and nothing else."""
    assert box.python("import socket; print([name for _, name in socket.if_nameindex()])").stdout == "['lo']\n"


@pytest.mark.parametrize(("family", "address"), [("AF_INET", "127.0.0.1"), ("AF_INET", "127.1.2.3"), ("AF_UNIX", "\\0abstract")])
def test_loopback_works(box: Box, family: str, address: str) -> None:
    """Programs of one sandbox talk to each other over 127.0.0.1 and local sockets."""
    source = f"""
import socket
listener = socket.socket(socket.{family})
listener.bind(("{address}", 0) if "{family}" == "AF_INET" else "{address}")
listener.listen()
client = socket.socket(socket.{family})
client.connect(listener.getsockname())
peer, _ = listener.accept()
client.sendall(b"through lo")
print(peer.recv(100).decode())
"""
    assert box.python(source).check().stdout == "through lo\n"


def test_the_world_is_unreachable_at_once(box: Box) -> None:
    """Connecting to the outside fails at once, it doesn't wait."""
    source = """
import socket
for address in ("192.0.2.1", "10.0.0.1", "169.254.169.254", "8.8.8.8"):
    try:
        socket.create_connection((address, 80), timeout=100)
    except OSError as error:
        print(type(error).__name__)
try:
    socket.getaddrinfo("example.org", 80)
except socket.gaierror:
    print("no name")
"""
    with not_blocked():
        assert box.python(source).stdout == "OSError\n" * 4 + "no name\n"


def test_the_hosts_servers_are_unreachable(box: Box, marker: str) -> None:
    """Neither the host's 127.0.0.1 nor its abstract sockets can be reached."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind("\0host" + marker)
        local.listen()
        source = f"""
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", {tcp.getsockname()[1]})), (socket.AF_UNIX, "\\0host{marker}")):
    try:
        socket.socket(family).connect(address)
        print("connected")
    except ConnectionRefusedError:
        print("refused")
"""
        assert box.python(source).check().stdout == "refused\n" * 2


def test_a_shared_network_is_asked_for_by_name(open_box: Callable[..., Box]) -> None:
    """network="host" is no isolation, and the guarantees say so; where it isn't offered it is refused."""
    try:
        box = open_box(network="host")
    except (ValueError, LisrtError):
        return
    assert box.guarantees["network"] != open_box().guarantees["network"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]})); print('connected')"
        assert box.python(source).stdout == "connected\n"
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        if os.path.exists(name):
            assert box.read(name) == Path(name).read_bytes() != open_box().read(name)


def test_a_shared_network_brings_certificates_and_proxies(
    open_box: Callable[..., Box], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those of the host, for whatever program looks for them; with an own network, and over what the caller says, none."""
    (tmp_path / "own.pem").write_text("certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    look = "cat $SSL_CERT_FILE $REQUESTS_CA_BUNDLE; echo $https_proxy"
    assert open_box(network="host").sh(look).stdout == "certificates" * 2 + "http://proxy.example:3128\n"
    mine = open_box(network="host", env={"SSL_CERT_FILE": "/dev/null", "https_proxy": ""})
    assert mine.sh(look).stdout == "certificates\n"
    assert open_box().sh("env").stdout.count("proxy") == 0


def test_a_shared_network_leaves_etc_to_the_user(open_box: Callable[..., Box], tmp_path: Path) -> None:
    """Whoever mounts these files, or all of /etc, gets their own."""
    (tmp_path / "hosts").write_text("127.0.0.9 mine\n")
    for mount in (Mount(tmp_path / "hosts", "/etc/hosts"), Mount(tmp_path, "/etc")):
        assert open_box(network="host", mounts=[mount]).read("/etc/hosts") == b"127.0.0.9 mine\n"


# The files

TOP_LEVEL = set(
    "bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys testbed tmp usr var".split()
)


def test_the_top_level_is_an_allow_list(box: Box) -> None:
    """Nothing stands at the top that isn't known by name."""
    found = listing(box, "/")
    assert found <= TOP_LEVEL
    assert {"usr", "etc", "tmp", "testbed", "proc", "dev", "root", "bin", "lib"} <= found


@pytest.mark.parametrize(
    "path", ["/home", "/root", "/tmp", "/testbed", "/run", "/srv", "/mnt", "/media", "/boot", "/opt", "/sys"]
)
def test_places_for_data_are_empty(box: Box, path: str) -> None:
    """Where the host has people's files, mounts and sockets, the sandbox has nothing."""
    assert listing(box, path) <= {"/run": {"lock"}, "/home": {"user"}}.get(path, set())


def test_var_has_no_data_of_the_host(box: Box) -> None:
    """/var is a skeleton without files."""
    assert box.sh("find /var -type f -o -type s -o -type p").stdout == ""


def test_etc_has_no_secrets_of_the_host(box: Box) -> None:
    """No keys, no shadow, no people: /etc is what programs need and no more."""
    assert box.sh("cat /etc/shadow /etc/gshadow /etc/ssh/ssh_host* /etc/machine-id /etc/hostname 2>/dev/null").stdout.strip() in (
        "",
        box.run(["uname", "-n"]).stdout.strip(),
    )
    people = [line for line in Path("/etc/passwd").read_text().splitlines() if 1000 <= int(line.split(":")[2]) < 60000]
    inside = box.read_text("/etc/passwd")
    assert not [line for line in people if line in inside]
    assert box.sh("find /etc ! -type l ! -readable 2>/dev/null").stdout == ""


def test_the_programs_of_the_host_are_there(box: Box) -> None:
    """/usr is the host's own: its interpreters and tools run, with their libraries."""
    assert set(os.listdir("/usr/bin")) == listing(box, "/usr/bin")
    assert (
        box.sh("python3 -c 'import ssl, sqlite3; print(6 * 7)' && ls / | sort | awk 'END { print 6 * 7 }'").stdout == "42\n42\n"
    )


def test_everything_can_be_written_and_nothing_reaches_the_host(box: Box) -> None:
    """The tree is the sandbox's to change; of /usr, what the host's permissions allow; the host never sees it."""
    box.sh("mkdir /new && echo x > /etc/new && echo x > /var/new && echo x > /opt/new && rm /etc/services").check()
    box.sh("echo x > /usr/bin/new; rm -rf /usr/share/common-licenses; echo x >> /usr/lib/os-release")
    for path in ("/new", "/etc/new", "/var/new", "/opt/new", "/usr/bin/new"):
        assert not os.path.lexists(path)
    assert os.path.exists("/etc/services")
    assert not Path("/usr/lib/os-release").read_text().endswith("x\n")


def test_tmp_is_for_everyone(box: Box) -> None:
    """/tmp, /dev/shm and /testbed can be written; /tmp is sticky."""
    assert box.sh("for d in /tmp /dev/shm /testbed /root; do touch $d/x || echo no $d; done; stat -c %a /tmp").stdout == "1777\n"


def test_dev_is_small(box: Box) -> None:
    """/dev has what programs expect, the devices work, and there is no disk and no kernel memory."""
    known = set("null zero full random urandom tty ptmx pts shm fd stdin stdout stderr console mqueue core lisrt-ca.pem".split())
    found = listing(box, "/dev")
    assert found <= known
    assert {"null", "zero", "full", "random", "urandom", "tty", "fd", "shm"} <= found
    script = """
        echo x > /dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 4 /dev/urandom | wc -c
        echo x > /dev/full || echo full; cat /dev/null; echo <(echo)
    """
    assert box.sh(script).stdout == " 00 00 00 00\n4\nfull\n/dev/fd/63\n"


def test_devices_can_not_be_made(box: Box) -> None:
    """Making a device node gives no device, whatever mknod says."""
    box.sh("mknod /tmp/disk b 254 0; mknod /tmp/mem c 1 1; mknod /tmp/null c 1 3")
    for name in ("disk", "mem", "null"):
        assert not box.sh(f"head -c 1 < /tmp/{name}").ok


def test_pseudo_terminals_work(box: Box) -> None:
    """A program can open a terminal of its own."""
    source = "import os, pty; m, s = pty.openpty(); os.write(s, b'x'); print(os.read(m, 1), os.ttyname(s)[:9])"
    assert box.python(source).stdout == "b'x' /dev/pts/\n"


@pytest.mark.parametrize(
    "path",
    [
        *(f"/proc/sys/kernel/{name}" for name in ("core_pattern", "hostname", "pid_max", "modprobe")),
        *(f"/proc/sys/{name}" for name in ("vm/drop_caches", "user/max_user_namespaces", "net/ipv4/ip_forward")),
        *(f"/proc/{name}" for name in ("sysrq-trigger", "mtrr", "acpi/wakeup", "irq/default_smp_affinity")),
        *(f"/proc/{name}" for name in ("self/uid_map", "1/uid_map", "1/setgroups", "sys/fs/binfmt_misc/register")),
    ],
)
def test_the_kernels_settings_are_read_only(box: Box, path: str) -> None:
    """Nothing of the kernel can be set through /proc."""
    source = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), b'1')"
    assert not box.python(source, path).ok


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/proc/vmallocinfo", "/proc/slabinfo"])
def test_the_kernels_secrets_are_closed(box: Box, path: str) -> None:
    """Kernel memory and log can't be read."""
    with not_blocked(5):
        assert not box.sh(f"head -c 1 {path}").ok


def test_the_kernels_addresses_are_hidden(box: Box) -> None:
    """Where the symbols are listed at all, their addresses are zeros."""
    assert box.sh("cut -d ' ' -f 1 /proc/kallsyms | sort -u | tr -d 0").stdout.strip() == ""


def test_proc_is_this_sandboxs(box: Box) -> None:
    """/proc is a fresh one of the pid namespace, and the old root is nowhere under the mounts."""
    targets = [line.split()[4] for line in box.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()]
    assert "/" in targets
    assert "/proc" in targets
    assert not [target for target in targets if target.startswith(("/oldroot", "/home", "/sys/fs", str(Path.home())))]


def test_the_way_up_ends_at_the_root(box: Box) -> None:
    """`..` of the root is the root, also from a directory opened before and for a process with an old cwd."""
    script = "cd /; ls -id . .. ../../.. | awk '{ print $1 }' | uniq | wc -l"
    assert box.sh(script).stdout == "1\n"


def test_another_sandboxs_root_is_out_of_reach(open_box: Callable[..., Box]) -> None:
    """The writable layers of sandboxes are nowhere to be found from inside another."""
    one, two = open_box(), open_box()
    one.write("/testbed/unique-name-9a41", "x")
    assert two.sh("find / -xdev -name unique-name-9a41 2>/dev/null").stdout == ""


def test_each_has_a_network_of_its_own(open_box: Callable[..., Box]) -> None:
    """Made one right after the other: the same port is free in each, and what listens in one is in no other."""
    serve = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 8000))
print(os.readlink("/proc/self/ns/net"), flush=True)
open("ready", "w").close()
sys.stdin.read() if os.fork() else None
listening.accept()
"""
    look = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 8000)))"
    boxes = [open_box() for _ in range(7)]
    names = []
    for one in boxes[1:]:
        one.sh(f"python3 -c '{serve}' > out 2>&1 < /dev/null & until [ -e ready ]; do sleep 0.02; done").check()
        names.append(one.read_text("out"))
        assert one.python(look).stdout == "0\n"
    assert len(set(names)) == 6 and all(name.startswith("net:") for name in names)
    assert boxes[0].python(look).stdout == "111\n"
