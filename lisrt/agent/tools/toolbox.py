"""The tools at work in one sandbox: the names, the arguments, and who carries a call out.

A call always ends in an `Observation`, whatever the arguments: mistakes are answered, not raised. Only a fault of the sandbox is
an exception (`LisrtError` or `SandboxFault`), because it is none of the model's business.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from lisrt.agent.tools import standard
from lisrt.agent.tools.arguments import checked, needed, parsed
from lisrt.agent.tools.bash import Bash
from lisrt.agent.tools.definitions import Definition, canonical, schemas
from lisrt.agent.tools.editor import Editor
from lisrt.agent.tools.edits import cap
from lisrt.agent.tools.lis02 import Lis02, malformed
from lisrt.agent.tools.observation import Observation, ToolError
from lisrt.aio import AsyncSandbox
from lisrt.sandbox import Sandbox

__all__ = ["PROFILES", "SHELLS", "AsyncTools", "Tools"]

PROFILES = ("default", "lis-0.2")
SHELLS = ("fresh", "persistent")

T = TypeVar("T")


class _Set(Protocol):
    @property
    def definitions(self) -> tuple[Definition, ...]: ...

    async def call(self, name: str, values: Mapping[str, Any]) -> Observation: ...


class AsyncTools:
    """`execute_bash`, `str_replace_editor` and `submit` for one sandbox, for any loop.

        async with AsyncSandbox() as box:
            tools = AsyncTools(box)
            reply = ...(tools=tools.schemas("chat"))
            seen = await tools.call(name, arguments)      # seen.text goes to the model

    working_dir: where commands start and relative paths begin. profile: "default", or "lis-0.2" for a checkpoint that was trained
    with that version's tools. shell: "fresh" for each call, or "persistent". command_timeout: seconds for one command;
    max_command_timeout: the most that a call may ask for; by default 600, or command_timeout where that is more. max_output,
    max_lines: characters and lines kept of a command's stdout, of its stderr, and of any other answer; None: of lines all.
    without: what of `WITHOUT` is taken away: "execution" has no execute_bash, "files" no editing (the sandbox's `writable="none"`
    sees to the rest), "network" is the sandbox's business alone. Raises ValueError.
    """

    def __init__(
        self,
        box: AsyncSandbox,
        *,
        working_dir: str = "/testbed",
        profile: str = "default",
        shell: str = "fresh",
        command_timeout: float = 120.0,
        max_command_timeout: float | None = None,
        max_output: int = 10_000,
        max_lines: int | None = 500,
        without: Collection[str] = (),
    ) -> None:
        for what, value, known in (("profile", profile, PROFILES), ("shell", shell, SHELLS)):
            if value not in known:
                raise ValueError(f"{what} is one of {', '.join(known)}, not {value!r}")
        if unknown := set(without).difference(standard.WITHOUT):
            raise ValueError(f"without: {', '.join(standard.WITHOUT)}, not {sorted(unknown)[0]!r}")
        if profile == "lis-0.2":
            if without or shell != "fresh":
                raise ValueError("profile lis-0.2 has a fresh shell and all tools, as it was")
            self._set: _Set = Lis02(box, working_dir=working_dir)
        else:
            longest = max(command_timeout, max_command_timeout or 600.0)
            bash = Bash(box, working_dir, shell == "persistent", command_timeout, longest, max_output, max_lines)
            self._set = _Standard(bash, Editor(box, working_dir=working_dir, max_output=max_output), frozenset(without))
        self._max_output = max_output

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """What the model is told."""
        return self._set.definitions

    def schemas(self, format: str = "chat") -> list[dict[str, Any]]:
        """The tools for an API: "chat" and "responses" (OpenAI), "anthropic" (`bash_20250124`, `text_editor_20250728`), "mcp"."""
        return schemas(self.definitions, format)

    async def call(self, name: str, arguments: str | Mapping[str, Any]) -> Observation:
        """Carry out one call; `arguments` is the JSON text of the model, or what an SDK has made of it.

        Anthropic's names of tools and parameters mean ours. Raises LisrtError or SandboxFault when the sandbox fails, nothing for
        any mistake of the model.
        """
        try:
            if isinstance(self._set, Lis02):
                return await self._as_of_old(self._set, name, arguments)
            name, values = canonical(name, parsed(arguments))
            return await self._set.call(name, values)
        except ToolError as error:
            return Observation(cap(f"Error: {error}", self._max_output), "refused")

    async def _as_of_old(self, tools: Lis02, name: str, arguments: str | Mapping[str, Any]) -> Observation:
        try:
            values = parsed(arguments)
        except ToolError:
            return malformed(name, str(arguments))
        return await tools.call(name, values)


class _Standard:
    """The default profile."""

    def __init__(self, bash: Bash, editor: Editor, without: frozenset[str]) -> None:
        self.definitions = standard.definitions(
            persistent=bash.persistent, timeout=bash.timeout, longest=bash.longest, without=without
        )
        self._bash, self._editor = bash, editor
        self._schemas = {definition.name: definition.parameters for definition in self.definitions}

    async def call(self, name: str, values: Mapping[str, Any]) -> Observation:
        if name not in self._schemas:
            raise ToolError(f"there is no tool {name!r}; the tools are {', '.join(self._schemas)}")
        if name == "execute_bash" and not self._bash.persistent and "restart" in values:  # Anthropic's tool has it
            values = {key: value for key, value in values.items() if key != "restart"}
            if not values:
                return Observation("Each call has a new shell: there is nothing to restart.", "done")
        values = checked(values, self._schemas[name])
        if name == "execute_bash":
            return await self._bash.run(values)
        if name == "str_replace_editor":
            return Observation(await self._edit(values["command"], values["path"], values), "done")
        return Observation("Submitted.", "submitted", {"answer": values["answer"]} if "answer" in values else {})

    async def _edit(self, command: str, path: str, values: Mapping[str, Any]) -> str:
        editor = self._editor
        if command == "view":
            return await editor.view(path, values.get("view_range"))
        if command == "create":
            return await editor.create(path, needed(values, "file_text"))
        if command == "str_replace":
            return await editor.str_replace(path, needed(values, "old_str"), values.get("new_str", ""))
        if command == "undo_edit":
            return await editor.undo(path)
        return await editor.insert(path, needed(values, "insert_line"), needed(values, "new_str"))


class Tools:
    """As AsyncTools, for a `Sandbox` and a loop without awaiting; the same arguments."""

    def __init__(self, box: Sandbox, **settings: Any) -> None:
        self._tools = AsyncTools(_Waiting(box), **settings)  # type: ignore[arg-type] # has the verbs that tools use

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """See AsyncTools.definitions."""
        return self._tools.definitions

    def schemas(self, format: str = "chat") -> list[dict[str, Any]]:
        """See AsyncTools.schemas."""
        return self._tools.schemas(format)

    def call(self, name: str, arguments: str | Mapping[str, Any]) -> Observation:
        """See AsyncTools.call."""
        return _at_once(self._tools.call(name, arguments))


class _Waiting:
    """The verbs of a Sandbox, awaited but done at once: what is written for AsyncSandbox runs without a loop."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    async def run(self, *args: Any, **options: Any) -> Any:
        return self._box.run(*args, **options)

    async def sh(self, *args: Any, **options: Any) -> Any:
        return self._box.sh(*args, **options)

    async def read(self, *args: Any, **options: Any) -> Any:
        return self._box.read(*args, **options)

    async def write(self, *args: Any, **options: Any) -> Any:
        return self._box.write(*args, **options)


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise AssertionError("a tool has waited for something")
