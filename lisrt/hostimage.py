"""The image `host`: a skeleton of directories, and the part of /etc that programs need.

An allow-list, never "everything but". What is not named here is not in the sandbox.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

# Configuration that libraries and interpreters read, and that holds no names of people, hosts or services of the site.
# Not here, on purpose: ssh, munge, slurm, krb5, sssd, ldap, fstab, machine-id, profile.d (module systems that point at
# file systems which are not there), and pip.conf, npmrc, gitconfig, wgetrc, which may hold tokens.
ETC = (
    "ImageMagick-*", "R", "X11", "alternatives", "bash.bashrc", "bash_completion", "bash_completion.d", "bashrc",
    "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts", "gai.conf", "gnutls",
    "groff", "host.conf", "inputrc", "java*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf",
    "localtime", "login.defs", "lsb-release", "magic", "magic.mime", "mailcap", "manpath.config", "maven", "mime.types",
    "nanorc", "netconfig", "networks", "os-release", "papersize", "perl", "pki", "profile", "protocols", "python*",
    "redhat-release", "rpc", "services", "sgml", "shells", "skel", "ssl", "system-release", "terminfo", "texmf", "timezone",
    "vim", "xattr.conf", "xdg", "xml",
)  # fmt: skip
ETC_NEVER = ("ssl/private", "pki/tls/private", "pki/entitlement", "pki/consumer", "pki/product", "pki/rpm-gpg")
LARGEST_FILE = 16 << 20

SYNTHETIC = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n",
    # plain files only: the host's sssd and systemd sockets are not here
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\n"
    "services: files\nethers: files\nrpc: files\n",
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "resolv.conf": "",
    "machine-id": "",
}

DIRECTORIES = {
    "dev": 0o755, "etc": 0o755, "home": 0o755, "opt": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755,
    "testbed": 0o755, "tmp": 0o1777, "usr": 0o755,
    "var": 0o755, "var/cache": 0o755, "var/lib": 0o755, "var/log": 0o755, "var/tmp": 0o1777,
}  # fmt: skip

_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def build_skeleton(root: Path, etc: str = "/etc") -> None:
    """Makes `root`: the directories and links of a Linux system, and what programs need of the host's `etc`. OSError."""
    root.mkdir(parents=True)
    for name, mode in DIRECTORIES.items():
        (root / name).mkdir()
        (root / name).chmod(mode)
    for name in _TOP:
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
        elif os.path.isdir(f"/{name}"):
            (root / name).mkdir()
    (root / "var/run").symlink_to("/run")
    (root / "var/lock").symlink_to("/run/lock")
    _fill_etc(etc, root / "etc")


def unmerged_directories() -> list[str]:
    """Those of /bin, /lib, ... that are directories of their own here, not links into /usr."""
    return [name for name in _TOP if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]


def _fill_etc(source: str, etc: Path) -> None:
    for entry in _sorted_entries(source):
        if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in ETC) and entry.name not in SYNTHETIC:
            _copy(entry.path, etc / entry.name, source)
    for name, text in SYNTHETIC.items():
        (etc / name).write_text(text)
    (etc / "mtab").symlink_to("/proc/mounts")


def _copy(source: str, target: Path, etc: str) -> None:
    if os.path.relpath(source, etc) in ETC_NEVER:
        return
    try:
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode):
            target.symlink_to(os.readlink(source))
        elif stat.S_ISDIR(status.st_mode):
            target.mkdir()
            for entry in _sorted_entries(source):
                _copy(entry.path, target / entry.name, etc)
        elif stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_FILE:
            shutil.copyfile(source, target)
            target.chmod(0o755 if status.st_mode & 0o111 else 0o644)
    except PermissionError:
        pass  # what the user can't read out here, programs can do without in there


def _sorted_entries(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, PermissionError):
        return
