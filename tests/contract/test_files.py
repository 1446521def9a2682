"""Files by name: exact bytes, Python's own errors, links that lead nowhere but inside, nothing that blocks."""

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from support.subjects import Box
from support.waiting import not_blocked

MIB = 1 << 20
SECRET = "host secret 6d1f"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that no sandbox may read or change."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"a\r\nb\r\n", bytes(range(256)), b"\0" * 4097, b"no newline", os.urandom(MIB + 1)],
    ids=["empty", "1", "crlf", "all bytes", "zeros", "plain", "random"],
)
def test_bytes_come_back_exactly(box: Box, data: bytes) -> None:
    """What is written is what commands see and what is read, byte for byte."""
    box.write("/testbed/file", data)
    assert box.read("/testbed/file") == data
    assert box.run(["sha256sum", "file"]).stdout.split()[0] == hashlib.sha256(data).hexdigest()


def test_fifty_mebibytes(box: Box) -> None:
    """Big files are just files."""
    data = os.urandom(MIB) * 50
    with not_blocked(40):
        box.write("/testbed/big", data)
        assert box.read("/testbed/big") == data


def test_text_is_utf8(box: Box) -> None:
    """A str is written as UTF-8 with its line ends as they are."""
    box.write("/testbed/text", "é€\r\n\n")
    assert box.read("/testbed/text") == "é€\r\n\n".encode()
    assert box.read_text("/testbed/text") == "é€\r\n\n"


def test_read_text_replaces_bad_utf8_unless_strict(box: Box) -> None:
    """By default reading text never fails on its bytes; `errors` says otherwise."""
    box.write("/testbed/latin", b"caf\xe9")
    assert box.read_text("/testbed/latin") == "caf\ufffd"
    assert box.read_text("/testbed/latin", errors="ignore") == "caf"
    with pytest.raises(UnicodeDecodeError):
        box.read_text("/testbed/latin", errors="strict")


def test_commands_and_files_share_one_tree(box: Box) -> None:
    """What a command wrote can be read, and the other way round, at once."""
    box.sh("mkdir -p deep/er && printf made > deep/er/file").check()
    assert box.read("/testbed/deep/er/file") == b"made"
    box.write("/testbed/deep/er/file", "changed")
    assert box.run(["cat", "deep/er/file"]).stdout == "changed"


def test_parents_are_made(box: Box) -> None:
    """Missing directories on the way are made, as ordinary ones."""
    box.write("/testbed/a/b/c/file", "x")
    assert box.run(["stat", "-c", "%a %u %g", "a", "a/b", "a/b/c", "a/b/c/file"]).stdout == "755 0 0\n" * 3 + "644 0 0\n"


def test_relative_paths_start_at_the_workdir(box: Box) -> None:
    """A relative path means the workdir, for every verb."""
    box.write("sub/file", "x")
    assert box.read("/testbed/sub/file") == b"x"
    assert box.read("sub/../sub/./file") == b"x"
    assert box.read_text("sub/file") == "x"


def test_an_existing_file_is_replaced(box: Box) -> None:
    """Writing less than was there leaves no tail of the old."""
    box.write("/testbed/file", "a long first version")
    box.write("/testbed/file", "short")
    assert box.read("/testbed/file") == b"short"


def test_system_files_can_be_changed_inside_only(box: Box) -> None:
    """Files of the image are changed in this sandbox and nowhere else."""
    before = Path("/etc/services").read_bytes()
    box.write("/etc/services", "mine\n")
    assert box.run(["cat", "/etc/services"]).stdout == "mine\n"
    assert Path("/etc/services").read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o755, 0o600, 0o400, 0o777])
def test_mode_bits_are_exact(box: Box, mode: int) -> None:
    """The mode asked for is the mode made, whatever the umask."""
    box.write("/testbed/file", "#!/bin/sh\necho ran\n", mode=mode)
    assert box.run(["stat", "-c", "%a", "file"]).stdout == f"{mode:o}\n"
    if mode & 0o100:
        assert box.run(["/testbed/file"]).stdout == "ran\n"


def test_mode_bits_bind_reads_and_commands_alike(box: Box) -> None:
    """The file verbs may not read what a command inside may not."""
    box.sh("echo x > closed; chmod 000 closed").check()
    if box.run(["cat", "closed"]).ok:
        assert box.read("/testbed/closed") == b"x\n"
    else:
        with pytest.raises(PermissionError) as raised:
            box.read("/testbed/closed")
        assert raised.value.filename == "/testbed/closed"


def test_max_bytes_is_a_promise(box: Box) -> None:
    """A file as long as max_bytes is read; a longer one is OSError(EFBIG), however long it is."""
    box.write("/testbed/file", b"12345")
    assert box.read("/testbed/file", max_bytes=5) == b"12345"
    assert box.read_text("/testbed/file", max_bytes=5) == "12345"
    box.sh("truncate -s 1T sparse").check()
    for path, limit in (("/testbed/file", 4), ("/testbed/file", 0), ("/testbed/sparse", MIB)):
        with not_blocked(), pytest.raises(OSError) as raised:
            box.read(path, max_bytes=limit)
        assert raised.value.errno == errno.EFBIG
    with pytest.raises(OSError):
        box.read_text("/testbed/file", max_bytes=4)


@pytest.mark.parametrize("path", ["/testbed/missing", "missing", "/no/such/dir/file", "/testbed/dangling"])
def test_a_missing_file_is_named(box: Box, path: str) -> None:
    """Reading what isn't there is Python's FileNotFoundError with the path."""
    box.sh("ln -s nowhere dangling").check()
    for read in (box.read, box.read_text):
        with pytest.raises(FileNotFoundError) as raised:
            read(path)
        assert raised.value.filename in (path, f"/testbed/{path}")


@pytest.mark.parametrize("path", ["/testbed", "/", "dir", "/testbed/dir/"])
def test_a_directory_is_no_file(box: Box, path: str) -> None:
    """Reading or writing a directory is Python's IsADirectoryError with the path."""
    box.sh("mkdir dir").check()
    with pytest.raises(IsADirectoryError) as raised:
        box.read(path)
    assert os.path.normpath(raised.value.filename) in (os.path.normpath(path), f"/testbed/{path}")
    with pytest.raises(IsADirectoryError):
        box.write(path, "x")


def test_a_file_is_no_directory(box: Box) -> None:
    """A path that goes on below a file is Python's NotADirectoryError with the path."""
    box.write("/testbed/file", "x")
    with pytest.raises(NotADirectoryError) as raised:
        box.read("/testbed/file/below")
    assert raised.value.filename == "/testbed/file/below"
    with pytest.raises(NotADirectoryError):
        box.write("/testbed/file/below", "x")
    with pytest.raises(NotADirectoryError):
        box.write("/testbed/file/far/below", "x")
    assert box.read("/testbed/file") == b"x"


def test_what_may_not_be_written_is_a_permission_error(box: Box) -> None:
    """A file that the sandbox's root may not change either, refused with its path."""
    with pytest.raises(OSError) as raised:
        box.write("/proc/sys/kernel/core_pattern", "|/testbed/evil")
    assert isinstance(raised.value, PermissionError) or raised.value.errno == errno.EROFS


@pytest.mark.parametrize("mode", [-1, 0o4755, 2**32])
def test_an_impossible_mode_is_a_value_error(box: Box, mode: int) -> None:
    """Refused before anything is written; -1 was once an error of the struct module."""
    with pytest.raises(ValueError, match="mode"):
        box.write("/testbed/file", "x", mode=mode)
    with pytest.raises(FileNotFoundError):
        box.read("/testbed/file")


@pytest.mark.parametrize("path", ["a\0b", "/testbed/\0"])
def test_nul_in_a_path_is_a_value_error(box: Box, path: str) -> None:
    """No file has such a name."""
    with pytest.raises(ValueError):
        box.read(path)
    with pytest.raises(ValueError):
        box.write(path, "x")


@pytest.mark.parametrize("path", ["/testbed/" + "n" * 256, "/testbed/" + "long/" * 1000 + "x", "x" * 100_000])
def test_a_name_too_long_is_an_os_error(box: Box, path: str) -> None:
    """What Linux can't name is refused, and the sandbox goes on."""
    with pytest.raises(OSError):
        box.read(path)
    with pytest.raises(OSError):
        box.write(path, "x")
    assert box.run(["true"]).ok


@pytest.mark.parametrize(
    "name", ["new\nline", "blank s", "-rf", "caf\udce9", "\udcff\udcfe", "é", "'\"$x`", "n" * 255, "...", "tab\t"]
)
def test_names_may_be_anything(box: Box, name: str) -> None:
    """Any name that Linux allows works in every verb, UTF-8 or not."""
    box.write(f"/testbed/{name}", name.encode(errors="surrogateescape"))
    assert box.sh("find . -mindepth 1 -printf '%f'").stdout_bytes == os.fsencode(name)
    assert box.read(f"/testbed/{name}") == os.fsencode(name)
    assert box.run(["cat", f"/testbed/{name}"]).stdout_bytes == os.fsencode(name)


def test_symlinks_are_followed_inside(box: Box) -> None:
    """Links lead where they lead inside: relative, absolute, through directories, out of the top and back."""
    box.sh(
        """
        echo target > target; mkdir dir; echo below > dir/below
        ln -s target relative; ln -s /testbed/target absolute; ln -s dir directory
        ln -s ../../../../../testbed/target upwards; ln -s relative chain
        """
    ).check()
    for name in ("relative", "absolute", "upwards", "chain"):
        assert box.read(name) == b"target\n"
    assert box.read("directory/below") == b"below\n"
    box.write("directory/new", "new")
    assert box.read("dir/new") == b"new"


def test_no_link_leads_to_the_host(box: Box, secret: Path) -> None:
    """An absolute link, a climbing link, a link through /proc: none reaches a file of the host."""
    home = Path.home()
    script = f"""
        ln -s {secret} absolute; ln -s ../../../../../../../../..{secret} climbing
        ln -s /proc/1/root{secret} init; ln -s /proc/self/root{secret} self; ln -s {secret.parent} dir; ln -s {home} home
    """
    box.sh(script).check()
    paths = [str(secret), "absolute", "climbing", "init", "self", "dir/secret", f"/testbed/../../..{secret}"]
    paths += [f"/proc/{way}{secret}" for way in ("1/root", "self/root", "thread-self/root", "self/cwd/../..")]
    for path in paths:
        with not_blocked(), pytest.raises(OSError):
            box.read(path)
    for path in paths:
        try:
            box.write(path, "evil")
        except OSError:
            continue
        assert box.read(path) == b"evil", "written inside"
    box.sh("echo evil > home/evil; echo evil > dir/evil")
    assert secret.read_text() == SECRET
    assert sorted(os.listdir(secret.parent)) == ["secret"]
    assert not (home / "evil").exists()


def test_a_link_to_a_system_file_is_the_sandboxs_own(box: Box) -> None:
    """/etc/hostname through a link is what the sandbox has there, not what the host has."""
    box.sh("echo inside > /etc/hostname; ln -s /etc/hostname link; ln -s ../etc climbing").check()
    assert box.read("link") == b"inside\n"
    assert box.read("climbing/hostname") == b"inside\n"
    box.write("link", "changed\n")
    assert Path("/etc/hostname").read_bytes() != b"changed\n"


def test_a_link_loop_is_an_os_error(box: Box) -> None:
    """A loop of links is ELOOP, not a hang."""
    box.sh("ln -s b a; ln -s a b; ln -s . dot").check()
    with not_blocked(), pytest.raises(OSError) as raised:
        box.read("a")
    assert raised.value.errno == errno.ELOOP
    with not_blocked(), pytest.raises(OSError):
        box.read("/".join(["dot"] * 100) + "/a")


SPECIAL = """
mkfifo fifo; ln -s fifo to-fifo; ln -s /dev/zero to-device
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
"""


@pytest.mark.parametrize(
    "path",
    ["fifo", "to-fifo", "socket", "to-device", *(f"/dev/{name}" for name in ("zero", "full", "null", "tty", "ptmx", "stdin"))],
)
def test_special_files_are_refused_at_once(box: Box, path: str) -> None:
    """A FIFO, a socket, a device: an OSError at once, neither a wait nor bytes without end."""
    box.sh(SPECIAL).check()
    with not_blocked(5), pytest.raises(OSError):
        box.read(path)
    with not_blocked(5), pytest.raises(OSError):
        box.write(path, "x")
    with not_blocked(5), pytest.raises(OSError):
        box.read(path, max_bytes=10)


def test_a_fifo_with_a_writer_is_refused_too(box: Box) -> None:
    """A FIFO is refused also where opening it would not block, and its writer isn't fed or drained."""
    box.sh("mkfifo fifo; (sleep 1000 > fifo &) ; (sleep 1000 <> fifo >/dev/null 2>&1 &)").check()
    with not_blocked(5), pytest.raises(OSError):
        box.read("fifo")
    with not_blocked(5), pytest.raises(OSError):
        box.write("fifo", "x")


@pytest.mark.parametrize(
    "path",
    [
        *(f"/proc/{who}/{what}" for who in ("self", "1") for what in ("mem", "environ", "maps", "auxv", "fd/0", "fd/3")),
        *(f"/proc/{who}/{what}" for who in ("self", "1") for what in ("exe", "root/etc/shadow", "cwd", "stack", "syscall")),
        "/proc/thread-self/mem",
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/kallsyms",
        "/proc/keys",
        "/proc/sysrq-trigger",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/fd/3",
    ],
)
def test_proc_neither_blocks_nor_leaks(box: Box, path: str) -> None:
    """Reading /proc's special files ends at once, with an error or with what is no one's secret."""
    with not_blocked(5):
        try:
            data = box.read(path, max_bytes=MIB)
        except OSError:
            return
    assert SECRET.encode() not in data
    for value in (os.fsencode(Path.home()), *(os.environb.get(name, b"") for name in (b"HOME", b"PYTEST_CURRENT_TEST"))):
        assert len(value) < 3 or value not in data
    assert not data.startswith(b"\x7fELF"), "a program of the host"


def test_a_swapped_path_never_leads_out(box: Box, secret: Path) -> None:
    """While a program swaps a file for links and FIFOs, reading it gives the file or an error, never a wait or the host."""
    swapper = f"""
import os
os.mkdir("here")
open("here/file", "w").write("inside")
os.mkfifo("fifo")
os.symlink("{secret}", "out")
os.symlink("/proc/1/root/{secret}", "init")
print("swapping", flush=True)
while True:
    for other in ("out", "fifo", "init"):
        try:
            os.link(other, "new", follow_symlinks=False)
            os.rename("new", "here/file")
            open("plain", "w").write("inside")
            os.rename("plain", "here/file")
        except FileExistsError:
            os.unlink("new")
"""
    pending = box.start("run", ["python3", "-c", swapper], timeout=100)
    seen = set()
    with not_blocked(40):
        for _ in range(300):
            try:
                seen.add(box.read("here/file"))
            except OSError:
                seen.add(b"refused")
    assert seen <= {b"inside", b"", b"refused"}
    assert secret.read_text() == SECRET
    box.close()
    pending.exception(timeout=20)


def test_files_are_written_from_many_threads(box: Box) -> None:
    """Twenty writers and readers at once, each with its own file and its own bytes."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            data = os.urandom(50_000)
            for round_ in range(5):
                box.write(f"/testbed/{number}/{round_}", data)
                assert box.read(f"/testbed/{number}/{round_}") == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
