# docker build -t pylb .
# docker run -p 8080:8080 -v /path/to/lb.yaml:/etc/pylb/lb.yaml:ro pylb
#
# An access log at "-" goes to `docker logs`. Ports below 1024 are no privilege in a container (Docker 20.10 and newer).

FROM python:3.12-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.12-slim
COPY --from=build /wheels /wheels
# twistd --help writes Twisted's cache of plugins while it may.
RUN pip install --no-cache-dir /wheels/*.whl \
 && rm -r /wheels \
 && twistd --help >/dev/null \
 && useradd --system --no-create-home --shell /usr/sbin/nologin pylb
USER pylb
WORKDIR /
# In this form twistd is process 1 and gets SIGTERM itself.
CMD ["twistd", "-n", "--pidfile=", "pylb", "--config", "/etc/pylb/lb.yaml"]
