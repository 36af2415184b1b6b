"""Tools in a chat: their calls as cards in the conversation, and what is asked of the person."""
