"""The page, and the only room that knows Gradio."""
