"""Chat templates: from messages to the prompt that a model was trained for."""
