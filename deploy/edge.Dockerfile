# The edge without PyTorch: reads, scores, alarms.   docker build -f deploy/edge.Dockerfile -t anomaly-edge:0.8.0 .
# For NVIDIA: --build-arg EXTRAS=mqtt,kafka,opcua,alerts,page,gpu, and run with --gpus all. Runs as user 10001 and writes to /data and /tmp alone:
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -v store:/data anomaly-edge:0.8.0 monitor …
FROM python:3.11.13-slim-bookworm AS build
ARG EXTRAS=mqtt,kafka,opcua,alerts,page
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
# What is in this image, as CycloneDX: docker run --rm --entrypoint cat anomaly-edge:0.8.0 /opt/anomaly/sbom.cdx.json
COPY --from=build /opt/anomaly /opt/anomaly
COPY --chmod=755 deploy/backup.py /usr/local/bin/anomaly-backup
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin anomaly \
 && install --directory --owner anomaly --group anomaly /data
USER 10001:10001
WORKDIR /data
VOLUME /data
# monitor and box answer /healthz, /readyz and /metrics here; to scrape them from outside: -e ANOMALY_LISTEN=0.0.0.0:9464 -p 9464:9464
# The page is there as well where a file says who may open it: -e ANOMALY_PAGE_AUTH=/etc/anomaly/page.toml, and mount it
ENV PATH=/opt/anomaly/bin:$PATH PYTHONDONTWRITEBYTECODE=1 ANOMALY_CACHE=/data/cache ANOMALY_LISTEN=127.0.0.1:9464
HEALTHCHECK --interval=30s --timeout=10s --start-period=1m --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['ANOMALY_LISTEN'].rpartition(':')[2] + '/healthz', timeout=8)"]
ENTRYPOINT ["anomaly"]
CMD ["doctor"]
