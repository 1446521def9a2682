"""What of an episode's budgets has run out."""

from __future__ import annotations

from lisrt.agent.conversation import Conversation
from lisrt.agent.episode import AgentLimits, ExitReason

__all__ = ["not_enforced", "spent"]


def spent(limits: AgentLimits, talk: Conversation, cost: float | None) -> tuple[ExitReason, str] | None:
    """The reason to end, and words about it; None to go on. `cost`: of its tokens, where prices are known.

    Turns that a resume has taken back don't count: an outage would eat up what the model may use.
    """
    if talk.turns >= limits.max_turns:
        return ExitReason.MAX_TURNS, ""
    if limits.max_tokens is not None and talk.own_usage.total >= limits.max_tokens:
        return ExitReason.MAX_TOKENS, f"{talk.own_usage.total} tokens were used, of {limits.max_tokens}"
    if limits.max_cost is not None and cost is not None and cost >= limits.max_cost:
        return ExitReason.MAX_COST, f"the tokens have cost {cost:g}, of {limits.max_cost:g}"
    if limits.max_tool_time is not None and talk.tool_time >= limits.max_tool_time:
        return ExitReason.MAX_TOOL_TIME, f"the tools took {talk.tool_time:.1f} s, of {limits.max_tool_time:g}"
    return None


def not_enforced(limits: AgentLimits, talk: Conversation) -> tuple[str, ...]:
    """Names of the budgets that could not bind, where the server does not count tokens."""
    names = ("max_tokens", "max_context", "max_cost") if talk.uncounted else ()
    return tuple(name for name in names if getattr(limits, name) is not None)
