"""The Chat tab's work without the page: replies, what a browser keeps of them, and chats that are cleared or opened."""
