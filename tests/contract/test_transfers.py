"""Files and trees between host and sandbox: what is kept, what is skipped and said so, what never leaves the tree."""

import contextlib
import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.subjects import Box
from support.waiting import not_blocked

from lisrt import Sandbox

MIB = 1 << 20
SECRET = "host secret 81c4"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host outside of every tree that is moved."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small tree of the host with a bit of everything that is kept."""
    root = tmp_path / "source"
    (root / "deep/er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "plain.txt").write_bytes(b"plain\r\n")
    (root / "zero").write_bytes(b"")
    (root / "deep/er/blob").write_bytes(os.urandom(70_000))
    (root / "tool").write_bytes(b"#!/bin/sh\necho ran\n")
    (root / "tool").chmod(0o755)
    (root / "link").symlink_to("plain.txt")
    (root / "deep/up").symlink_to("../plain.txt")
    (root / "to-dir").symlink_to("deep")
    return root


def contents(root: Path) -> dict[str, object]:
    """A tree as a value: files as bytes, links as where they lead, directories as None."""
    found: dict[str, object] = {}
    for at, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(at, name)
            key = str(path.relative_to(root))
            found[key] = ("->", os.readlink(path)) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


def assert_self_contained(root: Path) -> None:
    """No link of the tree resolves outside of it, and it has nothing but files, directories and links."""
    inside = root.resolve()
    for at, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(at, name)
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode), path
            if stat.S_ISLNK(mode):
                assert path.resolve(strict=False).is_relative_to(inside), f"{path} -> {os.readlink(path)}"


def names(skipped: tuple[str, ...]) -> list[str]:
    """The last part of each skipped path, sorted."""
    return sorted(os.path.basename(path.rstrip("/")) for path in skipped)


def test_upload_a_file(box: Box, tmp_path: Path) -> None:
    """A file arrives exactly, its parents made, its exec bit kept; the transfer counts it."""
    host = tmp_path / "tool"
    host.write_bytes(b"#!/bin/sh\necho ran\n\0\xff")
    host.chmod(0o755)
    transfer = box.upload(host, "/testbed/new/place/tool")
    assert (transfer.files, transfer.bytes, transfer.skipped) == (1, host.stat().st_size, ())
    assert box.read("/testbed/new/place/tool") == host.read_bytes()
    assert box.run(["test", "-x", "new/place/tool"]).ok
    host.chmod(0o644)
    box.upload(str(host), "relative")
    assert not box.run(["test", "-x", "/testbed/relative"]).ok


def test_download_a_file(box: Box, tmp_path: Path) -> None:
    """A file comes out exactly, with its exec bit; the transfer counts it."""
    box.write("/testbed/tool", b"\r\n\0\xff", mode=0o755)
    transfer = box.download("/testbed/tool", tmp_path / "tool")
    assert (transfer.files, transfer.bytes, transfer.skipped) == (1, 4, ())
    assert (tmp_path / "tool").read_bytes() == b"\r\n\0\xff"
    assert (tmp_path / "tool").stat().st_mode & 0o100
    box.write("plain", "x")
    box.download("plain", str(tmp_path / "plain"))
    assert not (tmp_path / "plain").stat().st_mode & 0o111


@pytest.mark.parametrize("size", [0, 1, 65536, 50 * MIB])
def test_sizes(box: Box, tmp_path: Path, size: int) -> None:
    """From nothing to 50 MiB, there and back."""
    host = tmp_path / "file"
    host.write_bytes(os.urandom(min(size, MIB)) * (size // MIB or 1))
    assert box.upload(host, "file").bytes == size
    assert box.download("file", tmp_path / "back").bytes == size
    assert (tmp_path / "back").read_bytes() == host.read_bytes()


def test_a_tree_goes_in_and_comes_out_the_same(box: Box, source: Path, tmp_path: Path) -> None:
    """Files, empty directories, exec bits and inner links survive both ways; both transfers count alike."""
    up = box.upload(source, "/testbed/tree")
    assert box.run(["readlink", "tree/link"]).stdout == "plain.txt\n"
    assert box.run(["tree/tool"]).stdout == "ran\n"
    assert box.sh("[ -d tree/empty ] && ls -A tree/empty | wc -l").stdout == "0\n"
    down = box.download("/testbed/tree", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)
    assert os.access(tmp_path / "back/tool", os.X_OK)
    assert not os.access(tmp_path / "back/plain.txt", os.X_OK)
    for transfer in (up, down):
        assert transfer.files == 7, "links count as files"
        assert transfer.directories == 3, "without the root"
        assert transfer.bytes == sum(len(data) for data in contents(source).values() if isinstance(data, bytes))
        assert transfer.skipped == ()
    assert up == down


def test_a_wide_tree(box: Box, tmp_path: Path) -> None:
    """A thousand files in a hundred directories."""
    root = tmp_path / "wide"
    for number in range(1000):
        path = root / f"d{number % 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    assert box.upload(root, "wide").files == 1000
    assert box.sh("cat wide/*/* | wc -c").stdout == f"{sum(len(str(n)) for n in range(1000))}\n"
    assert box.download("wide", tmp_path / "back").files == 1000
    assert contents(tmp_path / "back") == contents(root)


def test_a_deep_tree(box: Box, tmp_path: Path) -> None:
    """Twelve hundred directories below each other: depth is no recursion."""
    box.python("import os\nfor _ in range(1200): os.mkdir('d'); os.chdir('d')\nopen('leaf', 'w').write('x')").check()
    try:
        with not_blocked():
            down = box.download("/testbed/d", tmp_path / "d")
            up = box.upload(tmp_path / "d", "/testbed/again")
    finally:  # pytest's own removal is recursive
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
    assert (down.files, down.directories) == (1, 1199)
    assert (up.files, up.directories) == (down.files, down.directories)


def test_a_tree_beyond_path_max_ends(box: Box, tmp_path: Path) -> None:
    """A tree deeper than any path can name is fetched or refused, and the sandbox goes on."""
    box.python("import os\nfor _ in range(3000): os.mkdir('dd'); os.chdir('dd')\nopen('leaf', 'w').write('x')").check()
    try:
        with not_blocked(), contextlib.suppress(OSError):
            box.download("/testbed/dd", tmp_path / "dd")
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "dd"], check=True)
    assert box.run(["echo", "alive"]).stdout == "alive\n"


@pytest.mark.parametrize("name", ["new\nline", "caf\udce9", "-rf", "n" * 255, "..."])
def test_names_may_be_anything(box: Box, tmp_path: Path, name: str) -> None:
    """Any name that Linux allows goes in and comes out, as a file, a directory and a link."""
    root = tmp_path / "tree"
    (root / name).mkdir(parents=True)
    (root / name / name).write_bytes(os.fsencode(name))
    (root / "link").symlink_to(f"{name}/{name}")
    box.upload(root, "tree")
    assert box.run(["cat", "tree/link"]).stdout_bytes == os.fsencode(name)
    box.download("tree", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(root)
    box.download(f"tree/{name}/{name}", tmp_path / name)
    assert (tmp_path / name).read_bytes() == os.fsencode(name)


def test_upload_brings_nothing_from_outside_the_tree(box: Box, source: Path, secret: Path) -> None:
    """Special files stay behind and are named; a link out of the tree is left behind and named, or stays a mere link."""
    (source / "out-absolute").symlink_to(secret)
    (source / "deep/out-climbing").symlink_to("../../secret")
    (source / "out-dir").symlink_to(secret.parent)
    os.mkfifo(source / "fifo")
    with not_blocked(5):
        transfer = box.upload(source, "/testbed/tree")
    skipped = names(transfer.skipped)
    kept = sorted(box.sh("cd tree; find . -type l -name 'out-*' -printf '%f\\n'").stdout.split())
    assert "fifo" in skipped
    assert sorted([*skipped, *kept]) == ["fifo", "out-absolute", "out-climbing", "out-dir"]
    assert box.sh("cd tree; find . ! -type l -name 'out-*' -o -name fifo; grep -Rl 'host secret' . 2>/dev/null").stdout == ""
    assert box.read("tree/plain.txt") == b"plain\r\n"


def test_download_skips_what_leaves_the_tree(box: Box, tmp_path: Path, secret: Path) -> None:
    """Links out of the tree, FIFOs, sockets and devices stay behind, and the transfer names them."""
    script = f"""
        mkdir -p tree/sub; cd tree; echo kept > kept; ln -s kept inner; ln -s ../kept sub/inner
        ln -s {secret} out-absolute; ln -s ../../../../../../../..{secret} out-climbing; ln -s /etc out-dir
        ln -s ../other out-sibling; ln -s /dev/zero out-device; mkfifo fifo sub/fifo2
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
    """
    box.sh(script).check()
    with not_blocked(5):
        transfer = box.download("tree", tmp_path / "back")
    assert names(transfer.skipped) == [
        *("fifo", "fifo2", "out-absolute", "out-climbing", "out-device", "out-dir", "out-sibling", "socket"),
    ]
    assert contents(tmp_path / "back") == {
        "kept": b"kept\n",
        "inner": ("->", "kept"),
        "sub": None,
        "sub/inner": ("->", "../kept"),
    }


#: Trees that an attacker would leave to be downloaded. S is the host's secret, D its directory.
MALICIOUS = {
    "absolute link": "ln -s $S file",
    "climbing link": "ln -s ../../../../../../../../../..$S file; mkdir d; ln -s ../../secret d/file",
    "linked directory": "ln -s $D dir; ln -s ../.. up; ln -s . here",
    "link through a link": "mkdir -p a/b; ln -s a/b short; ln -s short/../../secret file; ln -s short/../../.. dir",
    "link through a later link": "ln -s zz/../../secret aa; mkdir -p d/e; ln -s d/e zz",
    "link to itself": "ln -s . dot; ln -s dot/dot/dot/../secret file; ln -s dot/.. out",
    "links through proc": "ln -s /proc/self/root$S file; ln -s /proc/1/root dir; ln -s /proc/self/cwd cwd",
    "climb through a parent link": "mkdir d; ln -s .. d/up; ln -s d/up/.. x; ln -s d/up/../secret file",
    "hard links": "ln -s $S link; ln link hard; echo x > f; ln f g",
    "dotted names": "mkdir ...; echo x > '...'/'..x'; ln -s '.../../../secret' l; ln -s 'a/../..' m",
    "absolute into the tree": "echo x > kept; ln -s $PWD/kept file; ln -s /testbed/tree dir",
    "setuid": "cp /bin/true su; chmod 6755 su; mkdir d; chmod 3777 d",
    "devices": "mknod null c 1 3; mknod whiteout c 0 0; mkfifo fifo",
    "long link": "ln -s $(printf 'a/../%.0s' $(seq 600))../secret file",
}


@pytest.mark.parametrize("attack", MALICIOUS)
def test_a_malicious_tree_stays_a_tree(box: Box, tmp_path: Path, secret: Path, attack: str) -> None:
    """However its links are laid, a downloaded tree leads nowhere outside itself and brings nothing from the host."""
    box.sh("mkdir tree; cd tree; " + MALICIOUS[attack], env={"S": str(secret), "D": str(secret.parent)})
    back = tmp_path / "out" / "back"
    back.parent.mkdir()
    with not_blocked(5):
        box.download("tree", back)
    assert_self_contained(back)
    for path, data in contents(back).items():
        assert not isinstance(data, bytes) or SECRET.encode() not in data, path
        assert not (back / path).lstat().st_mode & (stat.S_ISUID | stat.S_ISGID), "no set-id bits on the host"
    assert secret.read_text() == SECRET
    assert sorted(os.listdir(tmp_path)) == ["out", "secret"]
    assert os.listdir(back.parent) == ["back"]


def test_a_root_that_is_a_link_is_resolved_inside(box: Box, tmp_path: Path, secret: Path) -> None:
    """The path itself may be a link: it means what it means inside, never a file of the host."""
    script = f"mkdir real; echo x > real/f; ln -s real tree; ln -s real/f file; ln -s {secret} out; ln -s {secret.parent} outdir"
    box.sh(script).check()
    box.download("tree", tmp_path / "tree")
    assert (tmp_path / "tree/f").read_bytes() == b"x\n"
    box.download("file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"x\n"
    assert not (tmp_path / "file").is_symlink()
    for path in ("out", "outdir", f"/proc/1/root{secret}", f"/testbed/../..{secret}"):
        with pytest.raises(OSError):
            box.download(path, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_links_met_on_the_host_are_not_written_through(box: Box, tmp_path: Path, secret: Path) -> None:
    """A second download over the first can't use links that lie in the target to write elsewhere."""
    box.sh("mkdir -p tree/sub; echo first > tree/file; echo first > tree/sub/file").check()
    back = tmp_path / "back"
    box.download("tree", back)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (back / "file").unlink()
    (back / "file").symlink_to(secret)
    (back / "sub/file").unlink()
    (back / "sub").rmdir()
    (back / "sub").symlink_to(elsewhere)
    with contextlib.suppress(OSError):
        box.download("tree", back)
    assert secret.read_text() == SECRET
    assert os.listdir(elsewhere) == []


def test_download_over_an_existing_tree(box: Box, tmp_path: Path) -> None:
    """Downloading again brings the target up to date: changed files are replaced, new ones come."""
    back = tmp_path / "back"
    box.sh("mkdir -p tree/sub; echo first version > tree/sub/file; ln -s sub tree/link").check()
    box.download("tree", back)
    box.sh("echo second > tree/sub/file; echo new > tree/sub/new").check()
    box.download("tree", back)
    assert (back / "sub/file").read_bytes() == b"second\n"
    assert (back / "sub/new").read_bytes() == b"new\n"
    assert os.readlink(back / "link") == "sub"


def test_upload_over_an_existing_tree(box: Box, source: Path) -> None:
    """Uploading again brings the target up to date, as root of the sandbox left it or not."""
    box.upload(source, "tree")
    (source / "plain.txt").write_bytes(b"second\n")
    (source / "new").write_bytes(b"new\n")
    box.upload(source, "tree")
    assert box.read("tree/plain.txt") == b"second\n"
    assert box.read("tree/new") == b"new\n"
    box.upload(source / "new", "tree/plain.txt")
    assert box.read("tree/plain.txt") == b"new\n"


def test_upload_does_not_leave_the_sandbox_through_its_links(box: Box, source: Path, secret: Path) -> None:
    """A link that the sandbox has laid at the target leads, if anywhere, to a place inside."""
    box.sh(f"ln -s {secret.parent} tree; mkdir t2; ln -s {secret} t2/plain.txt; ln -s {secret} file").check()
    for host, path in ((source, "tree"), (source, "t2"), (source / "plain.txt", "file"), (source / "plain.txt", "tree/secret")):
        with contextlib.suppress(OSError):
            box.upload(host, path)
    assert secret.read_text() == SECRET
    assert sorted(os.listdir(secret.parent)) == ["secret", "source"]


def test_an_unreadable_file_is_refused_whole(box: Box, source: Path, unprivileged: None) -> None:
    """A file that may not be read is a PermissionError that names it, and nothing half-done stays inside."""
    closed = source / "deep/er/blob"
    closed.chmod(0)
    with pytest.raises(PermissionError) as raised:
        box.upload(closed, "/testbed/blob")
    assert str(raised.value.filename) == str(closed)
    with pytest.raises(PermissionError) as raised:
        box.upload(source, "/testbed/tree")
    assert str(raised.value.filename) == str(closed)
    assert box.run(["ls", "-A", "/testbed"]).stdout == ""


def test_an_unreadable_directory_is_refused_whole(box: Box, source: Path, unprivileged: None) -> None:
    """So is a tree with a directory that may not be listed."""
    (source / "deep/er").chmod(0)
    try:
        with pytest.raises(PermissionError):
            box.upload(source, "/testbed/tree")
    finally:
        (source / "deep/er").chmod(0o700)
    assert box.run(["ls", "-A", "/testbed"]).stdout == ""


def test_directories_without_write_permission(box: Box, tmp_path: Path) -> None:
    """A directory that its owner may not write to is moved with what is in it, both ways."""
    root = tmp_path / "tree"
    (root / "closed").mkdir(parents=True)
    (root / "closed/file").write_text("x")
    (root / "closed").chmod(0o555)
    try:
        box.upload(root, "tree")
        assert box.read("tree/closed/file") == b"x"
        box.sh("chmod 555 tree/closed").check()
        box.download("tree", tmp_path / "back")
        assert (tmp_path / "back/closed/file").read_text() == "x"
    finally:
        for path in (root, tmp_path / "back"):
            subprocess.run(["chmod", "-R", "u+w", path], check=True)


def test_missing_sources_are_named(box: Box, tmp_path: Path) -> None:
    """What isn't there can't be moved; nothing is made at the target."""
    with pytest.raises(FileNotFoundError) as raised:
        box.upload(tmp_path / "missing", "/testbed/x")
    assert str(raised.value.filename) == str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as raised:
        box.download("/testbed/missing", tmp_path / "x")
    assert raised.value.filename == "/testbed/missing"
    assert not (tmp_path / "x").exists()
    assert box.run(["ls", "-A"]).stdout == ""


@pytest.mark.parametrize("what", ["fifo", "/dev/zero", "socket", "/proc/1/mem", "/proc/kmsg"])
def test_special_files_are_not_downloaded(box: Box, tmp_path: Path, what: str) -> None:
    """A special file as the thing to download is an OSError at once."""
    box.sh("mkfifo fifo; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'").check()
    with not_blocked(5), pytest.raises(OSError):
        box.download(what, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_special_files_are_not_uploaded(box: Box, tmp_path: Path) -> None:
    """Nor as the thing to upload: a FIFO of the host doesn't block, a device doesn't flow for ever."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), Path("/dev/null")):
        with not_blocked(5), pytest.raises(OSError):
            box.upload(path, "/testbed/x")
    assert box.run(["ls", "-A"]).stdout == ""


def test_a_file_in_the_way_is_named(box: Box, source: Path, tmp_path: Path) -> None:
    """A tree can't be put where a file is, on either side; the file stays."""
    box.write("file", "stays")
    with pytest.raises(OSError):
        box.upload(source, "/testbed/file")
    assert box.read("file") == b"stays"
    (tmp_path / "file").write_text("stays")
    box.upload(source, "tree")
    with pytest.raises(OSError):
        box.download("tree", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "stays"


def test_a_target_that_may_not_be_written(box: Box, tmp_path: Path, unprivileged: None) -> None:
    """A host directory without permission is Python's PermissionError."""
    box.write("file", "x")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        box.download("file", closed / "file")


def test_a_system_directory_can_be_downloaded(box: Box, tmp_path: Path) -> None:
    """What is partly the image's and partly the sandbox's own comes out as one tree, deletions included."""
    box.sh("mkdir /etc/added; echo new > /etc/added/new; rm /etc/services; echo changed > /etc/passwd").check()
    box.download("/etc", tmp_path / "etc")
    assert (tmp_path / "etc/passwd").read_text() == "changed\n"
    assert (tmp_path / "etc/group").read_text() == box.read_text("/etc/group")
    assert (tmp_path / "etc/added/new").read_text() == "new\n"
    assert not (tmp_path / "etc/services").exists()
    with pytest.raises(FileNotFoundError):
        box.download("/etc/services", tmp_path / "services")


def test_a_tree_that_changes_while_it_is_fetched(box: Box, tmp_path: Path, secret: Path) -> None:
    """A program that swaps names during the download gains nothing: no host file, no link out, no hang."""
    swapper = f"""
import os
os.makedirs("tree/dir")
print("swapping", flush=True)
while True:
    for target in ("{secret}", "{secret.parent}", "/proc/1/root"):
        for name in ("tree/file", "tree/dir/file"):
            os.symlink(target, "new"); os.rename("new", name)
            open("new", "w").write("inside"); os.rename("new", name)
        os.rename("tree/dir", "moved"); os.symlink(target, "tree/dir"); os.unlink("tree/dir"); os.rename("moved", "tree/dir")
"""
    pending = box.start("run", ["python3", "-c", swapper], timeout=100)
    with not_blocked(40):
        for number in range(40):
            back = tmp_path / "out" / str(number)
            back.parent.mkdir(exist_ok=True)
            try:
                box.download("/testbed/tree", back)
            except OSError:
                continue
            assert_self_contained(back)
            assert all(data in (None, b"inside", b"") or isinstance(data, tuple) for data in contents(back).values())
    assert secret.read_text() == SECRET
    box.close()
    pending.exception(timeout=20)


def test_two_sandboxes_exchange_through_the_host(open_box: Callable[..., Box], source: Path, tmp_path: Path) -> None:
    """A tree fetched from one sandbox can be given to another."""
    first, second = open_box(), open_box()
    first.upload(source, "tree")
    first.download("tree", tmp_path / "middle")
    second.upload(tmp_path / "middle", "tree")
    second.download("tree", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


def test_a_file_that_grows_does_not_pass_the_limit(working_host: None, tmp_path: Path) -> None:
    """What counts is what came, not what the size was: /proc's files have none."""
    with Sandbox() as box:
        with pytest.raises(OSError, match="max_bytes") as raised:
            box.download("/proc/version", tmp_path / "version", max_bytes=5)
        assert raised.value.errno == errno.EFBIG and raised.value.filename
        with pytest.raises(OSError, match="max_bytes"):
            box.read("/proc/version", max_bytes=5)
