"""Models that run here: one process per loaded model, many chats in one batch."""
