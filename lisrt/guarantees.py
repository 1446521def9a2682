"""What is enforced in a sandbox, and how; and what is not: rows for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lisrt import spawner
from lisrt.enforcement import Enforcement, describe
from lisrt.kernel.bubblewrap import Program
from lisrt.limits import Limits
from lisrt.spec import Mount


def rows(
    *,
    limits: Limits,
    by: Enforcement,
    network: str,
    user: int,
    real_ids: bool,
    mounts: Sequence[Mount],
    scratch: str,
    tmpfs: int,
    read_only: bool,
    program: Program | None,
    asked_for: str,
) -> Mapping[str, str]:
    """`tmpfs`: bytes of memory that hold what is written, 0 for the scratch directory; `program`: the bubblewrap that made the
    sandbox, if one did; `asked_for`: the launcher that was wanted."""
    arriving = ""
    launcher, killer, root, nesting = "native", "the kernel", "writable layer", "no further namespaces"
    if program is not None:
        arriving = "; what the host mounts LATER below /usr or a mount appears inside, writable where it is"
        nesting = "no further user namespaces, and for all others a capability is missing"
        launcher, killer = _by_bubblewrap(program, asked_for), "its spawner, and with that by the kernel"
        root = "writable layer" if program.overlay else "root, a copy of the image, which counts,"
    writable = [mount.target for mount in mounts if mount.writable]
    return MappingProxyType(
        {
            "launcher": launcher,
            "processes": f"own pid, ipc, uts, cgroup and user namespaces; killed with this process by {killer}",
            "privileges": f"{_powers(user) if real_ids else 'no capabilities'}, no_new_privs, {nesting}",
            "files": f"own root, {'read-only' if read_only else 'writable'}; "
            + (f"the host's files are WRITABLE below {', '.join(writable)}" if writable else "no host file is writable")
            + arriving,
            "network": network,
            "system calls": "an allow-list; other architectures and new kinds of sockets refused"
            + _pretended(user, real_ids),
        }
        | describe(limits, by, f"{root} in {scratch}", real_ids=real_ids)
        | ({"disk": f"{tmpfs >> 20} MiB of memory, by a tmpfs's size; gone with its processes"} if tmpfs else {})
    )


def _powers(user: int) -> str:
    """With subordinate ids."""
    if user:
        return f"uid {user} among subordinate ids, no capabilities"
    return "root over this sandbox's own files, processes and subordinate ids (chown, setuid, kill), no other capabilities"


def _pretended(user: int, real_ids: bool) -> str:
    if user:
        return ""
    calls = "mknod of a device succeeds and does" if real_ids else "chown, setuid and mknod of a device succeed and do"
    return f"; {calls} nothing"


def _by_bubblewrap(program: Program, asked_for: str) -> str:
    because = f", because: {spawner.why_not_native()}" if asked_for == "auto" else ""
    links = "" if program.resists_links else ", which follows links in a root (CVE-2026-87766): kept from roots with such links"
    return f"bwrap {program.version} ({program.path}{links}){because}"
