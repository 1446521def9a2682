"""An LLM agent with a sandbox of its own: the loop, its tools and its record.

    from lisrt.agent import Agent, Model

    agent = Agent(Model("my-model", base_url="http://localhost:8000/v1"))
    episode = agent.run_sync("How many of the reports mention mergers?", input_dir="reports")
    print(episode.exit_reason, episode.answer)

Needs the openai package: `pip install 'lisrt[agent]'`.
"""

from lisrt.agent.episode import AgentLimits, Episode, ExitReason
from lisrt.agent.loop import Agent
from lisrt.agent.model import Model
from lisrt.agent.prompts import Prompts
from lisrt.agent.reply import TokenUsage
from lisrt.agent.tools import TOOLS
from lisrt.agent.trajectory import TrajectoryWriter, read_trajectory

__all__ = [
    "TOOLS",
    "Agent",
    "AgentLimits",
    "Episode",
    "ExitReason",
    "Model",
    "Prompts",
    "TokenUsage",
    "TrajectoryWriter",
    "read_trajectory",
]
