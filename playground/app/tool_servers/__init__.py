"""MCP servers that the owner of this computer has configured: programs that bring tools of their own to a chat."""
