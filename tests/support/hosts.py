"""Hosts with something wrong, made by an ordinary user in a user namespace of its own."""

POWERLESS = "exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all"


def host(setup: str, *, as_root: bool = False) -> tuple[str, ...]:
    """A prefix that runs a command on a host that `setup` has spoilt; as the same user, or as a root without powers."""
    identity = ("--map-root-user",) if as_root else ("--map-current-user", "--keep-caps")
    return ("unshare", "--user", "--mount", *identity, "bash", "-ec", f'{setup}\n{POWERLESS} "$@"', "bash")
