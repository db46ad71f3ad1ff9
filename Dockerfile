# One image for every role: `docker build -t uproar .`, then everything in one process. Reports of loadgen name the commit with
# `--build-arg UPROAR_COMMIT=$(git rev-parse --short=12 HEAD)`.
#
#   docker run -p 127.0.0.1:8080:8080 -p 127.0.0.1:1883:1883 -v uproar:/var/lib/uproar --stop-timeout 35 uproar
#
# or `docker run uproar fanout` and the like (compose.yaml). The admin port is on the container's loopback unless
# UPROAR__SERVICE__ADMIN_LISTEN=0.0.0.0:9090 is in its environment.
FROM rust:1.95.0-bookworm AS build
# librdkafka, OpenSSL and SQLite are built from their bundled sources: a C compiler, make and perl.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential perl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG UPROAR_COMMIT=
RUN cargo build --release --locked --bin uproar && cargo build --release --locked -p loadgen \
    && cp target/release/uproar target/release/loadgen /usr/local/bin/

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/uproar uproar
COPY --from=build /usr/local/bin/uproar /usr/local/bin/loadgen /usr/local/bin/
USER uproar
WORKDIR /var/lib/uproar
VOLUME /var/lib/uproar
# Public HTTP of ingest (and of everything in one process), of fanout, MQTT for viewers, and the admin port.
EXPOSE 8080 8081 1883 9090
ENTRYPOINT ["uproar"]
CMD ["all"]
