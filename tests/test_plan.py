"""The plan: what it says, how it is encoded, and that the helper's decoder takes it and nothing else."""

import inspect
import os
import resource
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisrt import Limits, Sandbox
from lisrt.enforcement import Enforcement
from lisrt.image import Root
from lisrt.kernel import steps
from lisrt.kernel.native import check_plan
from lisrt.kernel.wire import MAGIC
from lisrt.plan import Plan, make_plan
from lisrt.spec import Mount, absolute

HOST = Root(("/layers/skeleton",), (("/usr", "usr"), ("/lib64", "lib64")))

DESCRIPTION = """\
 1. create namespaces: pid, mount, net, ipc, uts, cgroup
 2. mount the root: a writable layer over /layers/skeleton
 3. mount a fresh proc on /proc, read-only, and hide what it tells about the host
 4. mount the read-only device directory on /dev
 5. mount a new devpts on /dev/pts
 6. mount a tmpfs of 64 MiB and 16384 inodes on /dev/shm
 7. make the directory /tmp, mode 1777
 8. bind the host's /usr on /usr, read-only
 9. bind the host's /lib64 on /lib64, read-only
10. make the directory /testbed, mode 0755
11. set the host name to sandbox
12. bring the loopback interface up
13. enter a nested user namespace as uid 0, gid 0
14. forbid further namespaces
15. drop every capability, set no_new_privs
16. allow the system calls of an ordinary program only; chown, setuid and mknod succeed and do nothing
17. become PID 1"""


def plan_of(**changes: object) -> Plan:
    """The plan of a sandbox with default options, but for the changes."""
    options = {"root": HOST, "network": "none", "mounts": (), "workdir": "/testbed", "user": 0, "hostname": "sandbox"}
    return make_plan(**{**options, **changes})  # type: ignore[arg-type]


def packed(kind: int, *strings: bytes, numbers: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """One step as the wire format has it, written down apart from lisrt's own encoder."""
    head = struct.pack("=HHQQQ", kind, len(strings), *numbers)
    return head + b"".join(struct.pack("=I", len(text)) + text + b"\0" for text in strings)


def whole(*parts: bytes, count: int | None = None) -> bytes:
    """A plan of the given encoded steps."""
    return struct.pack("=II", MAGIC, len(parts) if count is None else count) + b"".join(parts)


# What a plan says


def test_limits_are_steps() -> None:
    """Each where it can be carried out; the set of CPUs is kept by the filter."""
    limits = Limits("100MiB", cpus=2, pids=64, disk="1GiB", files=1000, open_files=256)
    plan = plan_of(limits=limits, by=Enforcement(steps.BY_OURSELVES, steps.BY_OURSELVES, steps.BY_OURSELVES))
    assert plan.steps[-7:] == (
        steps.Memory(100 << 20, 0, steps.BY_OURSELVES),
        steps.Cpus(2000, steps.BY_OURSELVES),
        steps.Disk(1 << 30, 1000),
        steps.User(0, 0),
        steps.NoNesting(),
        steps.Pids(64, steps.BY_OURSELVES),
        steps.Filter(steps.Filter.EMULATE_ROOT | steps.Filter.KEEP_CPUS),
    )
    assert steps.Tmpfs("dev/shm", 50 << 20, 16384, 0o1777) in plan.steps
    assert steps.Rlimit(resource.RLIMIT_NOFILE, 256, 256) in plan.steps
    assert steps.Rlimit(resource.RLIMIT_FSIZE, 1 << 30, 1 << 30) in plan.steps
    check_plan(plan.encoded)


def test_the_description_of_the_host_plan() -> None:
    """The plan of a default sandbox in words, one numbered line a step."""
    assert plan_of().describe() == DESCRIPTION


def test_the_encoding_of_the_host_plan() -> None:
    """The plan of a default sandbox in bytes: the order, the kinds and the numbers are the wire format."""
    assert plan_of().encoded == whole(
        packed(1, numbers=(0x4E000000, 0, 0)),
        packed(2, b"/layers/skeleton"),
        packed(4, b"proc"),
        packed(5, b"dev"),
        packed(6, b"dev/pts"),
        packed(7, b"dev/shm", numbers=(67108864, 16384, 0o1777)),
        packed(8, b"tmp", numbers=(0o1777, 1, 0)),
        packed(3, b"/usr", b"usr", numbers=(2, 0, 0)),
        packed(3, b"/lib64", b"lib64", numbers=(2, 0, 0)),
        packed(8, b"testbed", numbers=(0o755, 0, 0)),
        packed(9, b"sandbox"),
        packed(10),
        packed(12),
        packed(13),
        packed(14, numbers=(1, 0, 0)),
    )
    assert struct.pack("=I", MAGIC) == b"LIS1"


def test_the_decoder_takes_the_host_plan() -> None:
    """And counts its steps."""
    assert check_plan(plan_of().encoded) == 15


def test_the_network_of_the_host_has_no_namespace_and_no_loopback_step() -> None:
    """network="host" differs from "none" in exactly these two, and the plan shows it."""
    isolated, shared = plan_of(), plan_of(network="host")
    assert set(isolated.steps) - set(shared.steps) == {isolated.steps[0], steps.Loopback()}
    assert "net" not in shared.describe().splitlines()[0]
    assert check_plan(shared.encoded) == 14


@pytest.mark.parametrize("workdir", ["/", "/tmp"])
def test_a_workdir_that_is_there_is_not_made(workdir: str) -> None:
    """/ and /tmp exist; making them again could only spoil their mode."""
    made = [step for step in plan_of(workdir=workdir).steps if isinstance(step, steps.Directory)]
    assert made == [steps.Directory("tmp", 0o1777, exact=True)]
    check_plan(plan_of(workdir=workdir).encoded)


def test_mounts_come_after_what_they_lie_in(tmp_path: os.PathLike[str]) -> None:
    """A mount below another one's target comes later, in whatever order they were given; each says what it allows."""
    mounts = (
        Mount(tmp_path, "/data/sub/deep", writable=True),
        Mount(tmp_path, "/data-other"),
        Mount(tmp_path, "/data/sub"),
        Mount(tmp_path, "/data"),
    )
    for order in (mounts, mounts[::-1]):
        plan = plan_of(mounts=order)
        binds = [(step.target, step.mode) for step in plan.steps if isinstance(step, steps.Bind)][len(HOST.binds) :]
        assert binds == [("data", 0), ("data/sub", 0), ("data/sub/deep", 1), ("data-other", 0)]
        assert plan.describe().count("WRITABLE") == 1
        check_plan(plan.encoded)


def test_the_images_own_binds_come_before_the_users() -> None:
    """What the user mounts may cover what the image shows, not the other way round."""
    plan = plan_of(mounts=(Mount("/", "/lib64"), Mount("/", "/a")))
    assert [step for step in plan.steps if isinstance(step, steps.Bind)] == [
        steps.Bind("/usr", "usr", steps.Bind.OF_IMAGE),
        steps.Bind("/lib64", "lib64", steps.Bind.OF_IMAGE),
        steps.Bind("/", "a"),
        steps.Bind("/", "lib64"),
    ]
    check_plan(plan.encoded)


def test_layers_share_one_overlay() -> None:
    """The topmost first, in the order of the image."""
    plan = plan_of(root=Root(("/top", "/middle", "/bottom")))
    assert plan.steps[1] == steps.Overlay(("/top", "/middle", "/bottom"))
    assert "over /top over /middle over /bottom" in plan.describe()
    check_plan(plan.encoded)


def test_a_plan_is_a_pure_function() -> None:
    """Equal arguments give equal plans, hashable and without a sandbox's name."""
    assert plan_of() == plan_of()
    assert hash(plan_of()) == hash(plan_of())
    assert plan_of(user=1000) != plan_of()
    assert plan_of(user=1000).steps[-3] == steps.User(1000, 1000)
    assert plan_of(user=1000).steps[-1] == steps.Filter(0)


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    """A path of the host that isn't UTF-8 reaches the kernel unchanged."""
    bind = steps.Bind(os.fsdecode(b"/caf\xe9"), "x", False)
    assert packed(3, b"/caf\xe9", b"x") in steps.encode((bind,))


# Every kind of step, and the decoder's opinion of it

SAMPLES: dict[type[steps.Step], steps.Step] = {
    steps.Namespaces: steps.Namespaces(steps.NEWIPC | steps.NEWUTS | steps.NEWNET | steps.NEWCGROUP),
    steps.Overlay: steps.Overlay(("/upper", "/lower")),
    steps.Bind: steps.Bind("/srv/data", "data", True),
    steps.Proc: steps.Proc("proc"),
    steps.Dev: steps.Dev("dev"),
    steps.Devpts: steps.Devpts("dev/pts"),
    steps.Tmpfs: steps.Tmpfs("dev/shm", 1 << 40, 1 << 33, 0o1777),
    steps.Directory: steps.Directory("a/b/c", 0o7777),
    steps.Hostname: steps.Hostname("h" * 64),
    steps.Loopback: steps.Loopback(),
    steps.Rlimit: steps.Rlimit(resource.RLIMIT_NOFILE, 1024, 4096),
    steps.User: steps.User(65534, 65534),
    steps.NoNesting: steps.NoNesting(),
    steps.Filter: steps.Filter(steps.Filter.EMULATE_ROOT | steps.Filter.KEEP_CPUS),
    steps.Memory: steps.Memory(200 << 20, 1 << 20, steps.BY_CGROUP),
    steps.Pids: steps.Pids(64, steps.BY_OURSELVES),
    steps.Cpus: steps.Cpus(1500, steps.BY_CGROUP),
    steps.Disk: steps.Disk(1 << 30, 100_000),
    steps.ReadOnly: steps.ReadOnly(),
}
BEFORE_THE_USER = (steps.Proc, steps.Dev, steps.Devpts, steps.Tmpfs, steps.Directory, steps.Bind, steps.ReadOnly)
KINDS = [kind for kind in vars(steps).values() if inspect.isclass(kind) and steps.Step in kind.__bases__]


def plan_with(*extra: steps.Step) -> tuple[steps.Step, ...]:
    """A small valid plan that holds the given steps where they belong."""
    begin: list[steps.Step] = [
        next((step for step in extra if isinstance(step, steps.Namespaces)), steps.Namespaces(0)),
        next((step for step in extra if isinstance(step, steps.Overlay)), steps.Overlay(("/lower",))),
    ]
    files = [step for step in extra if isinstance(step, BEFORE_THE_USER)]
    machine = steps.Hostname | steps.Loopback | steps.Rlimit | steps.Memory | steps.Cpus | steps.Disk
    system = [step for step in extra if isinstance(step, machine)]
    late = [step for step in extra if isinstance(step, steps.NoNesting | steps.Pids | steps.Filter)]
    user = next((step for step in extra if isinstance(step, steps.User)), steps.User(0, 0))
    return (*begin, *files, *system, user, *late)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_decoder_takes_every_kind_of_step(kind: type[steps.Step]) -> None:
    """Each kind that Python can encode, the helper decodes; each describes itself in one line."""
    sample = SAMPLES[kind]
    plan = plan_with(sample)
    assert sample in plan
    assert check_plan(steps.encode(plan)) == len(plan)
    assert sample.describe() and "\n" not in sample.describe()


def test_python_and_the_helper_know_the_same_kinds() -> None:
    """The numbers run from 1 without a gap, and the helper knows none beyond them."""
    assert sorted(kind.kind for kind in KINDS) == list(range(1, len(KINDS) + 1))
    for number in (0, len(KINDS) + 1, 0xFFFF):
        with pytest.raises(ValueError, match="unknown kind"):
            check_plan(whole(packed(1), packed(2, b"/lower"), packed(number), packed(12)))


NAMESPACES, ROOT, USER = packed(1), packed(2, b"/lower"), packed(12)

#: Plans that could be made by mistake or by malice, with a word of the reason for which they are refused.
REFUSED = {
    "nothing": (b"", "not a plan"),
    "another magic": (struct.pack("=II", MAGIC + 1, 0), "not a plan"),
    "no step": (whole(), "begins with"),
    "no root": (whole(NAMESPACES, USER), "begins with"),
    "no namespaces": (whole(ROOT, USER), "begins with"),
    "no user": (whole(NAMESPACES, ROOT), "one root and one user"),
    "two users": (whole(NAMESPACES, ROOT, USER, USER), "one root and one user"),
    "namespaces twice": (whole(NAMESPACES, ROOT, NAMESPACES, USER), "out of order"),
    "two roots": (whole(NAMESPACES, ROOT, ROOT, USER), "one root and one user"),
    "files after the system": (whole(NAMESPACES, ROOT, packed(10), packed(4, b"proc"), USER), "out of order"),
    "the system after the user": (whole(NAMESPACES, ROOT, USER, packed(9, b"name")), "out of order"),
    "files after the user": (whole(NAMESPACES, ROOT, USER, packed(3, b"/", b"x")), "out of order"),
    "257 steps": (whole(NAMESPACES, ROOT, *[packed(4, b"proc")] * 254, USER), "not a plan"),
    "a count too large": (whole(NAMESPACES, ROOT, USER, count=4), "cut short"),
    "a count too small": (whole(NAMESPACES, ROOT, USER, packed(13), count=3), "after the last"),
    "one of 128 KiB": (whole(NAMESPACES, ROOT, *[packed(3, b"/" + b"s" * 4000, b"t")] * 40, USER), "too large"),
    "a user namespace flag": (whole(packed(1, numbers=(0x10000000, 0, 0)), ROOT, USER), "unknown flag"),
    "an overlay without a layer": (whole(NAMESPACES, packed(2), USER), "number of strings"),
    "a relative layer": (whole(NAMESPACES, packed(2, b"lower"), USER), "overlay: lower"),
    "a layer with ..": (whole(NAMESPACES, packed(2, b"/a/../b"), USER), "overlay: lower"),
    "a relative source": (whole(NAMESPACES, ROOT, packed(3, b"etc", b"x"), USER), "bind: source"),
    "a source with ..": (whole(NAMESPACES, ROOT, packed(3, b"/a/..", b"x"), USER), "bind: source"),
    "an absolute target": (whole(NAMESPACES, ROOT, packed(3, b"/etc", b"/x"), USER), "bind: target"),
    "a target with ..": (whole(NAMESPACES, ROOT, packed(3, b"/etc", b"../x"), USER), "bind: target"),
    "a target with .": (whole(NAMESPACES, ROOT, packed(3, b"/etc", b"./x"), USER), "bind: target"),
    "a target with //": (whole(NAMESPACES, ROOT, packed(3, b"/etc", b"a//x"), USER), "bind: target"),
    "a target that ends in /": (whole(NAMESPACES, ROOT, packed(3, b"/etc", b"x/"), USER), "bind: target"),
    "an empty target": (whole(NAMESPACES, ROOT, packed(3, b"/etc", b""), USER), "bind: target"),
    "a target of 4096 bytes": (whole(NAMESPACES, ROOT, packed(4, b"x" * 4096), USER), "target"),
    "an unknown bind flag": (whole(NAMESPACES, ROOT, packed(3, b"/etc", b"x", numbers=(3, 0, 0)), USER), "bind: target"),
    "a tmpfs without a size": (whole(NAMESPACES, ROOT, packed(7, b"x", numbers=(0, 1, 0)), USER), "tmpfs"),
    "a tmpfs without inodes": (whole(NAMESPACES, ROOT, packed(7, b"x", numbers=(1, 0, 0)), USER), "tmpfs"),
    "a tmpfs with an odd mode": (whole(NAMESPACES, ROOT, packed(7, b"x", numbers=(1, 1, 0o10000)), USER), "tmpfs"),
    "a directory with an odd mode": (whole(NAMESPACES, ROOT, packed(8, b"x", numbers=(0o10000, 0, 0)), USER), "directory"),
    "a host name of 65 bytes": (whole(NAMESPACES, ROOT, packed(9, b"h" * 65), USER), "hostname"),
    "an empty host name": (whole(NAMESPACES, ROOT, packed(9, b""), USER), "hostname"),
    "no such limit": (whole(NAMESPACES, ROOT, packed(11, numbers=(16, 0, 0)), USER), "rlimit"),
    "a soft limit above the hard": (whole(NAMESPACES, ROOT, packed(11, numbers=(7, 2, 1)), USER), "rlimit"),
    "a limit that marks commands (RSS)": (whole(NAMESPACES, ROOT, packed(11, numbers=(5, 1, 1)), USER), "rlimit"),
    "a limit that marks commands (LOCKS)": (whole(NAMESPACES, ROOT, packed(11, numbers=(10, 1, 1)), USER), "rlimit"),
    "a user that is no uid": (whole(NAMESPACES, ROOT, packed(12, numbers=(2**32 - 1, 0, 0))), "user"),
    "a group that is no gid": (whole(NAMESPACES, ROOT, packed(12, numbers=(0, 2**40, 0))), "user"),
    "a NUL inside a string": (whole(NAMESPACES, ROOT, packed(9, b"a\0b"), USER), "NUL"),
    "a string without its NUL": (whole(NAMESPACES, ROOT, packed(9, b"name")[:-1] + b"!", USER), "NUL"),
    "a string of 4 GiB": (
        whole(NAMESPACES, ROOT, struct.pack("=HHQQQI", 9, 1, 0, 0, 0, 2**32 - 1) + b"x\0", USER),
        "cut short",
    ),
    "strings where none belong": (whole(NAMESPACES, ROOT, packed(10, b"x"), USER), "number of strings"),
    "65535 strings": (whole(NAMESPACES, ROOT, struct.pack("=HHQQQ", 2, 65535, 0, 0, 0), USER), "number of strings"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plan_is_refused_with_a_reason(name: str) -> None:
    """Nothing that breaks the rules gets past the decoder, and it says why."""
    data, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        check_plan(data)


def test_a_plan_cut_anywhere_is_refused() -> None:
    """No proper beginning of a plan is a plan, and no plan with a byte more is."""
    data = plan_of().encoded
    for end in range(len(data)):
        with pytest.raises(ValueError):
            check_plan(data[:end])
    with pytest.raises(ValueError, match="after the last"):
        check_plan(data + b"\0")


def judged(data: bytes) -> None:
    """The decoder either counts the steps or says why not; anything else, a crash included, is a failure."""
    try:
        assert 2 < check_plan(data) <= 256
    except ValueError as error:
        assert str(error)


@settings(max_examples=300, deadline=None, database=None)
@given(st.binary(max_size=600))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    """Arbitrary bytes, and arbitrary bytes behind a good head."""
    judged(data)
    judged(struct.pack("=II", MAGIC, len(data) % 300) + data)


def encoded_steps() -> st.SearchStrategy[bytes]:
    """Steps that are well-formed on the wire, with any content."""
    numbers = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 0o755, 0o10000, 2**31, 2**32 - 1, 2**64 - 1]))
    words = st.one_of(
        st.sampled_from([b"", b"/", b"proc", b"/usr", b"a/b", b"..", b"a/../b", b"/x/", b"a//b"]),
        st.binary(max_size=80).map(lambda text: text.replace(b"\0", b"")),
    )
    return st.builds(
        lambda kind, strings, a, b, c: packed(kind, *strings, numbers=(a, b, c)),
        st.integers(0, 15),
        st.lists(words, max_size=4),
        numbers,
        numbers,
        numbers,
    )


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(encoded_steps(), max_size=20))
def test_no_steps_crash_the_decoder(parts: list[bytes]) -> None:
    """Well-formed steps with any content, alone and within a good plan."""
    judged(whole(*parts))
    judged(whole(NAMESPACES, ROOT, *parts, USER))


@settings(max_examples=300, deadline=None, database=None)
@given(st.data())
def test_no_mutation_crashes_the_decoder(data: st.DataObject) -> None:
    """A good plan with bytes changed, left out, doubled or moved."""
    plan = bytearray(plan_of().encoded)
    for _ in range(data.draw(st.integers(1, 6), label="how often")):
        at = data.draw(st.integers(0, len(plan) - 1), label="where")
        size = data.draw(st.integers(1, 40), label="how much")
        match data.draw(st.sampled_from(["set", "flip", "cut", "double", "move"]), label="how"):
            case "set":
                plan[at] = data.draw(st.sampled_from([0, 1, 0x2F, 0x7F, 0x80, 0xFF]))
            case "flip":
                plan[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del plan[at : at + size]
            case "double":
                plan[at:at] = plan[at : at + size]
            case _:
                piece = plan[at : at + size]
                del plan[at : at + size]
                to = data.draw(st.integers(0, len(plan)))
                plan[to:to] = piece
        if not plan:
            break
    judged(bytes(plan))


PARTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
PATHS = st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


def is_target(path: str) -> bool:
    """Whether a mount may lie there."""
    return absolute(path) != "/" and absolute(path).split("/")[1] not in ("proc", "dev")


@settings(max_examples=200, deadline=None, database=None)
@given(
    workdir=PATHS,
    targets=st.lists(PATHS.filter(is_target), max_size=5),
    hostname=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=16),
    user=st.integers(0, 2**31 - 1),
    network=st.sampled_from(["none", "host"]),
)
def test_every_plan_that_can_be_asked_for_is_one(
    workdir: str, targets: list[str], hostname: str, user: int, network: str
) -> None:
    """What passes the checks of the arguments passes the helper's: the two agree on what a path and a name are."""
    mounts = tuple(Mount("/", target, writable=bool(number % 2)) for number, target in enumerate(targets))
    plan = plan_of(workdir=absolute(workdir), mounts=mounts, hostname=hostname, user=user, network=network)
    assert check_plan(plan.encoded) == len(plan.steps)
    assert len(plan.describe().splitlines()) >= len(plan.steps) + 1


#: More than a plan can hold: more steps, more bytes, a longer path.
TOO_MUCH: dict[str, dict[str, Any]] = {
    "300 mounts": {"mounts": [Mount("/", f"/m/{number}") for number in range(300)]},
    "mounts of 160 KB": {"mounts": [Mount("/", f"/m/{number}" + "/x" * 2000) for number in range(40)]},
    "a workdir of 6 KB": {"workdir": "/a" * 3000},
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_too_much_is_the_callers_mistake(what: str, working_host: None) -> None:
    """What no plan can hold is a ValueError that says so: not a broken installation, and not a sandbox that died."""
    with pytest.raises(ValueError, match="mounts|workdir|long|large|many"):
        Sandbox(**TOO_MUCH[what]).close()
