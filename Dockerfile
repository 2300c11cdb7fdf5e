# Both bases can be replaced; pin them by digest where images are built for others: --build-arg RUNTIME_IMAGE=…@sha256:….
ARG BUILD_IMAGE=node:24-bookworm-slim
# Node.js and the libraries it needs: no shell, no package manager. Whatever replaces it has its Node.js at the same path.
ARG RUNTIME_IMAGE=gcr.io/distroless/nodejs24-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# No install scripts: the image's own Node builds, and esbuild's binary comes as a package.
RUN npm ci --ignore-scripts
COPY scripts/build.ts scripts/bundle.ts scripts/lean-bundle.ts scripts/bill-of-materials.ts scripts/
COPY src src
# What `gatecar gateway` prints.
COPY examples examples
RUN node scripts/build.ts

FROM ${RUNTIME_IMAGE}
# That of package.json: npm run generate.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG RUNTIME_IMAGE
LABEL org.opencontainers.image.title="gatecar" \
      org.opencontainers.image.description="HTTP auth sidecar for Kubernetes: a bearer token in, identity headers out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
# Made by COPY and not by WORKDIR, which would give it to the base's user: what runs here owns none of it.
COPY LICENSE /app/
COPY --from=build /src/package.json /app/
# The bundle, and beside it sbom.cdx.json and licenses.txt.
COPY --from=build /src/dist /app/dist
WORKDIR /app
# Without a bound V8 takes what the machine has before it collects. This is enough for 100,000 verdicts; more of them need more.
# glibc gives back what is free above its threshold, which it raises by itself once something large was freed, and then does not.
ENV NODE_ENV=production \
    NODE_OPTIONS=--max-old-space-size=128 \
    MALLOC_TRIM_THRESHOLD_=131072
USER 65532:65532
EXPOSE 9080 9081
# Exec form: no shell is needed, and SIGTERM reaches the process. V8's flags are those of a sidecar, which has a core and little
# memory; a Node.js that does not know one of them says so and ends at once. They are not in NODE_OPTIONS, where whoever sets the
# bound of the heap would undo them.
#   disable-sigusr1: that signal would open a debugger on loopback, which the containers of a pod share.
#   v8-pool-size=1: one thread for V8's own work.
#   max-semi-space-size=8: new objects are collected at 8 MiB of them, not at 16: 10 MB less under load.
#   heap-growing-percent=15: old ones once they are so much more than the last time, not half as much again: 5 MB less where
#     100,000 verdicts are held.
#   liftoff-only: the one part that is WebAssembly, undici's parser of answers, is compiled once and not again to be faster, which
#     holds 13 MB for good to save a microsecond or two of a review.
#   no-maglev-destroy-on-background: what one compilation needed is freed when it is done. Left to that one thread, it waits
#     behind all that are still to come, and 30 MB of it stay for good.
#   no-allocation-site-pretenuring: nothing new is made among the old objects because what was made in the same place before lived
#     long. Once V8 thought so of a call over HTTP/2, each held its stream until a full collection.
ENTRYPOINT ["/nodejs/bin/node", "--disable-sigusr1", "--v8-pool-size=1", "--max-semi-space-size=8", "--heap-growing-percent=15", "--liftoff-only", "--no-maglev-destroy-on-background", "--no-allocation-site-pretenuring", "/app/dist/gatecar.js"]
