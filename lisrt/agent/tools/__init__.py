"""The tools of an agent, for our loop and for anyone's: `execute_bash`, `str_replace_editor`, `submit`."""

from lisrt.agent.tools.definitions import FORMATS, Definition, schemas
from lisrt.agent.tools.observation import Observation, SandboxFault
from lisrt.agent.tools.standard import TOOLS, WITHOUT
from lisrt.agent.tools.toolbox import PROFILES, SHELLS, AsyncTools, Tools

__all__ = [
    "FORMATS",
    "PROFILES",
    "SHELLS",
    "TOOLS",
    "WITHOUT",
    "AsyncTools",
    "Definition",
    "Observation",
    "SandboxFault",
    "Tools",
    "schemas",
]
