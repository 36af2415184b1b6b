"""Tools in the Chat tab: their components, and what happens when they are used."""
