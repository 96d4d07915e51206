# The testbed as an image. Another Debian or Ubuntu base: --build-arg BASE=…
ARG BASE=debian:12-slim

FROM ${BASE} AS build
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY agent agent
COPY testbed testbed
COPY topologies topologies
COPY scenarios scenarios
RUN python3 -m venv /opt/testbed \
    && /opt/testbed/bin/pip install --no-cache-dir --disable-pip-version-check . \
    && /opt/testbed/bin/pip uninstall --yes pip

FROM ${BASE}
LABEL org.opencontainers.image.title="testbed" \
      org.opencontainers.image.description="OBUs and RSUs in network namespaces, measured" \
      org.opencontainers.image.licenses="Apache-2.0"
# The same list as in ./bootstrap, and no more.
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        python3 iproute2 iputils-ping tcpdump ethtool iperf3 nftables kmod \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/testbed /opt/testbed
ENV PATH=/opt/testbed/bin:$PATH
WORKDIR /results
ENTRYPOINT ["testbed"]
CMD ["--help"]
