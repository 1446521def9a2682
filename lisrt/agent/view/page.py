"""An episode, or a run, as a page: one file that needs nothing else, no program and no network.

What models and programs have written is text in it, whatever it looks like; pictures are shown as pictures, in which nothing
runs. Should mark-up ever get through, the page's own policy lets it fetch and run nothing.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from html import escape

from lisrt.agent.view import head
from lisrt.agent.view.attachments import Attachment, Room, attachments
from lisrt.agent.view.calls import Call, Part
from lisrt.agent.view.episode import NotATrajectory, Note, Overview, Trajectory, Turn
from lisrt.agent.view.places import Place, Row, Run
from lisrt.agent.view.style import CSS
from lisrt.agent.view.words import amount, bytes_of, first_line, pieces, seconds, shortened, text_of

__all__ = ["page", "run_page"]

#: Characters of one text, and of all texts of a page: browsers get slow with more.
MAX_TEXT = 200_000
MAX_TEXTS = 30_000_000
#: An observation with more lines or characters is folded; the turns of a larger trajectory are, in bytes.
_LINES, _CHARACTERS = 30, 3000
_OPEN = 400_000

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_LOOKS = {True: "good", False: "bad", None: "open"}


def page(place: Place, trajectory: Trajectory, *, full: bool = False) -> Iterator[str]:
    """The page of one episode, piece by piece. `full`: no text is cut. Raises OSError while a file is read."""
    making, seen = _Page(full), trajectory.overview
    yield _top(_title(seen, str(place.trajectory)))
    yield f"<header><h1>{_marked(_title(seen, 'An episode'))}</h1>{_by(str(place.trajectory))}</header>\n"
    yield from making.episode(place, trajectory, 2)
    yield _BOTTOM


def run_page(run: Run, rows: list[Row], *, full: bool = False) -> Iterator[str]:
    """The page of a run: a table of its tasks, and each episode as long as there is room. Raises OSError."""
    making = _Page(full)
    name = first_line(run.path.resolve().name) or "A run"
    yield _top(f"Run {name}")
    yield f"<header><h1>Run {_marked(name)}</h1>{_by(f'{run.path}: {_sums(rows)}')}</header>\n"
    yield f"<section>{_totals(rows)}</section>\n<section><h2>Tasks</h2>{_tasks(rows)}</section>\n<section><h2>Episodes</h2>\n"
    left_out = 0
    for number, row in enumerate(rows):
        if making.is_full:
            left_out += row.place is not None
        else:
            yield from making.row(number, row)
    if left_out:
        yield _cut(f"{amount(left_out, 'more episode')} left out: lisrt view {run.path} --task ID --html FILE shows one")
    yield f"</section>\n{_BOTTOM}"


class _Page:
    """What a page still has room for."""

    def __init__(self, full: bool) -> None:
        self._full = full
        self._left = MAX_TEXTS
        self._room = Room()

    @property
    def is_full(self) -> bool:
        return self._left <= 0 and not self._full

    def row(self, number: int, row: Row) -> Iterator[str]:
        """A task of a run, folded."""
        about = " · ".join(filter(None, [amount(row.turns, "turn"), seconds(row.duration)]))
        yield f'<details class="episode"><summary><b>{_marked(first_line(row.id))}</b> {_reason(row.reason)}'
        yield f'<span class="soft">{escape(about)}</span></summary><div class="in" id="e{number}">\n'
        try:
            if row.place is None:
                yield f'<p>{_marked(row.error or "No episode was begun.")}</p>'
            else:
                yield from self.episode(row.place, Trajectory(row.place.trajectory), 3)
        except (NotATrajectory, OSError) as error:
            yield _cut(str(error))
        yield "</div></details>\n"

    def episode(self, place: Place, trajectory: Trajectory, level: int) -> Iterator[str]:
        """From the task to the end. `level` is that of the headings."""
        seen = trajectory.overview
        if not seen.records:
            yield "<p>The trajectory holds no record: the episode had not begun.</p>"
            return
        yield self._head(place, seen, level)
        if place.files is not None:
            yield from self._files(place, level)
        yield f"<section><h{level}>What happened</h{level}>\n"
        is_small = trajectory.path.stat().st_size <= _OPEN
        for one in trajectory:
            yield self._turn(one, is_small) if isinstance(one, Turn) else self._note(one)
        yield self._end(seen)
        yield "</section>\n"

    def _head(self, place: Place, seen: Overview, level: int) -> str:
        answer, source = head.answer(seen)
        parts = [_heading(level, "Task"), self._text(text_of(seen.start.get("task")), "said")]
        if answer is not None:
            parts += [_heading(level, f"Answer{f', {source}' if source else ''}"), self._text(answer, "answer")]
        parts += [_heading(level, "Outcome"), self._rows(head.facts(seen), good=head.is_good(head.reason(seen)))]
        if place.earlier:
            names = ", ".join(path.name for path in place.earlier)
            parts.append(f'<p class="soft">Attempt {len(place.earlier) + 1}; before it {_marked(names)}.</p>')
        inside = "".join(f"{_heading(level + 1, heading)}{self._rows(rows)}" for heading, rows in head.settings(seen))
        parts.append(_folded("What it ran with", inside) if inside else "")
        prompts = "".join(f'<p class="label">{_marked(role)}</p>{self._text(text)}' for role, text in head.prompts(seen))
        parts.append(_folded("The messages that were sent first", prompts) if prompts else "")
        return f"<section>{''.join(parts)}</section>\n"

    def _end(self, seen: Overview) -> str:
        if seen.end is None:
            return '<p class="open">Here the record stops: the episode goes on, or its process has ended.</p>'
        about = ", ".join(filter(None, [amount(seen.turns, "turn"), seconds(seen.end.get("duration"))]))
        return f"<p>{_reason(head.reason(seen))} <span class='soft'>after {escape(about)}</span></p>"

    def _rows(self, rows: head.Rows, *, good: bool | None = True) -> str:
        made = []
        for name, text in rows:
            look = {"exit reason": f' class="word {_LOOKS[good]}"', "error": ' class="bad"'}.get(name, "")
            start, note, end = shortened(text, None if self._full else MAX_TEXT // 10)
            shown = f"{_marked(start)}{_cut(f'{note} left out here') if note else ''}{_marked(end)}"
            made.append(f"<div><dt>{_marked(name)}</dt><dd{look}>{shown}</dd></div>")
        return f"<dl>{''.join(made)}</dl>"

    # What happened

    def _turn(self, turn: Turn, is_open: bool) -> str:
        calls = [one for one in turn.steps if isinstance(one, Call)]
        about = [f'{_marked(first_line(call.name, 40))} {_outcome(call)}' for call in calls[:6]]
        about += [f"{len(calls) - 6} more calls"] if len(calls) > 6 else []
        back = " · taken back by a resume" if turn.taken_back else ""
        parts = [self._note(note) for note in turn.before]
        parts.append(self._text(turn.thoughts, "thought") if turn.thoughts else "")
        parts.append(self._text(turn.text, "said") if turn.text else "")
        if turn.replied and not turn.thoughts and not turn.text and not turn.steps:
            parts.append('<p class="soft">an empty reply</p>')
        parts += [self._call(step) if isinstance(step, Call) else self._note(step) for step in turn.steps]
        facts = " · ".join([turn.time, *turn.facts])
        opened = " open" if is_open and not turn.taken_back else ""
        return (
            f'<details class="turn{" back" if turn.taken_back else ""}"{opened}><summary><b>Turn {turn.number}</b>{back} '
            f'<span class="soft">{"; ".join(about)}</span></summary>\n<div class="in"><p class="facts">{_marked(facts)}</p>'
            f"{''.join(parts)}</div></details>\n"
        )

    def _note(self, note: Note) -> str:
        back, said = (" back", " · taken back by a resume") if note.taken_back else ("", "")
        text = self._text(note.text) if note.text else ""
        return f'<div class="note{back}"><div class="in">{_marked(note.title)}{said}{text}</div></div>\n'

    def _call(self, call: Call) -> str:
        title = f" <code>{_marked(call.title)}</code>" if call.title else ""
        facts = "".join(f" · {_marked(fact)}" for fact in call.facts)
        return (
            f'<div class="call"><p class="head"><span class="word">{_marked(call.name or "(no name)")}</span>{title}</p>'
            f"{''.join(self._part(part) for part in call.parts)}"
            f'<p class="facts">{_outcome(call)}{facts}</p>{self._seen(call)}</div>\n'
        )

    def _part(self, part: Part) -> str:
        label = f'<p class="label">{_marked(part.label)}</p>' if part.label else ""
        return f"{label}{self._text(part.text, part.kind)}"

    def _seen(self, call: Call) -> str:
        text = call.observation
        if not text:
            return ""
        lines = text.count("\n") + 1
        if lines <= _LINES and len(text) <= _CHARACTERS:
            return self._text(text)
        about = f"What the model saw: {amount(lines, 'line')}, {len(text):,} characters"
        return f'<details class="seen"><summary>{about}</summary>{self._text(text)}</details>'

    def _text(self, text: str, look: str = "") -> str:
        if self.is_full:
            return _cut("Left out: this page is full; --full shows all.")
        start, note, end = shortened(text, None if self._full else MAX_TEXT)
        self._left -= len(start) + len(end) + 100
        made = _pre(start, look)
        return f"{made}{_cut(f'{note} left out here; --full shows them')}{_pre(end, look)}" if note else made

    # Files

    def _files(self, place: Place, level: int) -> Iterator[str]:
        assert place.files is not None
        yield f"<section><h{level}>Files</h{level}>\n"
        found = False
        for one in attachments(place.files, self._room):
            found = True
            yield self._file(one)
        yield f"{'' if found else '<p>None.</p>'}</section>\n"

    def _file(self, one: Attachment) -> str:
        size = "" if one.size is None else bytes_of(one.size)
        about = f'{_marked(one.name)} <span class="soft">{_marked(", ".join(filter(None, [size, one.why])))}</span>'
        if one.kind == "text":
            text = one.content.decode()
            opened = " open" if text.count("\n") < _LINES and len(text) < _CHARACTERS else ""
            return f'<details class="file"{opened}><summary>{about}</summary>{self._text(text)}</details>\n'
        if one.kind:
            data = base64.b64encode(one.content).decode()
            picture = f'<img alt="{escape(first_line(one.name))}" src="data:{one.kind};base64,{data}">'
            return f"<figure><figcaption>{about}</figcaption>{picture}</figure>\n"
        return f'<p class="file">{about}</p>\n'


# Pieces of pages


def _top(title: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body>\n"
    )


_BOTTOM = "</body></html>\n"


def _title(seen: Overview, otherwise: str) -> str:
    return first_line(text_of(seen.start.get("task"))) or first_line(otherwise)


def _by(text: str) -> str:
    return f'<p class="by">{_marked(text)}</p>'


def _heading(level: int, text: str) -> str:
    return f"<h{level}>{_marked(text)}</h{level}>"


def _folded(title: str, inside: str) -> str:
    return f'<details class="more"><summary>{escape(title)}</summary>{inside}</details>'


def _marked(text: str) -> str:
    """Text as text; characters that are not to be seen as they are stand out."""
    return "".join(f'<b class="odd">{piece}</b>' if odd else escape(piece) for piece, odd in pieces(text))


def _pre(text: str, look: str = "") -> str:
    """The line end after the tag is no part of the text: browsers drop it, and would else drop one of the text's own."""
    return f"<pre{f' class={look}' if look else ''}>\n{_marked(text)}</pre>"


def _outcome(call: Call) -> str:
    return f'<span class="{call.look}">{_marked(call.outcome)}</span>'


def _cut(text: str) -> str:
    return f'<p class="cut">{_marked(text)}</p>'


def _reason(word: str) -> str:
    return f'<span class="word {_LOOKS[head.is_good(word)]}">{_marked(first_line(word, 30))}</span>'


# The table of a run


def _sums(rows: list[Row]) -> str:
    costs = [row.cost for row in rows if row.cost is not None]
    parts = [amount(len(rows), "task"), f"{sum(row.tokens for row in rows):,} tokens"]
    parts += [f"cost {sum(costs):.4g}"] if costs else []
    return ", ".join([*parts, f"{seconds(sum(row.duration or 0.0 for row in rows))} of episodes"])


def _totals(rows: list[Row]) -> str:
    counted = Counter(row.reason for row in rows).most_common()
    body = "".join(
        f'<tr><th scope="row">{_reason(reason)}</th><td class="num">{count:,}</td>'
        f'<td class="num">{count / len(rows):.0%}</td></tr>'
        for reason, count in counted
    )
    heads = '<th scope="col">ended</th><th scope="col" class="num">tasks</th><th scope="col"></th>'
    return f'<div class="scroll"><table class="slim"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _tasks(rows: list[Row]) -> str:
    names = ("task", "ended", "turns", "tokens", "time", "answer")
    heads = "".join(
        f'<th scope="col"{" class=num" if name in ("turns", "tokens", "time") else ""}>{name}</th>' for name in names
    )
    body = "".join(_task(number, row) for number, row in enumerate(rows))
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _task(number: int, row: Row) -> str:
    texts = (f"{row.turns:,}", f"{row.tokens:,}", seconds(row.duration) or "–")
    figures = "".join(f'<td class="num">{text}</td>' for text in texts)
    said = _marked(row.answer) if row.answer else f'<span class="soft">{_marked(row.error)}</span>'
    tries = f' <span class="soft short">{row.attempts} attempts</span>' if row.attempts > 1 else ""
    short = " class=short" if len(row.id) <= 40 else ""
    name = f'<a href="#e{number}"{short}>{_marked(first_line(row.id))}</a>'
    return f'<tr><th scope="row">{name}</th><td>{_reason(row.reason)}{tries}</td>{figures}<td>{said}</td></tr>\n'
