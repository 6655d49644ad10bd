# syntax=docker/dockerfile:1

FROM rust:1.95-slim-trixie AS build
WORKDIR /build
COPY . .
# Registry and target folder stay on the builder between builds, so a change of a source compiles
# that crate and not the dependencies.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin stampede \
    && cp target/release/stampede /usr/local/bin/stampede

FROM debian:trixie-slim
# The certificates of those whom payments and webhooks are sent to: the newest, so no version is named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --uid 10001 --shell /usr/sbin/nologin stampede \
    && install --directory --owner=10001 --group=10001 /ledger
COPY --from=build /usr/local/bin/stampede /usr/local/bin/stampede
USER 10001:10001
ENV STAMPEDE_LISTEN=0.0.0.0:8080 \
    STAMPEDE_LOG_FORMAT=json
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/stampede"]
CMD ["--help"]
