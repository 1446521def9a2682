"""One sandbox as flows, which `Sandbox` drives and `AsyncSandbox` awaits. Not for users."""

from __future__ import annotations

import contextlib
import copy
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from lisrt import channel, files, guarantees, identity, process, spawner, spec, transfer
from lisrt import idmap as subordinate
from lisrt.changes import Change
from lisrt.channel import Channel, Heir, Order
from lisrt.egress.journal import Egress
from lisrt.egress.proxy import Proxy
from lisrt.enforcement import Enforcement, choose, wants_groups
from lisrt.errors import ImageError, LisrtError, SandboxGone
from lisrt.explain import limit_error
from lisrt.follower import Follower, restart, twins
from lisrt.gate import Gate
from lisrt.image import Root, resolve_name
from lisrt.kernel.bubblewrap import Program
from lisrt.limits import Limits, shorter, writable_layer
from lisrt.nat.policy import Nat
from lisrt.passwd import Account
from lisrt.plan import DEFAULT_WORKDIR, Plan, make_plan
from lisrt.publish import AnyPorts, Ports, finished
from lisrt.result import ExecResult, Transfer
from lisrt.snapshot import Image, coming, flattened, take, written
from lisrt.spawned import Spawner
from lisrt.spec import Argument, Mount
from lisrt.store.catalog import checked_name
from lisrt.uplink import AnyNetwork, Uplink, counted
from lisrt.waiting import Flow, Offload
from lisrt.writable import check_kept, check_launcher, check_together


class Box:
    """The flows that both faces drive."""

    def __init__(
        self,
        image: str | Image | None,
        limits: Limits | None,
        network: AnyNetwork,
        mounts: Sequence[Mount],
        env: Mapping[str, str] | None,
        workdir: str | None,
        user: int | str | None,
        hostname: str | None,
        launcher: str,
        writable: str,
        idmap: str = "single",
        ports: AnyPorts = (),
    ) -> None:
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError('limits is a Limits object: limits=Limits(memory="200MiB")')
        self.limits = limits or Limits()
        self.by = Enforcement()
        if image is not None and not isinstance(image, (str, Image)):
            raise TypeError(f"image is a name, an Image or None, not {type(image).__name__}")
        self.image_name = image.name if isinstance(image, Image) else resolve_name(image)
        self.base = image if isinstance(image, Image) else None
        """What `reset` goes back to, when that is a snapshot."""
        self.uplink = Uplink(network)
        self.launcher, self.idmap = spawner.resolve(launcher), idmap
        if idmap not in subordinate.IDMAPS:
            raise ValueError(f"idmap must be one of {', '.join(subordinate.IDMAPS)}: {idmap!r}")
        self.bubblewrap: Program | None = None
        self.mounts = spec.mounts_of(mounts)
        self.mounts += self.uplink.mounts(self.mounts)
        self.extra_env = spec.environment(env)
        self.asked_workdir = None if workdir is None else spec.absolute(workdir, what="workdir")
        self.asked_user = spec.user_name(user)
        self.tmpfs, self.read_only = writable_layer(writable), writable == "none"
        check_together(self.tmpfs, self.limits, self.mounts if self.read_only else ())
        self.hostname = spec.host_name(hostname)
        self.files: tuple[Mount, ...] = ()
        """Of a network, beside what was asked for."""
        self.root = Root(())
        self.account = Account("root", 0, 0, "/root")
        self.env: dict[bytes, bytes] = {}
        self.shell: list[bytes] | None = None
        self.home: Spawner | None = None
        self._channel: channel.Channel | None = None
        self._closed = False
        self.gate = Gate()
        self.ports = Ports(self, ports, self.uplink.kind)

    @property
    def channel(self) -> channel.Channel:
        if self._channel is None:
            raise SandboxGone("the sandbox is closed" if self._closed else "the sandbox was not entered: use `async with`")
        return self._channel

    @property
    def alive(self) -> bool:
        return self._channel is not None and self._channel.alive

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    @property
    def workdir(self) -> str:
        return self.asked_workdir or self.root.workdir or DEFAULT_WORKDIR

    # Its life

    def open(self) -> Flow[None]:
        yield from self.ports.around(self._open())

    def _open(self) -> Flow[None]:
        for last_try in (False, True):
            home = yield from self._settle()
            try:
                self._channel = yield from channel.create(self._order(home))
                return
            except SandboxGone:
                if last_try or not (yield Offload(partial(home.dead_within, 0.1))):
                    raise  # else somebody has killed the spawner: that was not this sandbox's fault, so another one
            except OSError as error:
                raise limit_error(error, "make a sandbox") or error from None

    def _settle(self) -> Flow[Spawner]:
        if self.base is not None:
            home, self.root = self.base.ready(self.launcher, self.idmap), self.base.root
        else:
            # the common case without a worker thread: a spawner that runs and has the image ready
            found = spawner.running(self.launcher, self.idmap)
            root = found.roots.ready(self.image_name) if found else None
            if found is None or root is None:
                found = yield Offload(partial(spawner.current, self.launcher, self.idmap))
                root = yield Offload(partial(found.roots.get, self.image_name))
            home, self.root = found, root
        self.files = yield from self.uplink.prepare(home, self.mounts)
        check_launcher(self.tmpfs, is_bubblewrap=home.bubblewrap is not None)
        self.by = choose(self.limits, (yield from self._controllers(home)))
        self.account = identity.account(self.root, self.asked_user, self.image_name, is_snapshot=self.base is not None)
        if self.idmap == "subuid":
            subordinate.require(self.account.uid, self.account.gid)
        self.env = {**identity.variables(self.account, self.root, self.uplink.variables()), **self.extra_env}
        self.home, self.bubblewrap = home, home.bubblewrap
        return home

    def settle(self) -> Flow[Plan]:
        """Has everything chosen and prepared that a plan is made from; makes nothing."""
        yield from self._settle()
        return self.plan()

    def _controllers(self, home: Spawner) -> Flow[Mapping[str, int]]:
        if not wants_groups(self.limits):
            return {}
        known = home.known_controllers(self.limits.enforce)
        return known if known is not None else (yield Offload(partial(home.find_controllers, self.limits.enforce)))

    def plan(self, root: Root | None = None) -> Plan:
        return make_plan(
            root or self.root,
            network=self.uplink.namespace,
            mounts=self.mounts + self.files,
            workdir=self.workdir,
            user=self.account.uid,
            group=self.account.gid,
            hostname=self.hostname,
            tmpfs=self.tmpfs,
            read_only=self.read_only,
            limits=self.limits,
            by=self.by,
            real_ids=self.idmap == "subuid",
        )

    def _order(self, home: Spawner, root: Root | None = None) -> Order:
        root = root or self.root
        return Order(home, self.plan(root), root.trusted, self.uplink.proxy, self.uplink.line(self.hostname))

    def close(self) -> Flow[None]:
        self._closed = True
        ending = self.ports.close()
        if self._channel is not None:
            yield from self._channel.close()
        self.base = None  # and with it, perhaps, the layers that it was the last to need
        yield from finished(ending)

    # Its files as a whole

    def snapshot(self, name: str | None) -> Flow[Image]:
        """Freezes what was written so far; this sandbox goes on above it, with new processes."""
        if name is not None:
            checked_name(name)
        image, _ = yield from self._branch(0)
        if name is not None:
            yield Offload(partial(image.save, name))
            image = replace(image, name=name)
        return image

    def fork(self, count: int) -> Flow[list[Box]]:
        """So many more sandboxes that begin with what this one has now."""
        if isinstance(count, bool) or operator.index(count) < 1:
            raise ValueError(f"fork(n) makes 1 sandbox or more, not {count!r}")
        return (yield from self._branch(count))[1]

    def _branch(self, count: int) -> Flow[tuple[Image, list[Box]]]:
        check_kept(self.tmpfs)
        with self.gate.alone():
            home, old = (yield from self.home_here()), self.channel
            yield from self.uplink.prepare(home, ())
            image, heir = coming(home, self.image_name, self.root, self.base), Heir(old.guest, old.wire)
            with Follower(old) as first:
                yield from first.begin(self._order(home, image.root), inherits=not count)
                take(home, old, image)
                self.base, self.root = image, image.root
                image.frozen[0].own()
                made = yield from self._replace(home, old, self._grow(home, old, count, first, heir), heir)
            return self.base, [self._twin(one) for one in made]

    def _grow(self, home: Spawner, old: Channel, count: int, first: Follower, heir: Heir) -> Flow[list[Channel]]:
        """This sandbox again, with its network, and others like it."""
        assert self.base is not None, "it has just been frozen"
        self.base = yield from flattened(self.base)
        self.root = self.base.root
        order = self._order(home)
        if not count:
            return (yield from self._go_on(order, first, heir))
        yield from first.go(order)
        made, self._channel = yield from twins(order, count, first, old, heir)
        return made

    def reset(self, to: Image | None) -> Flow[None]:
        """Forgets what was written since the last snapshot, or goes to another one."""
        with self.gate.alone():
            home, old = (yield from self.home_here()), self.channel
            if to is not None and to.ready(self.launcher, self.idmap) is not home:
                raise ImageError("the snapshot belongs to sandboxes of another launcher")
            yield from self.uplink.prepare(home, ())
            root, keeps = to.root if to else self.root, old.wire is not None  # bytes that it has used up count on
            heir = Heir(old.guest, old.wire, is_wanted=keeps)
            order = self._order(home, root)
            with Follower(old) as other:
                yield from other.begin(order, inherits=keeps)
                if to is not None:
                    self.base, self.root = to, root
                yield from self._replace(home, old, self._go_on(order, other, heir), heir)

    def _go_on(self, order: Order, other: Follower, heir: Heir) -> Flow[list[Channel]]:
        yield from other.go(order, heir)
        self._channel = yield from other.arrive(order)
        return []

    def _replace(self, home: Spawner, old: Channel, make: Flow[list[Channel]], heir: Heir) -> Flow[list[Channel]]:
        """Ends a sandbox and makes what is to follow. Whatever goes wrong, or interrupts: it is started again on its files.

        `heir` gets its network meanwhile.
        """
        is_dead = True
        made: list[Channel] = []
        try:
            is_dead = yield from old.close(heir)
            self.ports.cut()
            if not is_dead:
                raise SandboxGone(f"sandbox {old.name} did not end within some seconds, and its files can't be relied on")
            made = yield from make
        except GeneratorExit:
            raise
        except BaseException as error:
            if is_dead and self._channel is old:
                with contextlib.suppress(LisrtError, OSError):
                    self._channel = yield from restart(self._order(home), old, heir, is_patient=isinstance(error, Exception))
            if isinstance(error, OSError):
                raise limit_error(error, "make a sandbox") or error from None
            raise
        finally:
            make.close()
            heir.close()
            old.forget()
            if self._closed and self._channel is not None:  # by another thread meanwhile
                self.base = None
                for one in [*made, self._channel]:
                    one.abandon()
        if self._closed:
            raise self.channel.gone()
        return made

    def diff(self) -> Flow[list[Change]]:
        """What was written since the last snapshot, or since the start."""
        check_kept(self.tmpfs)
        with self.gate.using():
            home = yield from self.home_here()
            return (yield from written(home, self.channel, self.root))

    def home_here(self) -> Flow[Spawner]:
        yield from self.channel.arrived()
        assert self.home is not None, "what has a channel has one"
        return self.home

    def _twin(self, one: Channel) -> Box:
        twin = copy.copy(self)
        twin._channel, twin.gate, twin.uplink = one, Gate(), copy.copy(self.uplink)
        twin.ports = Ports(twin, (), twin.uplink.kind)
        return twin

    # Commands and files

    def command(
        self,
        argv: Sequence[Argument],
        timeout: float | None,
        stdin: str | bytes | None,
        env: Mapping[str, str] | None,
        cwd: str | None,
        merge_stderr: bool,
        max_output: int,
    ) -> process.Command:
        data = b"" if stdin is None else spec.octets(stdin, what="stdin is str, bytes or None")
        variables = {**self.env, **spec.environment(env)}
        return process.Command(
            argv=spec.arguments(argv),
            env=[name + b"=" + value for name, value in variables.items()],
            cwd=os.fsencode(self.workdir) if cwd is None else spec.located(cwd, base=self.workdir),
            stdin=data,
            timeout=shorter(spec.seconds(timeout), self.limits.wall_time),
            merge_stderr=merge_stderr,
            max_output=max_output,
            limits=self.limits,
        )

    def memory(self) -> Flow[int]:
        """Bytes that PID 1 takes, its share of shared pages counted (PSS)."""
        return (yield from process.memory(self.channel))

    def run(self, command: process.Command) -> Flow[ExecResult]:
        with self.gate.using():
            return (yield from self._execute(command))

    def _execute(self, command: process.Command) -> Flow[ExecResult]:
        return (yield from counted(process.execute(self.channel, command), self.channel))

    def sh(self, script: str, command: process.Command) -> Flow[ExecResult]:
        with self.gate.using():
            return (yield from self._sh(script, command))

    def _sh(self, script: str, command: process.Command) -> Flow[ExecResult]:
        for shell in ([self.shell] if self.shell else [[b"bash", b"-c"], [b"sh", b"-c"]]):
            command.argv[:] = [*shell, os.fsencode(script)]
            result = yield from self._execute(command)
            if result.started:
                self.shell = shell
                break
        return result

    def write(self, path: Argument, data: str | bytes, mode: int) -> Flow[None]:
        raw = spec.octets(data)
        with self.gate.using():
            yield from files.write(self.channel, spec.located(path, base=self.workdir), raw, spec.permissions(mode))

    def read(self, path: Argument, max_bytes: int | None) -> Flow[bytes]:
        with self.gate.using():
            return (yield from files.read(self.channel, spec.located(path, base=self.workdir), max_bytes))

    def upload(self, host_path: Argument, path: Argument) -> Flow[Transfer]:
        target = spec.located(path, base=self.workdir)
        with self.gate.using():
            return (yield from transfer.upload(self.channel, os.fsdecode(host_path), target))

    def download(self, path: Argument, host_path: Argument, max_bytes: int | None) -> Flow[Transfer]:
        source = spec.located(path, base=self.workdir)
        with self.gate.using():
            return (yield from transfer.download(self.channel, source, os.fsdecode(host_path), max_bytes))

    def publish(self, port: int, host_port: int) -> Flow[int]:
        with self.gate.using():
            yield from self.channel.arrived()
            return self.ports.publish(port, host_port)

    def set_network(self, network: Proxy | Nat | str) -> Flow[None]:
        yield from self.uplink.change(network, self.channel)

    def egress(self) -> list[Egress]:
        guest = self.channel.guest
        return guest.journal.records() if guest is not None else []

    def guarantees(self) -> Mapping[str, str]:
        if self._channel is None:
            _ = self.channel  # raises: nothing has been chosen yet
        return guarantees.rows(
            limits=self.limits,
            by=self.by,
            network=self.uplink.describe(),
            user=self.account.uid,
            real_ids=self.idmap == "subuid",
            mounts=self.mounts,
            scratch=self.home.scratch if self.home else "",
            tmpfs=self.tmpfs,
            read_only=self.read_only,
            program=self.bubblewrap,
            asked_for=self.launcher,
        )
