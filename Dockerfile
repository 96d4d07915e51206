# The testbed as an image: `docker build -t testbed .`, then `testbed run --container …` or what
# docs/ci.md says. The base is pinned; any other Debian 12, Ubuntu 24.04 or later does, by tag or by
# digest: --build-arg BASE=…
ARG BASE=debian:bookworm-20250520-slim

FROM ${BASE} AS build
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
# pip's own variables, where packages come from somewhere else; nothing of them stays in the image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_NO_CACHE_DIR=1
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# First what is needed, then what is ours: a change of ours installs nothing else anew.
COPY pyproject.toml ./
RUN python3 -m venv /opt/testbed \
    && python3 -c 'import tomllib; \
project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], sep="\n")' >/tmp/needed \
    && /opt/testbed/bin/pip install -q -r /tmp/needed \
    && find /opt/testbed/lib/python3*/site-packages/numpy /opt/testbed/lib/python3*/site-packages/scipy \
        -depth -type d -name tests -exec rm -r {} +
COPY README.md LICENSE ./
COPY agent agent
COPY testbed testbed
COPY topologies topologies
COPY scenarios scenarios
RUN /opt/testbed/bin/pip install -q --no-deps . \
    && /opt/testbed/bin/pip check \
    && /opt/testbed/bin/pip uninstall -q --yes setuptools pip

FROM ${BASE}
# Of the testbed in it, as in agent/__init__.py.
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="testbed" \
      org.opencontainers.image.description="OBUs and RSUs in network namespaces, measured" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# The same list as in ./bootstrap, and no more.
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        python3 iproute2 iputils-ping tcpdump ethtool iperf3 nftables kmod \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/testbed /opt/testbed
ENV PATH=/opt/testbed/bin:$PATH
WORKDIR /results
# A check that runs now and then would be measured along with everything else.
HEALTHCHECK NONE
ENTRYPOINT ["testbed"]
CMD ["--help"]
