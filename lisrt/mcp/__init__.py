"""A server of the Model Context Protocol: each client works in a sandbox of its own. `lisrt mcp` runs it.

Needs the official SDK, `pip install 'lisrt[mcp]'`. `guest` knows the sandbox and nothing of the protocol, `server` the protocol,
`stdio` and `http` how it is carried. Those three import the SDK: call `load_sdk` first.
"""

from lisrt.mcp.guest import Answer, Fault, File, Guest, Settings
from lisrt.mcp.sdk import load_sdk

__all__ = ["Answer", "Fault", "File", "Guest", "Settings", "load_sdk"]
