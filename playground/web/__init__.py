"""The page, and the only room that knows Gradio."""

from playground.web.gradio_import import leave_out_stubs

leave_out_stubs()
