# Everything that learns: fit, flows, a worker of Prefect.   docker build -f deploy/trainer.Dockerfile -t anomaly-trainer:0.8.0 .
# PyTorch's wheels bring CUDA: the machine needs NVIDIA's driver and container toolkit alone, and --gpus all. Without a GPU it runs on the CPU.
FROM python:3.11.13-slim-bookworm AS build
ARG EXTRAS=train,flows,gpu,alerts,mqtt,registry
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY anomaly anomaly
COPY flows flows
RUN python -m venv /opt/anomaly \
 && /opt/anomaly/bin/pip install --constraint constraints.txt ".[${EXTRAS}]" \
 && python -m venv /opt/sbom \
 && /opt/sbom/bin/pip install --constraint constraints.txt cyclonedx-bom \
 && /opt/sbom/bin/cyclonedx-py environment --output-reproducible \
      --output-file /opt/anomaly/sbom.cdx.json /opt/anomaly/bin/python

FROM python:3.11.13-slim-bookworm
COPY --from=build /opt/anomaly /opt/anomaly
COPY --chmod=755 deploy/backup.py /usr/local/bin/anomaly-backup
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin anomaly \
 && install --directory --owner anomaly --group anomaly /app /app/out /app/.anomaly
WORKDIR /app
COPY flows flows
COPY specs specs
COPY data_samples data_samples
COPY deploy/prefect.yaml deploy/fleet.toml deploy/
USER 10001:10001
# Results in /app/out, what is kept between runs in /app/.anomaly: two volumes. All else may be read-only, with a tmpfs at /tmp.
VOLUME ["/app/out", "/app/.anomaly"]
# While its database is away Prefect's server answers 500: it is asked again, for 4 minutes, where otherwise a run fails and cannot say so.
ENV PREFECT_CLIENT_RETRY_EXTRA_CODES=500 PREFECT_CLIENT_MAX_RETRIES=7
ENV PATH=/opt/anomaly/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app HOME=/tmp ANOMALY_HOME=/app ANOMALY_CACHE=/app/.anomaly/cache \
    MPLCONFIGDIR=/tmp/matplotlib PREFECT_HOME=/tmp/prefect PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# The worker's own page of health; a container that runs something else switches this off (healthcheck: disable).
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8080/health', timeout=8)"]
CMD ["prefect", "worker", "start", "--pool", "factory", "--with-healthcheck"]
