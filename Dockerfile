# Two stages: build wheels' environment, then run it as nobody in particular on a read-only root.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/aiops
COPY requirements/run.lock requirements/run.lock
RUN /opt/aiops/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/run.lock
COPY . .
RUN /opt/aiops/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
 && /opt/aiops/bin/aiops --version

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/aiops --create-home aiops
COPY --from=build /opt/aiops /opt/aiops
ENV PATH=/opt/aiops/bin:$PATH PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
WORKDIR /var/lib/aiops
VOLUME /var/lib/aiops
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/-/healthy', timeout=4)"]
ENTRYPOINT ["aiops"]
CMD ["run", "--data-dir", "/var/lib/aiops"]
