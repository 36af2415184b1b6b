"""What every front end does, without Gradio and without markup: services, chats, comparisons, plans."""
