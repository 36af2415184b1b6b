"""What programs ask over the OpenAI-compatible interface: replies, and the list of them while they run."""
