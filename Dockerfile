# The playground for a host with Docker: on the processor alone, or with an NVIDIA GPU. docs/hosting.md has the details.
#   docker build -t gguf-playground .
#   docker build -t gguf-playground --build-arg BACKEND=cuda .
ARG BACKEND=cpu
ARG PYTHON=3.12
ARG CUDA=12.4.1

FROM python:${PYTHON}-slim AS build-cpu
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

FROM nvidia/cuda:${CUDA}-devel-ubuntu22.04 AS build-cuda
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3 python3-venv && rm -rf /var/lib/apt/lists/*
# A build links with the driver's library, which the GPU's computer brings later.
ENV LIBRARY_PATH=/usr/local/cuda/lib64/stubs

FROM python:${PYTHON}-slim AS run-cpu
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 libstdc++6 && rm -rf /var/lib/apt/lists/*

FROM nvidia/cuda:${CUDA}-runtime-ubuntu22.04 AS run-cuda
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 libstdc++6 python3 \
    && rm -rf /var/lib/apt/lists/*

FROM build-${BACKEND} AS build
ARG BACKEND
# The prebuilt llama.cpp where the index of its bindings has one, else a build; BUILD=source builds in any case.
ARG BUILD=prebuilt
# For a build. Off: the image runs on other processors than the one that built it, at some cost in speed.
ARG CMAKE_ARGS="-DGGML_NATIVE=OFF"
ENV BACKEND=${BACKEND} BUILD=${BUILD} CMAKE_ARGS=${CMAKE_ARGS} GPU=elsewhere PIP_NO_CACHE_DIR=1
WORKDIR /playground
# What decides the installation comes first, so that a change of the code installs nothing anew.
COPY pyproject.toml README.md LICENSE ./
COPY scripts/__init__.py scripts/set_up.py scripts/install_llama.py scripts/llama_wheel.py scripts/backends.py scripts/
COPY playground/__init__.py playground/
RUN python3 scripts/set_up.py starter mcp metrics

FROM run-${BACKEND}
RUN useradd --create-home --uid 1000 playground && mkdir /data /models && chown playground /data
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
