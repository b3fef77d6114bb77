# The edge without PyTorch. docker build -f deploy/edge.Dockerfile -t anomaly-edge .   Add [gpu] below for NVIDIA, and run with --gpus all.
FROM python:3.12-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY anomaly anomaly
COPY flows flows
RUN pip install --no-cache-dir '.[mqtt,kafka,opcua]' && useradd --create-home edge && mkdir /data && chown edge /data
USER edge
WORKDIR /data
# monitor and box answer /healthz, /readyz and /metrics here; to scrape them from outside: -e ANOMALY_LISTEN=0.0.0.0:9464 -p 9464:9464
ENV ANOMALY_LISTEN=127.0.0.1:9464
HEALTHCHECK --interval=30s --timeout=10s --start-period=1m --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['ANOMALY_LISTEN'].rpartition(':')[2] + '/healthz', timeout=8)"]
ENTRYPOINT ["anomaly"]
CMD ["doctor"]
