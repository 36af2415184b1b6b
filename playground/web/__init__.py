"""The page, the API and the web server: the only place that imports Gradio."""

from playground.web.gradio_import import leave_out_stubs

leave_out_stubs()
