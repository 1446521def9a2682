"""`lisrt mcp` with real clients. Not called `mcp`: that is the SDK's name, and this directory is on the path."""
