"""Boots Debian in QEMU and runs pytest in it on real cgroup v2, as an ordinary user. README.md beside this says more.

    run.py [PYTEST-ARGUMENT...]     without arguments, the suites of SUITES

Writes build/out/vm-*-tests.xml and build/out/vm-console.log; all else lies in build/vm/ and in the image's cache.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "vm"
OUT = ROOT / "build" / "out"

#: The environments, in the order in which a machine can be each of them: once there is a user manager, it stays.
HOSTS = ("v2-none", "v2-delegated", "v2-user-bus")

#: How long the machine may run. Suites that don't fit in are stopped a little earlier, so that results still come out.
SECONDS = int(os.environ.get("LISRT_VM_SECONDS", "900"))

#: What takes part of the machine's memory: the disks' page cache, systemd, and what the suites allocate.
MEMORY = os.environ.get("LISRT_VM_MEMORY", "2048")

KERNEL = "root=/dev/vda rw console=ttyS0 quiet panic=-1 fsck.mode=skip mitigations=off systemd.show_status=no"


class Broken(Exception):
    """The machine didn't do its work; no verdict on the tests."""


#: Runs in every environment, where there is such a folder.
LIMITS = "tests/limits"

#: Of the contract, what a cgroup has a part in: how programs end, and that all of them do. Once is enough here: both faces
#: and the rest run on the host. So do tests whose program must get somewhere within a second, and some that only take long.
TOO_SLOW = ("bwrap", "async", "timeout", "deadline", "many_threads", "twenty_commands", "hundreds_of_commands")
CONTRACT = [f"tests/contract/test_{name}.py" for name in ("outcomes", "lifetime", "sandbox")]
CONTRACT += ["-k", " and ".join(f"not {words}" for words in TOO_SLOW)]


def suites(arguments: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Each pytest run in the machine: environment, name, arguments."""
    wanted = os.environ.get("LISRT_VM_HOSTS", "").split() or HOSTS
    for host in (host for host in HOSTS if host in wanted):
        yield host, "host", ["tests/vm/test_host.py"]
        if arguments:
            yield host, "chosen", arguments
            continue
        if (ROOT / LIMITS).is_dir():
            yield host, "limits", [LIMITS, "-m", "not slow"]
        if host == "v2-delegated":
            yield host, "contract", CONTRACT


def make_wheel(folder: Path) -> Path:
    """The wheel of this checkout, by way of an sdist, so that no leftover of build/ gets in."""
    shutil.rmtree(folder, ignore_errors=True)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_site(folder: Path, wheel: Path) -> None:
    """What the wheel and the tests need, unpacked and compiled here, where that takes seconds and not minutes.

    Versions are those that the tests on this machine have. lisrt itself is taken out: pip installs it in the machine.
    """
    shutil.rmtree(folder, ignore_errors=True)
    frozen = folder.with_suffix(".frozen")
    frozen.write_text(call(sys.executable, "-m", "pip", "freeze", "--exclude-editable"))
    tags = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014", "linux")
    platforms = [f"--platform={tag}_x86_64" for tag in tags]
    target = ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none"]
    options = ["-q", "--target", str(folder), "--only-binary=:all:", "-c", str(frozen)]
    wanted = ["pip>=24", "pytest", "hypothesis", str(wheel)]
    call(sys.executable, "-m", "pip", "install", *options, *platforms, *target, *wanted)
    for path in (folder / "bin", *folder.glob("lisrt*")):
        shutil.rmtree(path)


def call(*command: str, stderr: int | None = subprocess.PIPE) -> str:
    """Run a command to its end; its stdout. `timeout` also ends what the command has started."""
    bounded = ["timeout", "-k", "10", "600", *command]
    with subprocess.Popen(
        bounded, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            said, complaints = process.communicate()
        finally:
            process.terminate()  # only after a Ctrl-C is there still something to end
    if process.returncode:
        raise Broken(f"{shlex.join(command)} ended with {process.returncode}:\n{said}{complaints or ''}")
    return said


def make_payload(arguments: list[str]) -> Path:
    """What the machine's second disk holds: a plain tar, which no one has to mount."""
    wheel = make_wheel(WORK / "dist")
    make_site(WORK / "site", wheel)
    probe = WORK / "probe"
    call("gcc", "-static", f"@{ROOT}/csrc/cflags", "-Werror", "-O2", str(HERE / "probe.c"), "-o", str(probe))
    plan = WORK / "plan"
    lines = [shlex.join(["suite", host, name, *rest]) for host, name, rest in suites(arguments)]
    plan.write_text("\n".join([f"limit={SECONDS}", *lines, ""]))
    path = WORK / "payload.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(HERE / "guest", "guest")
        tar.add(wheel, wheel.name)
        for name in ("site", "plan", "probe"):
            tar.add(WORK / name, name)
        for name in ("tests", "pyproject.toml"):
            tar.add(ROOT / name, f"checkout/{name}", filter=without_caches)
    return path


def without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith(("__pycache__", ".hypothesis")) else entry


def qemu(image: Path, accelerator: list[str], *more: str) -> list[str]:
    # setpriv: the machine dies with this process, however that dies.
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none"),
        *("-machine", "q35", *accelerator, "-smp", "2", "-m", MEMORY, "-kernel", str(image / "vmlinuz")),
        *more,
    ]


TCG = ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]
KVM = ["-accel", "kvm", "-cpu", "host"]


def accelerator(image: Path) -> list[str]:
    """KVM where it works: /dev/kvm can be there and open, and yet no guest runs. So boot this kernel up to its panic."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    command = qemu(image, KVM, "-append", "console=ttyS0 panic=-1", "-serial", "stdio")
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return TCG
    return KVM if b"Unable to mount root fs" in done.stdout else TCG


def disk(path: Path, *options: str) -> list[str]:
    return ["-drive", ",".join([f"file={path},if=virtio,format=raw", *options])]


def boot(image: Path, payload: Path, results: Path) -> None:
    """Run the machine to its end, its suites' output on our stdout."""
    console = OUT / "vm-console.log"
    with results.open("wb") as file:
        file.truncate(64 << 20)
    kind = accelerator(image)
    print(f"vm: booting, {kind[1]}, at most {SECONDS} s", flush=True)
    command = qemu(
        image,
        kind,
        *("-initrd", str(image / "initrd"), "-append", KERNEL, "-device", "virtio-rng-pci"),
        *disk(image / "root.ext4", "snapshot=on"),
        *disk(payload, "readonly=on"),
        *disk(results),
        *("-serial", f"file:{console}", "-serial", "stdio"),
    )
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(WORK)}) as machine:
        try:
            status = machine.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise Broken(f"the machine still ran after {SECONDS} s\n{tail(console)}") from None
        finally:
            machine.kill()
            machine.wait()
    if status:
        raise Broken(f"QEMU ended with {status}\n{tail(console)}")


def tail(console: Path) -> str:
    lines = console.read_text(errors="replace").splitlines() if console.exists() else []
    return "\n".join(["its console's last lines:", *lines[-30:]])


def fetch(results: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        call("tar", "-x", "--no-same-owner", "-f", str(results), "-C", str(folder))
    except Broken as error:
        raise Broken(f"the machine wrote no results: {error}\n{tail(OUT / 'vm-console.log')}") from None


def verdict(folder: Path, arguments: list[str]) -> int:
    """Every suite of the plan must have ended with 0; one that never ran has failed."""
    bad = 0
    for host, name, _ in suites(arguments):
        report, status = folder / f"vm-{host}-{name}-tests.xml", folder / f"{host}-{name}.status"
        if report.exists():
            shutil.copyfile(report, OUT / report.name)
        said = status.read_text().strip() if status.exists() else "never, for it did not run"
        if said != "0":
            print(f"vm: {host} {name} ended with {said}")
            bad += 1
    return bad


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for folder in (WORK, OUT):
        folder.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("vm-*"):
        old.unlink()
    try:
        image = Path(call(str(HERE / "image"), stderr=None).strip())
        payload, results = make_payload(arguments), WORK / "results.img"
        boot(image, payload, results)
        fetch(results, WORK / "results")
    except Broken as error:
        print(f"vm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # or SIGTERM
        print("vm: interrupted, and the machine is gone", file=sys.stderr)
        return 130
    return 1 if verdict(WORK / "results", arguments) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
