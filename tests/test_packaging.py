"""What a user installs: the sdist holds all that a build needs, the wheel all that a run needs, and a machine
that can't build says why in one line. Everything is built from a copy, by the commands that users type."""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILT = (".git", ".venv", "build", "dist", "__pycache__", "*.egg-info", "_helper", "_native.c", "*.so", ".*_cache")
STEERING = {"CC", "CFLAGS", "LDFLAGS", "LISRT_DEV"}  # would make our build another one than the user's
ELF = b"\x7fELF"

pytestmark = pytest.mark.slow


def run(*command: str | Path, **changed: str) -> subprocess.CompletedProcess[str]:
    """Both streams in one, far from the checkout; keywords change the environment."""
    env = {name: value for name, value in os.environ.items() if name not in STEERING} | changed
    return subprocess.run(
        command,
        env=env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pip(
    *arguments: str | Path, python: Path | str = sys.executable, **changed: str
) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "pip", "--no-input", *arguments, **changed)


def copy(sources: Path, target: Path) -> Path:
    return Path(shutil.copytree(sources, target, ignore=shutil.ignore_patterns(*BUILT)))


def clean_venv(folder: Path) -> Path:
    """A virtual environment that sees nothing of ours; its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(ROOT, tmp_path_factory.mktemp("sources") / "lisrt")


@pytest.fixture(scope="module")
def dist(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--outdir", folder, sources)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    [path] = dist.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    [path] = dist.glob("*.whl")
    return path


def is_dynamic(program: Path) -> bool:
    return "INTERP" in run("readelf", "--program-headers", program).stdout


def package_files(sources: Path) -> set[str]:
    return {path.relative_to(sources).as_posix() for path in (sources / "lisrt").rglob("*") if path.is_file()}


def recipe_files(sources: Path) -> set[str]:
    return {path.relative_to(sources).as_posix() for path in (sources / "rootfs").rglob("*") if path.is_file()}


def episode_files(sources: Path) -> set[str]:
    return {path.relative_to(sources).as_posix() for path in (sources / "bench" / "episodes").iterdir()}


@pytest.mark.parametrize("name", ["lisrt-helper", "lisrt-floor"])
def test_the_wheel_carries_an_executable_helper(wheel: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry = archive.getinfo(f"lisrt/_helper/{name}")
        assert stat.S_IMODE(entry.external_attr >> 16) == 0o755
        helper = Path(archive.extract(entry, tmp_path))
    assert helper.read_bytes().startswith(ELF)
    assert not is_dynamic(helper)


def test_the_wheel_carries_the_extension_for_every_python_from_3_11(wheel: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-cp311-abi3-{platform}.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("lisrt/kernel/_native.abi3.so").startswith(ELF)


def test_the_wheel_carries_every_file_of_the_package_and_nothing_else(wheel: Path, sources: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {
        *package_files(sources),
        *(f"lisrt/{name}" for name in recipe_files(sources) | episode_files(sources)),
        "lisrt/_helper/lisrt-floor",
        "lisrt/_helper/lisrt-helper",
        "lisrt/kernel/_native.abi3.so",
    }


def test_the_sdist_carries_the_sources_of_the_helper_and_nothing_built(sdist: Path, sources: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    c_files = {f"{place}/{path.name}" for place in ("csrc", "bench/floor") for path in (sources / place).iterdir()}
    ours = package_files(sources) | recipe_files(sources) | episode_files(sources)
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", *c_files, *ours} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc", "lisrt-helper", "lisrt-floor"))]


def test_the_sdist_installs_in_a_clean_environment_and_runs_a_sandbox(sdist: Path, tmp_path: Path) -> None:
    python = clean_venv(tmp_path / "venv")
    installed = pip("install", sdist, python=python)
    assert installed.returncode == 0, installed.stdout
    script = "from lisrt import Sandbox\nwith Sandbox() as box: print(box.run(['echo', 'ready']).stdout)"
    ran = run(python, "-I", "-W", "error", "-c", script)
    assert (ran.returncode, ran.stdout.strip()) == (0, "ready"), ran.stdout


def test_an_editable_install_builds_the_helper_in_place(sources: Path, tmp_path: Path) -> None:
    checkout = copy(sources, tmp_path / "checkout")
    python = clean_venv(tmp_path / "venv")
    installed = pip("install", "--no-deps", "-e", checkout, python=python)
    assert installed.returncode == 0, installed.stdout
    assert os.access(checkout / "lisrt" / "_helper" / "lisrt-helper", os.X_OK)
    assert (checkout / "lisrt" / "kernel" / "_native.abi3.so").exists()
    found = run(python, "-c", "import importlib.util; print(importlib.util.find_spec('lisrt').origin)")
    assert Path(found.stdout.strip()) == checkout / "lisrt" / "__init__.py"


@pytest.mark.parametrize("editable", [[], ["-e"]], ids=["install", "editable"])
def test_a_missing_compiler_is_one_line_that_names_the_fix(
    editable: list[str], sources: Path, tmp_path: Path
) -> None:
    checkout = copy(sources, tmp_path / "checkout")
    python = clean_venv(tmp_path / "venv")
    (tmp_path / "bin").mkdir()
    done = pip("install", "--no-deps", *editable, checkout, python=python, PATH=str(tmp_path / "bin"))
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert done.returncode != 0
    [said] = [line for line in lines if line.startswith("error: lisrt needs a C compiler")]
    assert said in lines[-10:], "the line must still be on the screen when pip is done"
    assert "install" in said and "Traceback" not in done.stdout


def test_without_a_static_c_library_the_helper_is_dynamic_and_the_build_says_so(
    sources: Path, tmp_path: Path
) -> None:
    checkout = copy(sources, tmp_path / "checkout")
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\nfor flag; do [ "$flag" = -static ] && exit 1; done\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    done = pip("wheel", "-v", "--no-deps", "-w", tmp_path, checkout, CC=str(compiler))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("the helper is linked dynamically") == 1
    [path] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        helper = Path(archive.extract("lisrt/_helper/lisrt-helper", tmp_path))
    assert is_dynamic(helper)


def test_the_version_is_written_once(wheel: Path, sources: Path) -> None:
    version = tomllib.loads((sources / "pyproject.toml").read_text())["project"]["version"]
    assert wheel.name.startswith(f"lisrt-{version}-")
    assert not [path for path in (sources / "lisrt").rglob("*.py") if f'"{version}"' in path.read_text()]
