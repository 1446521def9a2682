"""The sandbox of one client: made at its first call, made anew when it has died, gone with the client.

It is made at the first call and not when the session begins: clients begin sessions with every server that they know, to list
their tools, and use few of them. What makes a sandbox fail is then said where somebody reads it, in the answer to a call.
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from lisrt.agent.tools import AsyncTools, Definition, Observation, SandboxFault
from lisrt.agent.tools.arguments import checked, parsed
from lisrt.agent.tools.editor import observed
from lisrt.agent.tools.observation import ToolError
from lisrt.agent.tools.standard import definitions
from lisrt.aio import AsyncSandbox
from lisrt.errors import LisrtError, SandboxGone

__all__ = ["MAX_FILE", "Answer", "Fault", "File", "Guest", "Settings"]

#: The largest file, in bytes, that `get_file` hands over. In base64, and with what is around it, it must stay below 1 MiB:
#: clients of the Python SDK take no larger event.
MAX_FILE = 500 * 1024

_NEWS = (
    "[The sandbox that this session had is gone. This is a new one: files, background processes and the shell's state are lost.]"
)

GET_FILE = Definition(
    "get_file",
    "Hand a file of the sandbox over to the client: an image as an image, anything else as a resource. "
    f"At most {MAX_FILE} bytes.",
    {
        "type": "object",
        "properties": {"path": {"type": "string", "description": "Absolute, or relative to where the shell began."}},
        "required": ["path"],
        "additionalProperties": False,
    },
)


class Fault(Exception):
    """It is the sandbox that has failed, not what ran in it. The message is for the client."""


@dataclass(frozen=True)
class Settings:
    """What each client gets.

    sandbox: AsyncSandbox's keyword arguments. shell: "persistent", the shell goes on from call to call, as people who work with a
    coding assistant are used to; or "fresh". command_timeout: seconds for a command that asks for none.
    """

    sandbox: Mapping[str, Any] = field(default_factory=dict)
    shell: str = "persistent"
    command_timeout: float = 120.0

    def definitions(self) -> tuple[Definition, ...]:
        """The tools that clients are told of. There is no `submit`: nobody waits for an answer."""
        longest = max(self.command_timeout, 600.0)
        known = definitions(persistent=self.shell == "persistent", timeout=self.command_timeout, longest=longest)
        return (*(one for one in known if one.name != "submit"), GET_FILE)


@dataclass(frozen=True)
class File:
    """What `get_file` has found: its absolute path in the sandbox, and its bytes."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Answer:
    """What a call came to. `news`: what the client must know before it reads on; empty most of the time."""

    seen: Observation
    news: str = ""
    file: File | None = None


class Guest:
    """One client's sandbox and the tools in it. May be called many times at once; `close` it when the client has left."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._box: AsyncSandbox | None = None
        self._tools: AsyncTools | None = None
        self._news = ""
        self._is_closed = False
        self._is_lost = False
        """A call was told that the sandbox is gone: `alive` may learn of that a moment later."""
        self._making = asyncio.Lock()
        # One at a time: two scripts would take over the same shell and each lose what the other has set, two edits would read
        # the same file. A view need not wait for a script.
        self._turns = {"str_replace_editor": asyncio.Lock()}
        if settings.shell == "persistent":
            self._turns["execute_bash"] = asyncio.Lock()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Carries out a call of one of the tools in `Settings.definitions`. Raises Fault, nothing for a mistake of the caller."""
        async with self._turns.get(name) or nullcontext():
            try:
                box, tools = await self._ready()
                if name == GET_FILE.name:
                    answer = await _get_file(box, arguments)
                else:
                    answer = Answer(await tools.call(name, arguments))
            except (LisrtError, SandboxFault, OSError) as error:
                self._is_lost = self._is_lost or isinstance(error, SandboxGone)
                raise Fault(self._blame(error)) from error
            news, self._news = self._news, ""
            return Answer(answer.seen, news, answer.file)

    async def close(self) -> None:
        """Destroys the sandbox. Calls that come later raise Fault."""
        async with self._making:
            self._is_closed = True
            await self._discard()

    async def _ready(self) -> tuple[AsyncSandbox, AsyncTools]:
        async with self._making:
            if self._is_closed:
                raise SandboxGone("the session has ended")
            if self._box is not None and (self._is_lost or not self._box.alive):
                await self._discard()
                self._news = _NEWS
            if self._box is None or self._tools is None:
                box = AsyncSandbox(**self._settings.sandbox)
                await box.__aenter__()
                self._box, self._tools = box, AsyncTools(
                    box,
                    working_dir=box.workdir,
                    shell=self._settings.shell,
                    command_timeout=self._settings.command_timeout,
                )
            return self._box, self._tools

    async def _discard(self) -> None:
        box, self._box, self._tools, self._is_lost = self._box, None, None, False
        if box is not None:
            await box.close()

    def _blame(self, error: Exception) -> str:
        if self._is_closed:
            return str(error)
        if self._box is None:
            return f"No sandbox could be made: {error}"
        if self._box.alive and not self._is_lost:
            return f"The sandbox failed, not what ran in it: {error}. Its files are still there."
        return (
            f"The sandbox has died, and with it what ran in it: {error}. How far this call came is unknown. The next one gets"
            " a new sandbox, without the files of this."
        )


async def _get_file(box: AsyncSandbox, arguments: Mapping[str, Any]) -> Answer:
    path = ""
    try:
        asked = checked(parsed(arguments), GET_FILE.parameters)["path"]
        if not asked or "\0" in asked:
            raise ToolError("path is empty, or contains a NUL character")
        path = posixpath.normpath(posixpath.join(box.workdir, asked))
        data = await box.read(path, max_bytes=MAX_FILE)
    except ToolError as error:
        return Answer(Observation(f"Error: {error}", "refused"))
    except OSError as error:
        if error.errno == errno.EFBIG:
            text = f"{path} is larger than {MAX_FILE} bytes: hand over a part of it, or a smaller version"
            return Answer(Observation(f"Error: {text}", "refused"))
        seen = observed(error, path)
        if isinstance(seen, SandboxFault):
            raise seen from error
        return Answer(Observation(f"Error: {seen}", "refused"))
    return Answer(Observation(f"{path} ({len(data)} bytes)", "done"), file=File(path, data))
