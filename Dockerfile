# One image for every role: web (the default command), worker, setup.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
# Where pip looks, if not at its default. PyPI's torch for Linux brings CUDA along, gigabytes of it:
# for a CPU image, give PyTorch's index of CPU wheels as PIP_EXTRA_INDEX_URL, or a page of wheels
# as PIP_FIND_LINKS. Credentials in these URLs stay in this stage, out of the final image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
# The environment needs no pip of its own: the base image's installs into it.
RUN python -m venv --without-pip /opt/venv
# requirements-int8.txt for versions that are quantised.
ARG REQUIREMENTS=requirements.txt
COPY requirements*.txt .
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir -r "${REQUIREMENTS}"

FROM ${PYTHON_IMAGE}
# /var/lib/velo keeps the state (the secret key; the database, if that is SQLite) and is the only
# place outside /tmp that is written to: the rest can be mounted read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    STATIC_ROOT=/app/static \
    VELO_VAR=/var/lib/velo \
    HOST=0.0.0.0 \
    PORT=8877
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin velo
COPY --from=builder /opt/venv /opt/venv
WORKDIR /app
COPY . .
# Bytecode now, because at run time nobody can write it. The key serves this command only.
RUN python -m compileall -q . \
    && DJANGO_SECRET_KEY=build DJANGO_ALLOWED_HOSTS=localhost \
       python manage.py collectstatic --noinput \
    && install -d -o velo -g velo -m 0700 "$VELO_VAR"
USER 10001

EXPOSE 8877
# 400 is a sign of life too: 127.0.0.1 need not be among DJANGO_ALLOWED_HOSTS.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8877, 4); c.request('GET', '/health/live'); exit(c.getresponse().status not in (200, 400))"]
CMD ["python", "manage.py", "web"]
