"""The record survives whatever ends the run."""

import json
from pathlib import Path

import pytest

from lisrt.agent import TrajectoryWriter, read_trajectory


def test_each_record_is_on_disk_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "new/place/run.jsonl"
    with TrajectoryWriter(path) as log:
        for turn in range(3):
            log.write("response", turn=turn)
            assert [record["turn"] for record in read_trajectory(path)] == list(range(turn + 1))


def test_text_of_any_kind_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    text = "é 漢 \u2028 \r\n \x00 lone \ud83d half"
    with TrajectoryWriter(path) as log:
        log.write("tool", observation=text)
    assert read_trajectory(path)[0]["observation"] == text
    assert len(path.read_bytes().splitlines()) == 1


def test_an_unfinished_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"type": "start"}\n{"type": "resp')
    assert read_trajectory(path) == [{"type": "start"}]


@pytest.mark.parametrize("line", ["not json", "[1]"])
def test_any_other_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(f'{{"type": "start"}}\n{line}\n{{"type": "end"}}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_trajectory(path)


def test_two_runs_never_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({"type": "start"}) + "\n")
    with pytest.raises(FileExistsError):
        TrajectoryWriter(path)
    assert len(read_trajectory(path)) == 1


def test_no_path_keeps_nothing() -> None:
    with TrajectoryWriter(None) as log:
        log.write("start")
    assert log.path is None
