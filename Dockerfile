# The playground for a host with Docker; docs/hosting.md tells how to run it.
#   docker build -t gguf-playground .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
# Off: the image runs on other processors than the one that built it, at some cost in speed.
ARG CMAKE_ARGS="-DGGML_NATIVE=OFF"
ENV CMAKE_ARGS=${CMAKE_ARGS} PIP_NO_CACHE_DIR=1
WORKDIR /playground
# What decides the installation comes first, so that a change of the code builds no llama.cpp.
COPY pyproject.toml README.md LICENSE ./
COPY scripts/set_up.py scripts/
COPY playground/__init__.py playground/
RUN python scripts/set_up.py starter mcp metrics

FROM python:${PYTHON}-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 libstdc++6 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 playground \
    && mkdir /data /models && chown playground /data
WORKDIR /playground
COPY --from=build /playground/.venv .venv
COPY app.py LICENSE ./
COPY playground playground
USER playground
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/data/huggingface \
    PLAYGROUND_HOST=0.0.0.0 \
    PLAYGROUND_DATA_DIR=/data/playground \
    PLAYGROUND_MODEL_DIRS=/models \
    PLAYGROUND_ALLOW_LOCAL_FILES=false
# Downloaded models, levels made here, votes.
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD [".venv/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/gradio_api/app_id', timeout=8)"]
CMD [".venv/bin/python", "app.py"]
