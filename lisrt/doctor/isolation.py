"""What isolation is made of. All of these rows together are "strong"."""

from __future__ import annotations

import errno
import os

from lisrt.doctor import causes
from lisrt.doctor.host import Answer, Host, Probe
from lisrt.doctor.rows import Found, Status
from lisrt.kernel import helper

NAMESPACES = {"mount": "mnt", "pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
"""What a sandbox has besides a user and a network namespace: by the probe's name, the sysctl's."""

CALLS = ("openat2", "mount-calls", "close-range", "pidfd")
PROBES = (
    *("user-namespace", "capabilities", "network-namespace", "proc", "nested-user-namespace", "no-nesting", "tmpfs"),
    *(f"{name}-namespace" for name in NAMESPACES),
    *CALLS,
)


def untried(probe: Probe) -> Found:
    """A row whose probe could not even begin."""
    return Found(Status.SKIPPED, f"not tried: {probe.reason}")


def simple(probe: Probe, fix: str, *, weaker: Status = Status.WEAKER) -> Found:
    """The row of one probe with one fix."""
    if probe.answer is Answer.UNTRIED:
        return untried(probe)
    status = {Answer.WORKS: Status.PASS, Answer.WEAKER: weaker, Answer.FAILS: Status.FAIL}[probe.answer]
    if status is Status.PASS:
        return Found(status, probe.words)
    return Found(status, f"could not {probe.reason}" if status is Status.FAIL else probe.reason, fix)


def the_helper(host: Host) -> Found:
    """Whether the program that everything else starts from can be started."""
    refused = next((probe for probe in host.probes.values() if probe.answer is not Answer.UNTRIED), None)
    if refused is not None:
        return Found(Status.PASS, str(helper.PATH))
    if not os.access(helper.PATH, os.R_OK):
        return Found(Status.FAIL, f"{helper.PATH} is missing", "pip install --force-reinstall lisrt")
    reason = next(iter(host.probes.values()), Probe(Answer.UNTRIED, 0, "not tried")).reason
    return Found(Status.SKIPPED, f"not tried: {reason}")


def user_namespaces(host: Host) -> Found:
    probe = host.probe("user-namespace")
    if probe.answer is not Answer.FAILS:
        return simple(probe, "")
    cause, fix = causes.user_namespace(host, probe)
    did = "map the ids of one" if probe.words == "id-map" else "create one"
    return Found(Status.FAIL, f"could not {did}: {os.strerror(probe.number)}; {cause}", fix)


def capabilities(host: Host) -> Found:
    probe = host.probe("capabilities")
    if probe.answer is not Answer.FAILS:
        return simple(probe, "")
    cause, fix = causes.user_namespace(host, probe)
    if probe.number == errno.EACCES and not causes.apparmor_restricts(host):
        cause, fix = "a security module forbids it", "podman run --security-opt label=disable ... (SELinux)"
    profile = f" (profile {probe.words})" if probe.words else ""
    return Found(Status.FAIL, f"root in a new one can't mount{profile}: {os.strerror(probe.number)}; {cause}", fix)


def namespaces(host: Host) -> Found:
    """Those that no site forbids alone, in one row."""
    answers = {name: host.probe(f"{name}-namespace") for name in NAMESPACES}
    bad = {name: probe for name, probe in answers.items() if probe.answer is Answer.FAILS}
    if bad:
        words = "; ".join(f"{name}: could not {probe.reason}" for name, probe in bad.items())
        full = [NAMESPACES[name] for name, probe in bad.items() if probe.number == errno.ENOSPC]
        fix = " && ".join(map(causes.namespaces_fix, full)) or causes.container_fix(host)
        return Found(Status.FAIL, words, fix)
    skipped = next((probe for probe in answers.values() if probe.answer is Answer.UNTRIED), None)
    return untried(skipped) if skipped else Found(Status.PASS, f"created: {', '.join(NAMESPACES)}")


def network_namespace(host: Host) -> Found:
    probe = host.probe("network-namespace")
    fix = causes.namespaces_fix("net") if probe.number == errno.ENOSPC else causes.container_fix(host)
    return simple(probe, f'{fix} (or give up network isolation by name: network="host")')


def fresh_proc(host: Host) -> Found:
    probe = host.probe("proc")
    masks = [mount.place for mount in host.mounts if mount.place.startswith("/proc/")]
    found = simple(probe, f"/proc is masked: {causes.container_fix(host)}")
    if found.status in (Status.PASS, Status.SKIPPED):
        return found
    covered = f"; something is mounted over {', '.join(masks[:3])}" if masks else ""
    return Found(Status.FAIL, f"{found.found}{covered}", found.fix)


def nested(host: Host) -> Found:
    """Both that it can be made and that nothing can be made in it."""
    for name in ("nested-user-namespace", "no-nesting"):
        probe = host.probe(name)
        if not probe.works:
            fix = causes.namespaces_fix("user") if probe.number == errno.ENOSPC else causes.container_fix(host)
            return simple(probe, fix)
    return Found(Status.PASS, f"{host.probe('nested-user-namespace').words}; {host.probe('no-nesting').words}")


def scratch(host: Host) -> Found:
    """Overlays on each place that would be tried; one that works is enough."""
    answers = {place: host.probe(f"overlay={place}") for place in host.scratch}
    good = [place for place, probe in answers.items() if probe.works]
    bad = [f"not in {place}: {probe.reason}" for place, probe in answers.items() if probe.answer is Answer.FAILS]
    if not good:
        skipped = next((probe for probe in answers.values() if probe.answer is Answer.UNTRIED), None)
        if skipped and not bad:
            return untried(skipped)
        return Found(Status.FAIL, "; ".join(bad), "export LISRT_SCRATCH=/a/directory/on/a/local/disk (ext4, xfs, btrfs)")
    place = host.home or good[0]
    words = f"overlays work in {place} ({host.type_of(place)})"
    others = [f"also in {other}" for other in good if not place.startswith(other)]
    found = "; ".join([words, *others, *bad])
    if host.type_of(place) in ("tmpfs", "ramfs"):
        fix = "export LISRT_SCRATCH=/a/directory/on/a/local/disk"
        return Found(Status.NOTE, f"{found}; what programs write there takes memory", fix)
    return Found(Status.PASS, found)


def tmpfs(host: Host) -> Found:
    return simple(host.probe("tmpfs"), causes.container_fix(host))


def kernel_calls(host: Host) -> Found:
    answers = [host.probe(name) for name in CALLS]
    bad = [probe for probe in answers if probe.answer in (Answer.FAILS, Answer.WEAKER)]
    if bad:
        fix = causes.container_fix(host)
        if not host.filtered and any(probe.number == errno.ENOSYS for probe in bad):
            fix = "Boot Linux 5.12 or later; in a container, another runtime than gVisor (docker run --runtime=runc ...)"
        return Found(Status.FAIL, "; ".join(probe.reason for probe in bad), fix)
    skipped = next((probe for probe in answers if probe.answer is Answer.UNTRIED), None)
    return untried(skipped) if skipped else Found(Status.PASS, ", ".join(probe.words for probe in answers))


def real_sandbox(host: Host) -> Found:
    """One was made, used and destroyed; or is the fault of another row."""
    if host.fault is None:
        return Found(Status.PASS, f"made, used and destroyed, by launcher {host.launcher}")
    return Found(Status.FAIL, str(host.fault), "Report this with the output of `lisrt doctor --json`")
