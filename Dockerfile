# Both bases can be replaced; pin them by digest where images are built for others: --build-arg RUNTIME_IMAGE=…@sha256:….
ARG BUILD_IMAGE=node:24-bookworm-slim
# Node.js and the libraries it needs: no shell, no package manager. Whatever replaces it has its Node.js at the same path.
ARG RUNTIME_IMAGE=gcr.io/distroless/nodejs24-debian12:nonroot

# The builder's own platform, whatever the image's: what this stage makes is JavaScript. BuildKit sets BUILDPLATFORM.
FROM --platform=${BUILDPLATFORM} ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# No install scripts: the image's own Node builds, and esbuild's binary comes as a package.
RUN npm ci --ignore-scripts
COPY scripts/build.ts scripts/bundle.ts scripts/sbom.ts scripts/
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
# The bundle, and next to it sbom.cdx.json and licenses.txt.
COPY --from=build /src/dist /app/dist
WORKDIR /app
# --max-old-space-size limits the JavaScript heap: without it V8 uses what the machine has before it collects. It is
# enough for 100,000 cached results; more of them need more. --max-semi-space-size collects new objects at 8 MiB of them
# instead of 16, which saves 10 MB under load. Both stand here and not in the entry point, so that `kubectl exec … check`
# reports the limits of the server. MALLOC_… are documented settings of glibc's malloc: with one
# arena for all threads, and a threshold that does not grow, freed memory returns to the system.
ENV NODE_ENV=production \
    NODE_OPTIONS="--max-old-space-size=128 --max-semi-space-size=8" \
    MALLOC_ARENA_MAX=1 \
    MALLOC_TRIM_THRESHOLD_=131072
USER 65532:65532
EXPOSE 9080 9081
# Exec form: no shell is needed, and SIGTERM reaches the process. Both flags are documented options of Node.js:
# --disable-sigusr1: the signal would open a debugger on loopback, which the containers of a pod share.
# --v8-pool-size=1: V8 collects garbage with one thread besides the main one, instead of four. On a single core, four
# threads take most of the processor from the requests.
ENTRYPOINT ["/nodejs/bin/node", "--disable-sigusr1", "--v8-pool-size=1", "/app/dist/gatecar.js"]
