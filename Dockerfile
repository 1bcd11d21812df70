# lakemesh outside Databricks Apps. Two stages, so that pip and its cache stay behind; the process is nobody in particular.
FROM python:3.11-slim AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -r requirements.txt

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home --home-dir /home/app app && mkdir /data && chown app /data
COPY --from=build /venv /venv
WORKDIR /app
COPY --chown=root:root . .
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LAKEMESH_HOME=/data LAKEMESH_HOST=0.0.0.0 LAKEMESH_PORT=8000
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "lakemesh.cli", "serve"]
