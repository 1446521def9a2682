"""Writes the seed corpus, tests/fuzz/corpus/*, and the dictionaries from real plans and messages. Run it, and commit
what it writes, when the wire format changes:  .venv/bin/python tests/fuzz/seeds.py"""

import shutil
import struct
from pathlib import Path

from lisrt.image import Root
from lisrt.kernel import steps, wire
from lisrt.plan import make_plan
from lisrt.spec import Mount

HERE = Path(__file__).resolve().parent
IMAGE = Root(("/layers/skeleton",), (("/usr", "usr"), ("/lib64", "lib64")))


def plan(**changes: object) -> bytes:
    options = {"root": IMAGE, "network": "none", "mounts": (), "workdir": "/testbed", "user": 0, "hostname": "sandbox"}
    return make_plan(**{**options, **changes}).encoded  # type: ignore[arg-type]


def plans() -> dict[str, bytes]:
    smallest = (steps.Namespaces(0), steps.Overlay(("/l",)), steps.User(0, 0))
    limits = tuple(steps.Rlimit(number, 1, 2) for number in range(4))
    return {
        "default": plan(),
        "host-network": plan(network="host", user=1000),
        "mounts": plan(mounts=(Mount("/", "/a"), Mount("/", "/a/b", writable=True)), workdir="/a/b/c"),
        "layers": plan(root=Root(("/top", "/middle", "/bottom"))),
        "limits": steps.encode((*smallest[:2], *limits, *smallest[2:], steps.NoNesting())),
        "smallest": steps.encode(smallest),
        "too-many-layers": steps.encode((smallest[0], steps.Overlay(("/l",) * 501), smallest[2])),
        "no-user": steps.encode(smallest[:2]),
        "nothing": b"",
    }


def record(message: bytes, fds: int = 0, memory: int = 0, body: bytes = b"") -> bytes:
    """One record of fuzz_messages.c."""
    return struct.pack("=BBHH", fds, memory, len(message), len(body)) + message + body


def execution(flags: int, argv: list[bytes], env: list[bytes], timeout: float | None = None) -> tuple[bytes, bytes]:
    return wire.encode_exec(flags, b"/testbed", argv, env, timeout, (1, 80))


def messages() -> dict[str, bytes]:
    flags = wire.STDIN | wire.STDOUT | wire.STDERR
    header, strings = execution(flags, [b"true"], [b"PATH=/usr/bin", b"A="], 1.5)
    output_header, _ = execution(wire.STDOUT | wire.STDERR, [b"sh", b"-c", b""], [])
    in_memory, _ = execution(flags | wire.BODY, [b"true"], [b"PATH=/usr/bin", b"A="])
    terminal, shell = execution(wire.ON_TERMINAL, [b"sh"], [])
    return {
        "exec": record(header + strings, fds=4),
        "exec-output": record(output_header + b"/\0sh\0-c\0\0", fds=3),
        "exec-in-memory": record(in_memory, fds=5, memory=1, body=strings),
        "exec-terminal": record(terminal + shell, fds=1),
        "exec-cut": record(header + strings[:-1], fds=4) + record(header[:-1], fds=1),
        "exec-without-a-socket": record(header + strings) + record(in_memory, fds=1, memory=1, body=strings),
        "too-many-descriptors": record(header + strings, fds=7),
        "others": record(wire.encode_plain(wire.FILES), fds=1)
        + record(wire.encode_plain(wire.DRAIN), fds=2)
        + record(wire.encode_plain(wire.MEMORY), fds=1)
        + record(wire.encode_plain(wire.COLLECT))
        + record(wire.encode_plain(wire.QUIT)),
        "create": record(wire.encode_create("b0123456789abcdef", plan()), fds=1),
        "create-smallest": record(wire.encode_create("b", plans()["smallest"]), fds=1) + record(wire.encode_kill("b")),
        "create-bad-names": record(wire.encode_create("../etc", b"")) + record(wire.encode_kill("")),
    }


def asked(*requests: bytes, padding: int = 0) -> bytes:
    """The records of fuzz_files.c."""
    return b"".join(struct.pack("=HH", len(request), padding) + request for request in requests)


def requests() -> dict[str, bytes]:
    ask = wire.encode_file_request
    return {
        "read": asked(ask(wire.OPEN_READ, b"/file"), ask(wire.OPEN_READ, b"/link"), ask(wire.OPEN_READ, b"/fifo")),
        "write": asked(ask(wire.OPEN_WRITE, b"/a/b/c", 0o644), ask(wire.OPEN_WRITE, b"/file", 0o600)),
        "write-badly": asked(ask(wire.OPEN_WRITE, b"/dir"), ask(wire.OPEN_WRITE, b"/readonly"), ask(wire.OPEN_WRITE, b"/x/")),
        "list": asked(ask(wire.SYMLINK, b"/dir/l", 0, b"to"), ask(wire.LIST, b"/dir"), ask(wire.LIST, b"/file")),
        "mkdir": asked(ask(wire.MKDIR, b"/d/e/f", 0o755), ask(wire.MKDIR, b"/dir", 0o755), ask(wire.MKDIR, b"/file/x", 0)),
        "symlink": asked(ask(wire.SYMLINK, b"/link", 0, b"/dir"), ask(wire.SYMLINK, b"/n/o", 0, b""), ask(wire.STAT, b"/n")),
        "stat": asked(ask(wire.STAT, b"/loop"), ask(wire.STAT, b"/dir/up/file"), ask(wire.STAT, b"/shut/x")),
        "magic": asked(ask(wire.OPEN_READ, b"/magic"), ask(wire.OPEN_WRITE, b"/proc/self/fd/1")),
        "proc": asked(ask(wire.LIST, b"/proc/self/fd"), ask(wire.STAT, b"/proc/self/fd/0")),
        "relative": asked(ask(wire.STAT, b"file"), ask(wire.STAT, b""), ask(99, b"/file")),
        "too-long": asked(ask(wire.STAT, b"/")[:-2], padding=4200) + asked(ask(wire.STAT, b"/"), padding=5000),
        "broken": asked(b"", b"x", ask(wire.STAT, b"/file")[:-1]),
    }


def dictionary(words: list[bytes]) -> str:
    """libFuzzer's form of it."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)


def main() -> None:
    magic = struct.pack("=I", wire.MAGIC)
    kinds = [struct.pack("=HH", kind.kind, count) for kind in steps.Step.__subclasses__() for count in (0, 1, 2)]
    paths = [b"..", b"/..", b"//", b"/proc/self/fd/0", b"/file\0", b"/dir\0", b"/dir/up/", b"/link\0", b"/fifo\0"]
    numbers = (1, 2, 16, 17, 18, 32, 33, 34, 35, 36)
    words = {
        "plan": [magic, *kinds, *paths[:3]],
        "messages": [*(magic + struct.pack("=I", number) for number in numbers), struct.pack("=H", 40), b"PATH="],
        "files": [*(magic + struct.pack("=II", wire.FILE, op) for op in range(7)), *paths],
    }
    for target, seeds in {"plan": plans(), "messages": messages(), "files": requests()}.items():
        folder = HERE / "corpus" / target
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in seeds.items():
            (folder / name).write_bytes(data)
        (HERE / f"{target}.dict").write_text(dictionary(words[target]))


if __name__ == "__main__":
    main()
