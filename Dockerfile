# The action's image: git, ripgrep, an init and MAOS bot with Anthropic's client, on the official slim Python.
# BASE_IMAGE may be any Debian with Python 3.11 or newer and its venv; docs/container.md says how it is built and checked.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-bookworm@sha256:cbd229d7b9bd041012af758ce5ffd807a6518d76493ce9035d208f1db9ceff1e

FROM ${BASE_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements/build.lock requirements/image.lock requirements/
# A network with its own certificates or index hands over pip's settings as secrets: none of it is in a layer.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/run/ca.pem \
    python3 -m venv /build \
 && /build/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements/build.lock \
 && /build/bin/pip download --quiet --require-hashes --only-binary :all: --dest /wheels -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY maos_bot maos_bot
COPY web web
COPY container/bytecode.py container/
# Reproducible: bytecode that names its source by content, made in one order, and no file says when it was installed.
ARG SOURCE_DATE_EPOCH=0
RUN PYTHONHASHSEED=0 /build/bin/pip wheel --quiet --no-build-isolation --no-deps --no-index --wheel-dir /wheels . \
 && python3 -m venv --without-pip /opt/maos \
 && /build/bin/pip --python /opt/maos/bin/python install --quiet --no-index --no-deps --no-compile /wheels/*.whl \
 && rm -rf /opt/maos/bin/[aA]ctivate* /opt/maos/bin/pip* /opt/maos/lib/python3*/site-packages/pip /opt/maos/lib/python3*/site-packages/pip-* \
 && find /opt/maos \( -name direct_url.json -o -name tests \) -prune -exec rm -rf {} + \
 && PYTHONHASHSEED=0 /opt/maos/bin/python container/bytecode.py tree /opt/maos/lib

FROM ${BASE_IMAGE}
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="MAOS bot" \
      org.opencontainers.image.description="Runs a repository's task spec inside one CI runner" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
# Debian's versions aren't pinned: the base is, by digest, and what is added should have the newest security fixes.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates git ripgrep tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig/* /var/log/*
COPY --from=build /opt/maos /opt/maos
COPY container/entry.py /opt/maos/entry.py
COPY container/bytecode.py container/sbom.py /tmp/container/
# The base has no bytecode: without that of what we import, every start would compile it, and root would write it down.
RUN PYTHONHASHSEED=0 /opt/maos/bin/python -B /tmp/container/bytecode.py imported \
 && /opt/maos/bin/python -B /tmp/container/sbom.py /usr/share/maos/sbom.cdx.json \
 && rm -rf /tmp/container \
 && ln -s /opt/maos/bin/maos /usr/local/bin/maos \
 && useradd --uid 1000 --user-group --create-home --skel /nonexistent maos \
 && install -d -o maos -g maos /workspace
WORKDIR /workspace
# -I: neither the workspace nor PYTHON* variables decide what is imported. -B: nothing is written beside our modules.
# It puts tini before itself.
ENTRYPOINT ["/opt/maos/bin/python", "-I", "-B", "-u", "/opt/maos/entry.py"]
