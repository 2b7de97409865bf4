# The action's image. BASE_IMAGE lets it be built from a local base.
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY requirements/core.lock requirements/core.lock
RUN python3 -m venv /opt/maos && /opt/maos/bin/pip install --no-cache-dir --require-hashes -r requirements/core.lock
COPY pyproject.toml README.md LICENSE ./
COPY maos_bot maos_bot
COPY web web
RUN /opt/maos/bin/pip install --no-cache-dir --no-deps .

FROM ${BASE_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends git tini \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/maos /opt/maos
ENV PATH=/opt/maos/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["tini", "--", "maos", "action"]
