"""The Chat tab: its components, what it does, what comes back after a reload, the dial, the tools."""
