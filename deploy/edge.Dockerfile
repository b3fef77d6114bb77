# The edge without PyTorch. docker build -f deploy/edge.Dockerfile -t anomaly-edge .   Add [gpu] below for NVIDIA, and run with --gpus all.
FROM python:3.12-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY anomaly anomaly
COPY flows flows
RUN pip install --no-cache-dir '.[mqtt,kafka,opcua]' && useradd --create-home edge && mkdir /data && chown edge /data
USER edge
WORKDIR /data
ENTRYPOINT ["anomaly"]
CMD ["doctor"]
