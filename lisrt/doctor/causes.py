"""Why a host refuses user namespaces, and the one command that changes it: kernels and distributions differ."""

from __future__ import annotations

import errno
import os

from lisrt.doctor.host import Host, Probe

ENOUGH = 65536
"""A number of namespaces that no host of ours will reach."""

_CONTAINERS = {
    "Docker": "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    " --security-opt systempaths=unconfined ...",
    "Podman": "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL --security-opt label=disable ...",
    "Kubernetes": "kubectl patch: spec.hostUsers: false, securityContext.procMount: Unmasked and"
    " securityContext.seccompProfile.type: Unconfined",
}


def sysctl(name: str, value: int) -> str:
    """The command that sets it."""
    return f"sudo sysctl -w {name}={value}"


def namespaces_fix(kind: str) -> str:
    """For one kind of namespace whose number is used up or 0."""
    return sysctl(f"user.max_{kind}_namespaces", ENOUGH)


def container_fix(host: Host) -> str:
    """How to start the container that we are in, or one of that sort, so that it lets sandboxes be."""
    return _CONTAINERS.get(host.container, _CONTAINERS["Docker"])


def apparmor_restricts(host: Host) -> bool:
    """Ubuntu 23.10 and later."""
    return host.number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1


def user_namespace(host: Host, probe: Probe) -> tuple[str, str]:
    """(cause, fix) of a user namespace that could not be created or mapped, or that has no power."""
    if probe.number == errno.ENOSPC:
        limit = host.number("/proc/sys/user/max_user_namespaces")
        return f"user.max_user_namespaces is {limit}", namespaces_fix("user")
    if host.chrooted:
        return "this process is in a chroot, where the kernel refuses them", "Start lisrt outside of the chroot"
    if host.number("/proc/sys/kernel/unprivileged_userns_clone") == 0:
        return "kernel.unprivileged_userns_clone is 0", sysctl("kernel.unprivileged_userns_clone", 1)
    if apparmor_restricts(host):
        fix = sysctl("kernel.apparmor_restrict_unprivileged_userns", 0)
        return "AppArmor lets them be created and takes their powers away (Ubuntu 23.10 and later)", fix
    if probe.words == "id-map" and os.geteuid() == 0:
        return (
            "root without CAP_SETFCAP, as in a container, may not map uid 0",
            "docker run --user 1000 ... (start lisrt as another user), or keep CAP_SETFCAP",
        )
    if host.filtered or host.container:
        where = f"this seems to be a container ({host.container})" if host.container else "a filter is in force"
        return f"{where}, which forbids them", container_fix(host)
    if probe.number == errno.EINVAL:
        fix = "Boot with user_namespace.enable=1 (RHEL 7), or a kernel with CONFIG_USER_NS"
        return "this kernel is built or booted without them", fix
    fix = "Start lisrt outside of any chroot, or ask the administrator which security module forbids user namespaces"
    return "the kernel does not say why", fix
