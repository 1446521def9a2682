"""Builds what pyproject.toml can't say: the static helper and the cffi extension, with a C compiler alone.

LISRT_DEV=1, for the project's own checks, makes each of the helper's warnings an error and keeps its symbols.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

HELPER = Path("lisrt", "_helper", "lisrt-helper")
FLOOR = Path("lisrt", "_helper", "lisrt-floor")

# What brings a C compiler with the C library's headers, and Python's own headers, by package manager.
COMPILER = {
    "apt-get": "apt-get install -y gcc libc6-dev",
    "dnf": "dnf install -y gcc glibc-static",
    "zypper": "zypper install -y gcc glibc-devel-static",
    "apk": "apk add gcc musl-dev linux-headers",
    "pacman": "pacman -S --noconfirm gcc",
}
PYTHON = {
    "apt-get": "apt-get install -y python3-dev",
    "dnf": "dnf install -y python3-devel",
    "zypper": "zypper install -y python3-devel",
    "apk": "apk add python3-dev",
}

# Where package managers lie, whatever PATH the build was given.
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/bin", "/sbin", "/bin"])

# Hardening, best first: of each group the first flag that this compiler takes without a warning.
HARDENING = (
    ("-D_FORTIFY_SOURCE=3", "-D_FORTIFY_SOURCE=2"),
    ("-fstack-clash-protection",),
    ("-fcf-protection",),
)

PROBE = """
#include <linux/sched.h>
#include <stdio.h>
int main(void) { return puts("") < 0; }
"""


def stop(problem: str, fixes: dict[str, str], what: str) -> SystemExit:
    """One line: what is missing, and this machine's own command that brings it."""
    command = next((fix for manager, fix in fixes.items() if shutil.which(manager, path=SYSTEM_PATH)), None)
    advice = f". As root: {command}" if command else ""
    return SystemExit(f"error: lisrt needs {what} to build: {problem}{advice}")


class Compiler:
    """This machine's C compiler. What is missing stops the build with one line, at its start."""

    def __init__(self) -> None:
        named = os.environ.get("CC")
        found = [name for name in ("gcc", "cc", "clang") if shutil.which(name)]
        self.argv = shlex.split(named) if named else found[:1]
        if not self.argv or not shutil.which(self.argv[0]):
            missing = f"CC names {named!r}, which is not there" if named else "found no gcc, cc or clang"
            raise stop(missing, COMPILER, "a C compiler")
        if not self.takes():
            problem = f"{named or found[0]} can't build a small program"
            raise stop(problem, COMPILER, "the C library's headers")
        header = Path(sysconfig.get_path("include"), "Python.h")
        if not header.exists():
            raise stop(f"found no {header}", PYTHON, "Python's C headers")

    def takes(self, *flags: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBE)
            argv = [*self.argv, "-O2", *flags, str(source), "-o", f"{folder}/probe"]
            return subprocess.run(argv, capture_output=True).returncode == 0

    def hardening(self) -> list[str]:
        # Some distributions define _FORTIFY_SOURCE already: a second definition would be a warning.
        chosen = ["-U_FORTIFY_SOURCE"]
        for group in HARDENING:
            for flag in group:
                if self.takes("-Werror", *chosen, flag):
                    chosen.append(flag)
                    break
        return chosen

    def linking(self) -> list[str]:
        if self.takes("-static"):
            return ["-static"]
        print("lisrt: no static C library here, so the helper is linked dynamically", file=sys.stderr)
        return []

    def build_programs(self, folder: Path) -> None:
        """The helper; and the floor, which has of csrc/ what is done once and never measured."""
        flags = ["@csrc/cflags", "-O2", *self.hardening(), *self.linking(), "-Wl,-z,relro,-z,now", "-Icsrc"]
        sources = sorted(Path("csrc").glob("*.c"))
        self.build_program(folder / HELPER, sources, flags)
        library = [source for source in sources if source.name != "main.c"]
        self.build_program(folder / FLOOR, [*sorted(Path("bench", "floor").glob("*.c")), *library], flags)

    def build_program(self, path: Path, sources: list[Path], flags: list[str]) -> None:
        own = ["-g", "-Werror"] if os.environ.get("LISRT_DEV") == "1" else ["-s"]
        users = shlex.split(os.environ.get("CFLAGS", "")) + shlex.split(os.environ.get("LDFLAGS", ""))
        argv = [*self.argv, *flags, *own, *users, *map(str, sources), "-o", str(path)]
        print(shlex.join(argv), flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if subprocess.run(argv).returncode != 0:
            raise SystemExit("error: the compiler refused lisrt's C, in the words above")
        path.chmod(0o755)


class Build(build):
    def run(self) -> None:
        Compiler()  # what is missing is said before pages of other output
        super().run()


class BuildNative(build_ext):
    """The extension as setuptools builds it, and the helper with it, into the same place."""

    def run(self) -> None:
        compiler = Compiler()
        # Else the extension would ask for the compiler that built Python, which need not be on this machine.
        os.environ.setdefault("CC", shlex.join(compiler.argv))
        super().run()
        in_place = self.inplace or self.editable_mode
        compiler.build_programs(Path() if in_place else Path(self.build_lib))
        if not in_place:  # recipes and recorded episodes lie in the repository's root; in place they are found there
            shutil.copytree("rootfs", Path(self.build_lib, "lisrt", "rootfs"), dirs_exist_ok=True)
            shutil.copytree("bench/episodes", Path(self.build_lib, "lisrt", "bench", "episodes"), dirs_exist_ok=True)


class Wheel(bdist_wheel):
    def finalize_options(self) -> None:
        if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # a free-threaded Python has no stable ABI yet
            self.py_limited_api = "cp311"
        super().finalize_options()


setup(
    cmdclass={"build": Build, "build_ext": BuildNative, "bdist_wheel": Wheel},
    cffi_modules=["csrc/build_native.py:ffibuilder"],
)
