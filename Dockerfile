# syntax=docker/dockerfile:1
# One binary, on a base image without a shell: `docker build -t zapbus .`, or `make image`.

ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

# Only what decides about dependencies. The next stage copies the result, and a copy is made again
# only when what it copies has changed: a change of a source file compiles no dependency.
FROM rust:${RUST_VERSION}-${DEBIAN} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock -delete \
    && find . -name Cargo.toml | while read -r manifest; do \
        if grep -q '^\[package\]' "$manifest"; then \
            folder="$(dirname "$manifest")/src" \
            && mkdir -p "$folder" \
            && : > "$folder/lib.rs" \
            && echo 'fn main() {}' > "$folder/main.rs"; \
        fi; \
    done \
    && find . -type d -empty -delete

FROM rust:${RUST_VERSION}-${DEBIAN} AS build
# aws-lc may need cmake; SQLite is built by the C compiler that is there.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY --from=manifests /src ./
# Our own crates are stand-ins here: nothing of them is kept.
RUN cargo build --profile dist --locked --package zapbus --bin zapbus \
    && rm -rf target/dist/.fingerprint/zapbus* target/dist/deps/*zapbus* target/dist/zapbus*
COPY . .
RUN cargo build --profile dist --locked --package zapbus --bin zapbus \
    && mkdir -p /out/data \
    && cp target/dist/zapbus /out/

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Zapbus" \
      org.opencontainers.image.description="A durable event bus for WhatsApp" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/zapbus /usr/local/bin/zapbus
# A new volume gets the owner of the folder that it covers.
COPY --from=build --chown=65532:65532 /out/data /var/lib/zapbus
USER 65532:65532
ENV ZAPBUS_LISTEN=0.0.0.0:8080 \
    ZAPBUS_DATA_DIR=/var/lib/zapbus \
    ZAPBUS_LOG_FORMAT=json
VOLUME ["/var/lib/zapbus"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# The process answers; whether it takes events is another question (/readyz), and restarting a
# gateway whose disk is full would help nobody.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/zapbus", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/zapbus"]
CMD ["serve"]
