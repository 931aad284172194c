# A node of Tidings. `docker build -t tidings .`, or see compose.yaml for a cluster.

FROM rust:1.90-slim-bookworm AS build
WORKDIR /tidings
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN cargo build --release --locked -p tidings

FROM debian:bookworm-slim
# wss:// trusts the certificates of the system.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 tidings \
 && install --directory --owner tidings /data
COPY --from=build /tidings/target/release/tidings /usr/local/bin/tidings
USER tidings
WORKDIR /data
VOLUME /data
# HTTP, the maze's source, its user clients.
EXPOSE 8088 9090 9099
# The image has no curl, but bash can open TCP connections.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8088 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["tidings"]
CMD ["serve", "--http", "0.0.0.0:8088", "--data", "/data", "--maze-source", "0.0.0.0:9090", "--maze-clients", "0.0.0.0:9099"]
