"""Tools that a model may call in a chat: how they are described, checked and run, and the few that are built in."""
