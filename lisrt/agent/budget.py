"""What of an episode's budgets has run out."""

from __future__ import annotations

from lisrt.agent.conversation import Conversation
from lisrt.agent.episode import AgentLimits, ExitReason

__all__ = ["not_enforced", "spent"]


def spent(limits: AgentLimits, talk: Conversation, cost: float | None) -> tuple[ExitReason, str] | None:
    """The reason to end, and words about it; None to go on. `cost`: of all tokens, where prices are known."""
    if talk.turns >= limits.max_turns:
        return ExitReason.MAX_TURNS, ""
    if limits.max_tokens is not None and talk.usage.total >= limits.max_tokens:
        return ExitReason.MAX_TOKENS, f"{talk.usage.total} tokens were used, of {limits.max_tokens}"
    if limits.max_cost is not None and cost is not None and cost >= limits.max_cost:
        return ExitReason.MAX_COST, f"the tokens have cost {cost:g}, of {limits.max_cost:g}"
    if limits.max_tool_time is not None and talk.tool_time >= limits.max_tool_time:
        return ExitReason.MAX_TOOL_TIME, f"the tools took {talk.tool_time:.1f} s, of {limits.max_tool_time:g}"
    return None


def not_enforced(limits: AgentLimits, talk: Conversation) -> list[str]:
    """In words, where a budget could not bind since the server does not count tokens."""
    budgets = ("max_tokens", "max_context", "max_cost")
    given = [name for name in budgets if getattr(limits, name) is not None]
    if not given or not talk.uncounted:
        return []
    return [f"not enforced: {', '.join(given)}: {talk.uncounted} of {talk.turns} replies came without their number of tokens"]
