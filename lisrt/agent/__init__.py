"""An LLM agent with a sandbox of its own: the loop, its tools and its record.

    from lisrt.agent import Agent, Model

    agent = Agent(Model("my-model", base_url="http://localhost:8000/v1"))
    episode = agent.run_sync("How many of the reports mention mergers?", input_dir="reports")
    print(episode.exit_reason, episode.answer)

A model's server behind TLS or a proxy needs the openai package: `pip install 'lisrt[agent]'`. All else needs nothing.
"""

from lisrt.agent.batch import Batch, TaskResult
from lisrt.agent.conversation import Conversation, effective, replayed
from lisrt.agent.episode import FAULTS, AgentLimits, Episode, ExitReason
from lisrt.agent.loop import Agent
from lisrt.agent.model import Model, Prices
from lisrt.agent.prompts import Prompts
from lisrt.agent.reply import TokenUsage
from lisrt.agent.task import BadTask, Task, read_tasks
from lisrt.agent.tools import TOOLS, AsyncTools, Observation, Tools
from lisrt.agent.trajectory import TrajectoryWriter, read_trajectory

__all__ = [
    "FAULTS",
    "TOOLS",
    "Agent",
    "AgentLimits",
    "AsyncTools",
    "BadTask",
    "Batch",
    "Conversation",
    "Episode",
    "ExitReason",
    "Model",
    "Observation",
    "Prices",
    "Prompts",
    "Task",
    "TaskResult",
    "TokenUsage",
    "Tools",
    "TrajectoryWriter",
    "effective",
    "read_tasks",
    "read_trajectory",
    "replayed",
]
