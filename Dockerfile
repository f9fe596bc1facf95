# The images of the product, for those who have Docker:
#
#   docker build --target operator    --build-arg REVISION="$(git rev-parse HEAD)" -t inference-monitor-operator:0.1.0 .
#   docker build --target node-daemon --build-arg REVISION="$(git rev-parse HEAD)" -t inference-monitor-node-daemon:0.1.0 .
#
# `cargo xtask image` makes the same images without Docker, and collects the files for these; a test compares the rest.

FROM rust:1.95-bookworm AS build
WORKDIR /inference-monitor
COPY . .
# The caches keep what was compiled and downloaded; neither is in an image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/inference-monitor/target \
    cargo xtask image --rootfs /rootfs

FROM scratch AS shared
COPY --from=build /rootfs/shared/ /
ARG REVISION
ENV PATH=/usr/local/bin:/usr/bin
LABEL org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# As numbers: kubelet cannot tell whether a name is root, and refuses it under runAsNonRoot.
USER 65532:65532

FROM shared AS operator
COPY --from=build /rootfs/operator/ /
LABEL org.opencontainers.image.title="inference-monitor-operator" \
      org.opencontainers.image.description="Watches inference monitors and serves their metrics to the HPA"
ENTRYPOINT ["/usr/local/bin/infmon-operator"]

FROM shared AS node-daemon
COPY --from=build /rootfs/node-daemon/ /
LABEL org.opencontainers.image.title="inference-monitor-node-daemon" \
      org.opencontainers.image.description="Reads the inference servers and the GPUs of a node"
ENTRYPOINT ["/usr/local/bin/infmon-node-daemon"]
