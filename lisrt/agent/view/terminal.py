"""Episodes and runs in the terminal. Makes text, prints nothing; colours are those that the console has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from lisrt.agent.episode import FAULTS
from lisrt.agent.view import head
from lisrt.agent.view.calls import Call, Part
from lisrt.agent.view.episode import Note, Overview, Trajectory, Turn
from lisrt.agent.view.places import Place, Row, Run
from lisrt.agent.view.words import amount, first_line, pieces, seconds, shortened, text_of, visible

__all__ = ["Screen"]

_CHARACTERS, _LINES = 4000, 40
_NARROWEST = 12
_ESCAPED = "magenta"
_LOOKS = {"good": "green", "poor": "yellow", "bad": "bold red", "none": "dim"}
_SIGNS = {"script": ("", ""), "added": ("+ ", "green"), "removed": ("- ", "red"), "text": ("", "")}
#: For terminals that have no other letters.
_PLAIN = str.maketrans({"│": "|", "▸": ">", "·": "-", "…": "...", "─": "-", "–": "-"})


class Screen:
    """Shows episodes on a console. `full`: texts are not cut.

    Each method gives the text in pieces, to be written as they are. Raises OSError while a file is read.
    """

    def __init__(self, console: Console, *, full: bool = False) -> None:
        self._console = console
        self._full = full
        self._dim = False
        self._ready: list[Text] = []

    def episode(self, place: Place, trajectory: Trajectory) -> Iterator[str]:
        """One episode from its task to its end."""
        seen = trajectory.overview
        self._head(place, seen)
        yield self._flush()
        for one in trajectory:
            self._dim = one.taken_back
            if isinstance(one, Turn):
                self._turn(one)
            else:
                self._space()
                self._note(one, "")
            yield self._flush()
        self._dim = False
        self._end(seen)
        yield self._flush()

    def run(self, run: Run, rows: list[Row]) -> Iterator[str]:
        """All tasks of a run, and how many ended in which way."""
        yield self._table(rows)
        self._space()
        self._totals(rows)
        if rows:
            self._space()
            self._put(f"One of them: lisrt view {run.path} --task ID", style="dim")
        yield self._flush()

    # One episode

    def _head(self, place: Place, seen: Overview) -> None:
        self._put(str(place.trajectory), style="bold")
        if not seen.records:
            self._put("It holds no record: the episode had not begun.")
            return
        if place.earlier:
            names = ", ".join(path.name for path in place.earlier)
            self._put(f"Attempt {len(place.earlier) + 1}; before it {names}", style="dim")
        self._named("Task", text_of(seen.start.get("task")))
        self._space()
        self._rows(head.facts(seen), good=head.is_good(head.reason(seen)))
        for heading, rows in head.settings(seen):
            if self._full or heading.startswith("Enforced"):
                self._space()
                self._put(heading, style="dim bold")
                self._rows(rows, style="dim")
        for role, text in head.prompts(seen) if self._full else ():
            self._named(f"Sent first, {role}", text, style="dim")
        self._answer(seen)

    def _answer(self, seen: Overview) -> None:
        answer, source = head.answer(seen)
        if answer is not None:
            self._named(f"Answer{f', {source}' if source else ''}", answer)
        elif seen.end is not None:
            self._space()
            self._put("No answer", style="bold")

    def _end(self, seen: Overview) -> None:
        if not seen.records:
            return
        self._space()
        word = head.reason(seen)
        if seen.end is None:
            self._put("Here the record stops: the episode goes on, or its process has ended.", style="yellow")
            return
        parts = [f"End: {word}", amount(seen.turns, "turn"), seconds(seen.end.get("duration"))]
        self._put(" · ".join(filter(None, parts)), style=_colour(head.is_good(word)))

    def _turn(self, turn: Turn) -> None:
        self._space()
        back = "   taken back by a resume" if turn.taken_back else ""
        about = " · ".join([turn.time, *turn.facts])
        self._put(f"─── Turn {turn.number}{back}   {about}", style="bold")
        for note in turn.before:
            self._note(note, "  ")
        if turn.thoughts:
            self._put(turn.thoughts, indent="  ", style="dim italic", cut=True)
        if turn.text:
            self._put(turn.text, indent="  ", cut=True)
        if turn.replied and not turn.thoughts and not turn.text and not turn.steps:
            self._put("an empty reply", indent="  ", style="dim")
        for step in turn.steps:
            if isinstance(step, Call):
                self._call(step)
            else:
                self._note(step, "  ")

    def _note(self, note: Note, indent: str) -> None:
        self._put(f"· {note.title}{'   taken back by a resume' if note.taken_back else ''}", indent=indent, style="cyan dim")
        if note.text:
            self._put(note.text, indent=f"{indent}  ", style="dim", cut=True)

    def _call(self, call: Call) -> None:
        title = f"  {call.title}" if call.title else ""
        self._put(f"▸ {first_line(call.name) or '(no name)'}{title}", indent="  ", style="bold cyan")
        for part in call.parts:
            self._part(part)
        self._put(" · ".join([call.outcome, *call.facts]), indent="    ", style=_LOOKS[call.look])
        if call.observation:
            self._put(call.observation, indent="    │ ", bar="dim", cut=True)

    def _part(self, part: Part) -> None:
        sign, style = _SIGNS[part.kind]
        if part.label:
            self._put(f"{part.label}:", indent="    ", style="dim")
        self._put(part.text, indent=f"      {sign}", style=style, bar=style, cut=True)

    def _named(self, name: str, text: str, *, style: str = "") -> None:
        self._space()
        self._put(name, style=f"bold {style}".strip())
        self._put(text, indent="  ", style=style, cut=True)

    def _rows(self, rows: head.Rows, *, style: str = "", good: bool | None = True) -> None:
        """Names beside texts, or above them where the screen is narrow."""
        widest = max((len(name) for name, _ in rows), default=0)
        beside = not self._console.is_terminal or self._console.width >= widest + 30
        for name, text in rows:
            look = _colour(good) if name == "exit reason" else "red" if name == "error" else style
            if beside and "\n" not in text:
                self._put(text, indent=" " * (widest + 2), first=f"{name:<{widest + 2}}", style=look, bar="dim")
            else:
                self._put(name, style="dim")
                self._put(text, indent="  ", style=look, cut=True)

    # A run

    def _table(self, rows: list[Row]) -> str:
        """As many columns as there is room for."""
        heads = {"TASK": 0, "ENDED": 1, "TURNS": 2, "TOKENS": 3, "TIME": 4, "TRIES": 5}
        lines = [_cells(row) for row in rows]
        if all(row.attempts < 2 for row in rows):
            del heads["TRIES"]
        widths = {name: max([len(name), *(line[at].cell_len for line in lines)]) for name, at in heads.items()}
        width = self._console.width if self._console.is_terminal else 1000
        for name in ("TRIES", "TOKENS", "TIME", "TURNS"):
            if sum(widths.values()) + 2 * len(widths) > width:
                widths.pop(name, None)
        widths["TASK"] = max(min(widths["TASK"], width - widths["ENDED"] - 2), 4)
        room = width - sum(widths.values()) - 2 * len(widths)
        self._row([Text(name, "bold") for name in heads], Text("ANSWER", "bold"), widths, room)
        for row, line in zip(rows, lines, strict=True):
            said = _styled(row.answer) if row.answer else _styled(row.error, "dim")
            self._row([line[at] for at in heads.values()], said, widths, room)
        return self._flush()

    def _row(self, cells: list[Text], said: Text, widths: dict[str, int], room: int) -> None:
        shown = Text()
        for name, cell in zip(("TASK", "ENDED", "TURNS", "TOKENS", "TIME", "TRIES"), cells, strict=False):
            if name in widths:
                cell.truncate(widths[name], overflow="ellipsis")
                blanks = " " * (widths[name] - cell.cell_len)
                shown += cell + blanks if name in ("TASK", "ENDED") else Text(blanks) + cell
                shown += "  "
        if room >= _NARROWEST:
            said.truncate(room, overflow="ellipsis")
            shown += said
        shown.rstrip()
        self._ready.append(shown)

    def _totals(self, rows: list[Row]) -> None:
        for reason, count in Counter(row.reason for row in rows).most_common():
            fault = ", not the model's doing" if reason in FAULTS else ""
            good = head.is_good(reason)
            self._put(f"{count:>6,}  {first_line(reason, 30)} ({count / len(rows):.0%}{fault})", style=_colour(good))
        costs = [row.cost for row in rows if row.cost is not None]
        parts = [amount(len(rows), "task"), f"{sum(row.tokens for row in rows):,} tokens"]
        parts += [f"cost {sum(costs):.4g}"] if costs else []
        parts.append(f"{seconds(sum(row.duration or 0.0 for row in rows))} of episodes")
        self._put(", ".join(parts), style="bold")

    # Lines

    def _put(
        self, text: str, *, indent: str = "", first: str = "", style: str = "", bar: str = "", cut: bool = False
    ) -> None:
        """A text below one another: `indent` before each line (`first` before the first), which `bar` is the style of."""
        start, note, end = shortened(text.rstrip("\n"), None if self._full or not cut else _CHARACTERS, _LINES)
        shown = [(start.rstrip("\n") if note else start, style)]
        if note:
            shown += [(f"… {note} left out here; --full shows them", "magenta dim"), (end.strip("\n"), style)]
        before = first or indent
        for one, look in shown:
            if self._console.is_terminal:
                self._fold(_styled(one, look), before, indent, bar)
            else:  # whole lines, and plain: there may be millions
                line, *others = visible(one).split("\n")
                lines = [visible(before) + line, *(indent + line if line else indent.rstrip() for line in others)]
                self._ready.append(Text("\n".join(lines)))
            before = indent

    def _fold(self, text: Text, before: str, indent: str, bar: str) -> None:
        width = max(self._console.width - len(indent), _NARROWEST)
        for line in text.wrap(self._console, width, overflow="fold"):
            made = _styled(before, bar) + line
            if self._dim:
                made.stylize("dim")
            self._ready.append(made)
            before = indent

    def _space(self) -> None:
        self._ready.append(Text())

    def _flush(self) -> str:
        lines, self._ready = self._ready, []
        if not lines:
            return ""
        if not self._console.is_terminal:
            return self._encodable("".join(f"{text.plain}\n" for text in lines))
        with self._console.capture() as shown:
            self._console.print(Text("\n").join(lines), soft_wrap=True, highlight=False)
        return self._encodable(shown.get())

    def _encodable(self, text: str) -> str:
        """What the terminal has letters for."""
        encoding = self._console.encoding
        if encoding.lower().startswith("utf"):
            return text
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)


def _styled(text: str, style: str = "") -> Text:
    """Never markup; and without anything that a terminal would obey."""
    made = Text()
    for piece, escaped in pieces(text):
        made.append(piece, f"{style} {_ESCAPED}" if escaped else style)
    return made


def _colour(good: bool | None) -> str:
    return {True: "green", False: "red", None: "yellow"}[good]


def _cells(row: Row) -> list[Text]:
    reason = _styled(first_line(row.reason, 30), _colour(head.is_good(row.reason)))
    figures = [f"{row.turns:,}", f"{row.tokens:,}", seconds(row.duration) or "–", f"{row.attempts}"]
    return [_styled(first_line(row.id, 80)), reason, *map(Text, figures)]
