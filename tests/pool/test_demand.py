"""How many are kept warm, by what takers found; and how long a host that is broken is left alone."""

from lisrt.demand import PAUSES, Demand, Patience


def test_who_finds_none_has_more_kept() -> None:
    """One for each, to the most."""
    demand = Demand(1, 4, 10)
    for _ in range(2):
        demand.missed()
    assert demand.target == 3
    for _ in range(9):
        demand.missed()
    assert demand.target == 4


def test_what_nobody_needs_is_given_up() -> None:
    """As many as were left at the worst moment of a period; to the least, and not before the period is over."""
    demand = Demand(1, 8, 10)
    for _ in range(7):
        demand.missed()
    demand.look(100, 8)
    demand.left(5)
    demand.left(7)
    demand.look(109, 8)
    assert demand.target == 8
    demand.look(110, 8)
    assert demand.target == 3
    demand.look(120, 3)
    assert demand.target == 1
    demand.look(130, 1)
    demand.look(140, 1)
    assert demand.target == 1


def test_a_period_in_which_somebody_found_none() -> None:
    """Nothing is given up at its end."""
    demand = Demand(0, 8, 10)
    demand.look(0, 0)
    for _ in range(3):
        demand.missed()
    demand.left(2)
    demand.look(10, 3)
    assert demand.target == 3
    demand.look(20, 3)
    assert demand.target == 0


def test_patience() -> None:
    """Twice as long after each failure, to the longest; none after a success."""
    patience = Patience()
    pauses = []
    for _ in range(12):
        patience.failed(1000)
        pauses.append(round(patience.until - 1000, 3))
    assert pauses[:3] == [PAUSES[0], 2 * PAUSES[0], 4 * PAUSES[0]]
    assert pauses[-1] == PAUSES[1]
    patience.worked()
    assert patience.until == 0
    patience.failed(1000)
    assert patience.until == 1000 + PAUSES[0]
