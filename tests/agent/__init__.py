"""The agent: its pure parts alone, the rest against a scripted model server and real sandboxes."""
