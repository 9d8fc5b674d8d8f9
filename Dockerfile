# Two images from one source. `docker build .` makes the edge alone;
# `docker build --target demo .` makes it with the backend app inside.
# This file was written without a container engine at hand: it has not been built yet.

FROM rust:1.95-slim-bookworm AS source
# For the allocator's own build.
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .

FROM source AS build-demo
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=target-demo,target=/build/target,sharing=locked \
    cargo build --release --locked \
    && install -D target/release/tollgate /out/tollgate

FROM source AS build-edge
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=target-edge,target=/build/target,sharing=locked \
    cargo build --release --locked --no-default-features \
    && install -D target/release/tollgate /out/tollgate

FROM debian:bookworm-slim AS base
# The trusted roots, for upstreams that speak TLS.
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN install -d -o 65532 -g 65532 /var/lib/tollgate /var/lib/tollgate/data
WORKDIR /var/lib/tollgate
# By number, so that an orchestrator can see that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollgate"]

FROM base AS demo
COPY --from=build-demo /out/tollgate /usr/local/bin/tollgate
EXPOSE 3000
# The proxy in front checks /health itself, so this image has no check of its own.
HEALTHCHECK NONE
CMD ["backend", "--listen", "0.0.0.0:3000"]

FROM base AS edge
COPY --from=build-edge /out/tollgate /usr/local/bin/tollgate
EXPOSE 8080 8443
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["tollgate", "healthcheck", "--config", "/etc/tollgate/config.toml"]
# Mount the folder /etc/tollgate, not the one file in it: an editor replaces a file, and the mount would keep the old one.
CMD ["run", "--config", "/etc/tollgate/config.toml"]
