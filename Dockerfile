# One image for every role; the chart in charts/omnimesh runs it. `docker build --tag omnimesh:0.1.0 .`
#
# Beyond the loopback nothing is served without TLS:
#   docker run --publish 8443:8443 --volume omnimesh:/var/lib/omnimesh --volume "$PWD/tls:/etc/omnimesh/tls:ro" \
#     --env OMNIMESH__EDGE__TLS__CERT=/etc/omnimesh/tls/tls.crt \
#     --env OMNIMESH__EDGE__TLS__KEY=/etc/omnimesh/tls/tls.key omnimesh:0.1.0 up --listen 0.0.0.0:8443

FROM rust:1.95.0-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake libprotobuf-dev protobuf-compiler \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The image's own toolchain, without the components that rust-toolchain.toml asks for beside.
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_TARGET_DIR=/target
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    cargo build --locked --release --package omnimesh \
    && install /target/release/omnimesh /usr/local/bin/omnimesh

FROM debian:bookworm-slim
# Whom to trust as an object store.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 omnimesh \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/omnimesh --no-create-home \
        --shell /usr/sbin/nologin omnimesh \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/omnimesh
COPY LICENSE /usr/share/doc/omnimesh/LICENSE
COPY --from=build /usr/local/bin/omnimesh /usr/local/bin/omnimesh
USER 10001:10001
ENV OMNIMESH_DATA_DIR=/var/lib/omnimesh
VOLUME /var/lib/omnimesh
EXPOSE 8443
# A first start has migrations before it, and a restart what the last process left half-told.
HEALTHCHECK --interval=10s --timeout=10s --start-period=5m CMD ["omnimesh", "status", "--ready"]
ENTRYPOINT ["omnimesh"]
CMD ["up"]
