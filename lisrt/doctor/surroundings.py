"""Facts beside: what other ways of working would find here, and where this seems to be."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from lisrt import idmap, spawner
from lisrt.doctor import cgroups
from lisrt.doctor.causes import apparmor_restricts
from lisrt.doctor.host import Answer, Host, Judge
from lisrt.doctor.limits import user_manager
from lisrt.doctor.rows import Found, Status
from lisrt.errors import HostError, LisrtError
from lisrt.kernel import helper
from lisrt.sandbox import Sandbox

PROBES = ("filter-notify", "landlock", "clone3", "tmpfs-attributes", "veth", "nft")
_MAPPED_WITHIN = 30.0

def bwrap(host: Host) -> Found:
    """The other launcher, tried. It is needed only where the native one does not work, so nothing fails for it."""
    try:
        program = spawner.current("bwrap").bubblewrap
        with Sandbox("host", launcher="bwrap") as box:
            box.run(["/bin/true"]).check()
    except LisrtError as error:
        fix = error.fix if isinstance(error, HostError) else ""
        return Found(Status.NOTE, f"launcher bwrap can't be used: {error}".removesuffix(f". {fix}"), fix)
    assert program is not None
    root = "mounts overlays" if program.overlay else "copies the image for each sandbox"
    found = f"{program.path}, bubblewrap {program.version}, works, and {root}"
    if program.resists_links:
        return Found(Status.PASS, found)
    return Found(Status.NOTE, f"{found}; it follows links in a root (CVE-2026-87766), so lisrt shows it none", _UPGRADE)


_UPGRADE = "Nothing, unless you want mounts inside mounts with it, or images that sandboxes have written: bubblewrap 0.12"


def cgroup_facts(host: Host) -> Found:
    """Which hierarchies there are, and whose our own cgroups are."""
    words = []
    for cgroup in cgroups.own(host):
        probe = host.probe(f"cgroup={cgroup.directory}")
        if probe.works:
            words.append(f"{cgroup.directory} is ours ({probe.words or 'no limits'})")
        elif cgroup.version == 2:
            words.append(f"{cgroup.directory} is not ours")
    layout = cgroups.layout(host)
    return Found(Status.NOTE, "; ".join([f"layout {layout}", *words]))


def clone_into_cgroup(host: Host) -> Found:
    two = cgroups.version2(host)
    if two is None:
        return Found(Status.NOTE, "no cgroup v2 hierarchy is mounted")
    probe = host.probe(f"clone-into-cgroup={two.directory}")
    return Found(Status.PASS, "works") if probe.works else Found(Status.NOTE, f"could not {probe.reason}")


def user_bus(host: Host) -> Found:
    answering = user_manager(host)
    if not answering:
        return Found(Status.NOTE, "no systemd of this user answers (usual in batch jobs)")
    return Found(Status.PASS, f"{answering} answers")


def noted(name: str) -> Judge:
    """A row that passes or is a note, from one probe."""

    def judge(host: Host) -> Found:
        probe = host.probe(name)
        if probe.answer is Answer.UNTRIED:
            return Found(Status.SKIPPED, f"not tried: {probe.reason}")
        return Found(Status.PASS, probe.words) if probe.works else Found(Status.NOTE, f"could not {probe.reason}")

    return judge


def device(path: str) -> Judge:
    """A row on a device file that must open for reading and writing."""

    def judge(host: Host) -> Found:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return Found(Status.NOTE, f"{path}: {error.strerror}")
        return Found(Status.PASS, f"{path} can be opened")

    return judge


def id_ranges(_host: Host) -> Found:
    """lisrt maps one id and needs none; idmap="subuid" does."""
    try:
        found = idmap.find()
    except HostError as error:
        return Found(Status.NOTE, f'{str(error).removesuffix(error.fix).rstrip(". ")}; only idmap="subuid" needs them')
    counts = f"{found.uids.length} users' and {found.gids.length} groups' ids"
    with tempfile.TemporaryDirectory() as empty:
        try:
            said = helper.output(["collect-subuid", empty, *found.arguments()], _MAPPED_WITHIN)
        except OSError as error:
            said = str(error)
    if said.startswith("removed"):
        return Found(Status.PASS, f'{counts} can be mapped: idmap="subuid" works')
    return Found(Status.NOTE, f'{counts} are given, but newuidmap or newgidmap refuses them; only idmap="subuid" needs them')


def surroundings(host: Host) -> Found:
    """Container, batch job, security modules."""
    words = [f"in a container ({host.container})"] if host.container else []
    if host.environ.get("SLURM_JOB_ID"):
        words.append(f"in Slurm job {host.environ['SLURM_JOB_ID']}")
    if host.filtered:
        words.append("under a filter for system calls already")
    if host.chrooted:
        words.append("in a chroot")
    if apparmor_restricts(host):
        words.append("AppArmor restricts user namespaces")
    return Found(Status.NOTE, "; ".join(words) or "no container, no batch job, no filter, no restriction found")


def python(host: Host) -> Found:
    """Image `host` is /usr and little else: a Python from a home directory or a module is not in it."""
    inside = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    home = os.path.realpath(sys.base_prefix)
    seen = f"sandboxes of image host see {inside}" if inside else "sandboxes of image host see no python3"
    if home == "/usr" or home.startswith("/usr/"):
        return Found(Status.PASS if inside else Status.NOTE, seen)
    return Found(
        Status.NOTE,
        f"{seen}; the Python that runs lisrt ({home}) is outside /usr and not among what they see",
        f"To use it inside: Sandbox(mounts=[Mount({home!r}, {home!r})]), or lisrt exec --mount {home}:{home}",
    )
