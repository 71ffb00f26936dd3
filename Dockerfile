# syntax=docker/dockerfile:1

# Guided Diffusion Studio with its weights. What comes out needs no network to run.
#
#   docker build -t guided-diffusion-studio .
#   docker build -t guided-diffusion-studio --build-arg TORCH=cuda .
#   docker run --rm -p 7860:7860 guided-diffusion-studio

FROM python:3.12-slim AS builder

# Which build of PyTorch: cpu, or cuda, which is several times as large.
ARG TORCH=cpu

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /build
COPY requirements.txt ./

# torch and torchvision fit together only if they come from the same index in one go. The venv has no
# pip of its own, for the image needs none.
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$TORCH" in \
      cpu) set -- --index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) set -- ;; \
      *) echo "TORCH is cpu or cuda, not '$TORCH'" >&2; exit 2 ;; \
    esac \
    && grep -E '^torch(vision)?\b' requirements.txt > torch.txt \
    && python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-compile "$@" -r torch.txt

RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --no-compile -r requirements.txt \
    && pip --python /opt/venv/bin/python check

# Nothing is compiled or tested in the image: no headers, no static libraries, no tests. Then: are
# torch and torchvision a pair, and is it the build that was asked for?
RUN find /opt/venv \( -type d \( -name tests -o -name __pycache__ -o -path '*/torch/include' \) \
      -o -type f \( -name '*.pyc' -o -name '*.a' \) \) -prune -exec rm -rf {} + \
    && test "$(/opt/venv/bin/python -c 'import torch, torchvision; print("cuda" if torch.version.cuda else "cpu")')" = "$TORCH"


FROM python:3.12-slim

LABEL org.opencontainers.image.title="Guided Diffusion Studio" \
      org.opencontainers.image.description="Steer a diffusion model, and see why it works"

# The user that Hugging Face runs Docker Spaces as. It may write to its caches, not to the app.
RUN useradd -m -u 1000 user \
    && install -d -o user -g user \
      /home/user/.cache /home/user/.cache/huggingface /home/user/.cache/gradio

ENV HOME=/home/user \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPYCACHEPREFIX=/home/user/.cache/pycache \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/home/user/.cache/gradio \
    HF_HOME=/home/user/.cache/huggingface

WORKDIR /home/user/app

# What changes least comes first.
COPY --from=builder /opt/venv /opt/venv
COPY assets ./assets
COPY requirements.txt README.md ./
COPY pipelines ./pipelines
COPY tabs ./tabs
COPY app.py ./

# By number, so that Kubernetes can tell that it is not root.
USER 1000

EXPOSE 7860

# Past any proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from os import environ; from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:' + environ['GRADIO_SERVER_PORT'], timeout=4)"]

# Python as process 1 ignores SIGTERM, but not the signal of Ctrl+C.
STOPSIGNAL SIGINT

CMD ["python", "app.py"]
