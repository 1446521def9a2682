"""What goes into the sandbox before the first turn, and what is taken out after the last."""

from __future__ import annotations

import asyncio
import posixpath
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lisrt.agent.episode import AgentLimits
from lisrt.agent.prompts import Prompts
from lisrt.agent.task import Task
from lisrt.agent.tools.observation import SandboxFault
from lisrt.aio import AsyncSandbox
from lisrt.result import Transfer
from lisrt.spec import Mount

__all__ = ["Collected", "check_without", "collect", "mounted", "prepare"]

# The largest answer file that is read, in bytes.
MAX_ANSWER = 1024 * 1024


async def prepare(box: AsyncSandbox, task: Task, prompts: Prompts, *, writable: bool = True) -> Transfer | None:
    """The directories that the prompt speaks of, and the task's files. Raises LisrtError or SandboxFault.

    Where nothing can be written both are there already.
    """
    if not writable:
        return None
    wanted = [prompts.working_dir, prompts.output_dir, posixpath.dirname(prompts.answer_file)]
    transfer = None
    try:
        if task.input_dir is None:
            wanted.append(prompts.input_dir)
        else:
            transfer = await box.upload(task.input_dir, _place(Path(task.input_dir), prompts))
        for name, data in task.files.items():
            await box.write(posixpath.join(prompts.input_dir, name), data)
        made = await box.run(["mkdir", "-p", "--", *wanted], cwd="/")
    except OSError as error:
        raise SandboxFault(f"the task could not be set up in the sandbox: {error}") from error
    if not made.ok:
        raise SandboxFault(f"the directories of the task could not be made: {made.stderr.strip()}")
    return transfer


def check_without(box: AsyncSandbox, without: Collection[str]) -> None:
    """SandboxFault for a sandbox that has what was to be taken away: whoever opens it must leave that out."""
    network, files = box.guarantees["network"], box.guarantees["files"]
    if "network" in without and not network.startswith(("loopback only", "WEAKER, no namespace", "closed")):
        raise SandboxFault(f"the agent is to be without a network, and its sandbox has one: {network}")
    if "network" in without and "proxy" in network:
        raise SandboxFault(f"the agent is to be without a network, and its sandbox has a proxy: {network}")
    if "files" in without and not files.startswith("own root, read-only"):
        raise SandboxFault('the agent is to write no files, and its sandbox was not made with writable="none"')


def _place(source: Path, prompts: Prompts) -> str:
    """Of a directory the contents go there, a file goes into it."""
    return prompts.input_dir if source.is_dir() else f"{prompts.input_dir}/{source.name}"


@contextmanager
def mounted(task: Task, prompts: Prompts) -> Iterator[list[Mount]]:
    """The task's files as read-only mounts, for a sandbox in which nothing can be written. Raises SandboxFault."""
    if task.input_dir is not None and task.files:
        raise SandboxFault("a task of a sandbox that is read-only has an input directory or files, not both")
    with tempfile.TemporaryDirectory(prefix="lisrt-input-") as place:
        try:
            source = None if task.input_dir is None else Path(task.input_dir)
            if task.files:
                source = Path(place)
                for name, data in task.files.items():
                    path = source / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data.encode() if isinstance(data, str) else data)
            if source is None:
                yield []
                return
            mounts = [Mount(source, _place(source, prompts))]
        except OSError as error:
            raise SandboxFault(f"the task's files could not be prepared: {error}") from error
        yield mounts


@dataclass
class Collected:
    """What was there; and what could not be had, in words."""

    answer: str | None = None
    transfer: Transfer | None = None
    errors: list[str] = field(default_factory=list)


async def collect(box: AsyncSandbox, prompts: Prompts, limits: AgentLimits, target: Path | None) -> Collected:
    """Reads the answer and downloads the output. Raises LisrtError."""
    found = Collected()
    try:
        async with asyncio.timeout(limits.collect_timeout):
            await _read_answer(box, prompts.answer_file, found)
            if target is not None:
                found.transfer = await box.download(prompts.output_dir, target, max_bytes=limits.max_download)
    except TimeoutError:
        found.errors.append(f"collecting the results took longer than {limits.collect_timeout:g} s")
    except OSError as error:
        found.errors.append(f"the output was not downloaded: {error}")
    return found


async def _read_answer(box: AsyncSandbox, path: str, found: Collected) -> None:
    try:
        found.answer = await box.read_text(path, max_bytes=MAX_ANSWER)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        found.errors.append(f"the answer was not read: {error}")
