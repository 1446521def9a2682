"""Copying in and out of a sandbox whose programs work against it: kernel.md's file rows, and races on both sides.

What a tree of links may and may not become is in contract/test_transfers.py and test_transfer_links.py; here the programs
of the sandbox move while the host copies.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import Mount

SECRET = "host secret 5c1e"


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that must be neither read nor written."""
    place = tmp_path / "secret"
    (place / "dir").mkdir(parents=True)
    for name in ("file", "dir/file", "dir/inner"):
        (place / name).write_text(SECRET)
    before = sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_mode) for path in place.rglob("*"))
    yield place
    assert sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_mode) for path in place.rglob("*")) == before
    assert {(place / name).read_text() for name in ("file", "dir/file", "dir/inner")} == {SECRET}


def files(top: Path) -> dict[str, bytes]:
    """Every regular file below a directory; links are not followed."""
    found = {}
    for at, _, names in os.walk(top):
        for name in names:
            path = Path(at, name)
            if stat.S_ISREG(path.lstat().st_mode):
                found[str(path.relative_to(top))] = path.read_bytes()
    return found


#: Renames `dir`, which has real files, and a link to somewhere else over each other, atomically, without a pause.
SWAP = """
import ctypes, os, sys
from kernel import libc
where, target = sys.argv[1:]
os.makedirs(where + "/dir", exist_ok=True)
for name in ("file", "inner"):
    open(f"{where}/dir/{name}", "w").write("inside")
os.symlink(target, where + "/link")
print("swapping", flush=True)
while True:
    libc.renameat2(-100, f"{where}/dir".encode(), -100, f"{where}/link".encode(), 2)  # RENAME_EXCHANGE
"""


@pytest.mark.parametrize(
    "target", ["{secret}/dir", "/", "/proc/1/root{secret}/dir", "/proc/self/root", "../../../../..{secret}/dir"]
)
def test_a_directory_swapped_for_a_link_while_it_is_fetched(box: Box, secret: Path, tmp_path: Path, target: str) -> None:
    """Each download has what was inside, or fails; never a byte of the host, never a file beside the tree."""
    box.run(["mkdir", "tree"]).check()
    swapping = box.start("run", ["python3", "-c", SWAP, "tree", target.format(secret=secret)], timeout=60)
    box.sh("until [ -e tree/dir/inner -a -L tree/link ] || [ -L tree/dir ]; do :; done").check()
    fetched = set()
    with not_blocked(40):
        for number in range(300):
            if number >= 25 and b"inside" in fetched:
                break  # where the host is slow, the first ones may all have met the link
            back = tmp_path / "out" / str(number)
            back.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):
                box.download("tree", back)
            assert SECRET.encode() not in b"".join(files(back).values())
            fetched |= set(files(back).values())
            for path in back.rglob("*"):
                assert not path.is_symlink() or path.resolve().is_relative_to(back), path
    assert set(os.listdir(tmp_path)) == {"secret", "out"}
    assert b"inside" in fetched
    assert not swapping.done()
    box.close()
    swapping.exception(timeout=20)


def test_a_target_on_the_host_that_is_swapped(open_box: Callable[..., Box], secret: Path, tmp_path: Path) -> None:
    """The download goes to a directory that is mounted writable: the program swaps directories of the target for links to
    what lies outside, and nothing is written there."""
    shared = tmp_path / "shared"
    shared.mkdir()
    box = open_box(mounts=[Mount(shared, "/shared", writable=True)])
    box.sh("mkdir -p tree/dir; for i in $(seq 40); do echo fetched > tree/dir/new$i; done").check()
    box.sh("echo fetched > tree/dir/file; echo fetched > tree/dir/inner").check()
    swapping = box.start("run", ["python3", "-c", SWAP, "/shared", str(secret / "dir")], timeout=60)
    box.sh("until [ -L /shared/link -o -L /shared/dir ]; do :; done").check()
    with not_blocked(40):
        for _ in range(200):
            with contextlib.suppress(OSError):
                box.download("tree", shared)
    assert not swapping.done()
    box.close()
    swapping.exception(timeout=20)
    assert sorted(os.listdir(secret)) == ["dir", "file"]
    assert sorted(os.listdir(secret / "dir")) == ["file", "inner"]


#: What a program may put at the place that a file is downloaded to, in a directory that it can write to.
@pytest.mark.parametrize("trap", ["ln -s {secret}/file", "ln -s {secret}/new", "mkfifo", "ln -s /dev/null", "mkdir"])
def test_a_trap_where_a_file_is_to_be(open_box: Callable[..., Box], secret: Path, tmp_path: Path, trap: str) -> None:
    """A link is not followed, a FIFO is not waited for: an OSError."""
    shared = tmp_path / "shared"
    shared.mkdir()
    box = open_box(mounts=[Mount(shared, "/shared", writable=True)])
    box.write("file", "overwritten")
    box.sh(f"{trap.format(secret=secret)} /shared/file").check()
    with not_blocked(10), pytest.raises(OSError):
        box.download("file", shared / "file")


def test_an_upload_meets_links(box: Box, secret: Path, tmp_path: Path) -> None:
    """Swapped directories at the target of an upload lead inside the sandbox only: the host's files stay as they are."""
    source = tmp_path / "source"
    (source / "dir").mkdir(parents=True)
    for number in range(50):
        (source / "dir" / f"file{number}").write_text("uploaded")
    box.run(["mkdir", "tree"]).check()
    swapping = box.start("run", ["python3", "-c", SWAP, "tree", str(secret / "dir")], timeout=60)
    box.sh("until [ -L tree/link -o -L tree/dir ]; do :; done").check()
    with not_blocked(40):
        for _ in range(10):
            with contextlib.suppress(OSError):
                box.upload(source, "tree")
    assert not swapping.done()
    box.close()
    swapping.exception(timeout=20)


def test_a_source_on_the_host_that_is_swapped(open_box: Callable[..., Box], secret: Path, tmp_path: Path) -> None:
    """Uploading from a directory that a program of the sandbox can write to. Files are opened without following a link as
    their last part; a link is uploaded as a link."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "plain").write_text("plain")
    (shared / "link").symlink_to(secret / "file")
    box = open_box(mounts=[Mount(shared, "/shared", writable=True)])
    box.upload(shared, "copy")
    assert box.run(["readlink", "copy/link"]).stdout == f"{secret}/file\n"
    assert not box.run(["cat", "copy/link"]).ok


def test_sizes_that_lie(box: Box, tmp_path: Path) -> None:
    """A sparse file, one that shrinks and one that grows while it is read, one of /proc: what came is what is told."""
    box.sh("truncate -s 64M sparse; printf end >> sparse").check()
    assert box.download("sparse", tmp_path / "sparse").bytes == (64 << 20) + 3 == (tmp_path / "sparse").stat().st_size
    box.write("f", "x")
    changer = "import os\nwhile True:\n for size in (0, 3 << 20, 100): os.truncate('f', size)"
    changing = box.start("run", ["python3", "-c", changer], timeout=30)
    with not_blocked(25):
        for number in range(50):
            transfer = box.download("f", tmp_path / f"f{number}")
            assert transfer.bytes == (tmp_path / f"f{number}").stat().st_size
            with contextlib.suppress(OSError):
                assert len(box.read("f", max_bytes=1000)) <= 1000
    assert not changing.done()
    box.close()
    changing.exception(timeout=20)


def test_hard_links_and_bits(box: Box, secret: Path, tmp_path: Path) -> None:
    """Hard links come out as files of their own; set-id, sticky and other people's write bits don't come out as such."""
    box.sh(
        f"""mkdir -p tree/d; cd tree; echo x > a; ln a b; ln a d/c; chmod 6777 a; chmod 3777 d
        ln {secret}/file stolen; ln /etc/passwd passwd; ln /usr/bin/id program; ln /proc/self/environ environ"""
    )
    box.download("tree", tmp_path / "back")
    found = files(tmp_path / "back")
    assert {"a", "b", "d/c"} <= set(found) <= {"a", "b", "d/c", "passwd"}
    assert {(tmp_path / "back" / name).stat().st_nlink for name in ("a", "b", "d/c")} == {1}
    for path in (tmp_path / "back").rglob("*"):
        assert not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX), path
        assert path.stat().st_uid == os.geteuid()
    assert "passwd" not in found or found["passwd"] == box.read("/etc/passwd")


PATHS = [
    *("/proc/self/root/etc/passwd", "/proc/1/root/etc/passwd", "/proc/self/cwd/kernel.py", "/proc/thread-self/root/etc/hosts"),
    *("/proc/self/fd/0", "/proc/self/fd/3", "/dev/fd/3", "/dev/stdin", "/proc/1/environ", "/proc/self/exe", "/dev/null"),
]


@pytest.mark.parametrize("path", PATHS)
def test_magic_links_are_not_followed(box: Box, tmp_path: Path, path: str) -> None:
    """Through /proc a path could name a descriptor or the root of the process that serves files."""
    with not_blocked(5), pytest.raises(OSError):
        box.read(path)
    with not_blocked(5), pytest.raises(OSError):
        box.download(path, tmp_path / "file")
    with not_blocked(5), pytest.raises(OSError):
        box.write(path, "x")


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "/../../etc/passwd", "/testbed/../../../etc/passwd", "//etc//passwd"])
def test_climbing_ends_at_the_sandboxs_root(box: Box, path: str) -> None:
    """`..` of the root is the root: the file is the sandbox's own."""
    box.write("/etc/passwd", "of the sandbox")
    assert box.read(path) == b"of the sandbox"


def test_the_process_that_serves_files_is_killed(box: Box) -> None:
    """A program that kills whatever it sees: an OSError each time, or the data; never wrong data, and no hang."""
    box.write("data", b"x" * 4096)
    hunter = """
import os, signal
print("hunting", flush=True)
while True:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            try:
                os.kill(int(name), signal.SIGKILL)
            except ProcessLookupError:
                pass
"""
    hunting = box.start("run", ["python3", "-c", hunter], timeout=60)
    with not_blocked(40):
        for number in range(300):
            with contextlib.suppress(OSError):
                assert box.read("data") == b"x" * 4096
            with contextlib.suppress(OSError):
                box.write(f"f{number}", "y")
    assert box.alive
    assert not hunting.done()
    box.close()
    hunting.exception(timeout=20)
