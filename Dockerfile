# Both base images can be replaced. If others use the image, pin the bases by digest:
# --build-arg RUNTIME_IMAGE=…@sha256:….
ARG BUILD_IMAGE=node:24-bookworm-slim
# Contains Node.js and its libraries, but no shell and no package manager. A replacement must have
# Node.js at the same path.
ARG RUNTIME_IMAGE=gcr.io/distroless/nodejs24-debian12:nonroot

# The builder's own platform, whatever the image's: what this stage makes is JavaScript. BuildKit
# sets BUILDPLATFORM.
FROM --platform=${BUILDPLATFORM} ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# Install scripts are not needed: the base image's Node.js runs the build, and npm installs
# esbuild's binary as a package.
RUN npm ci --ignore-scripts
COPY scripts/build.ts scripts/bundle.ts scripts/sbom.ts scripts/
COPY src src
# `gatecar gateway` prints the examples.
COPY examples examples
RUN node scripts/build.ts

FROM ${RUNTIME_IMAGE}
# `npm run generate` sets the version of package.json.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG RUNTIME_IMAGE
LABEL org.opencontainers.image.title="gatecar" \
      org.opencontainers.image.description="HTTP auth sidecar for Kubernetes: a bearer token in, identity headers out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
# COPY creates /app, so that it belongs to root. WORKDIR would give it to the base image's user, but
# the process must own no file here.
COPY LICENSE /app/
COPY --from=build /src/package.json /app/
# The bundle, sbom.cdx.json and licenses.txt.
COPY --from=build /src/dist /app/dist
WORKDIR /app
# --max-old-space-size limits the JavaScript heap. Without it, V8 sizes the heap for the memory of
# the machine. The value is enough for 100,000 cached results; more results need more.
# --max-semi-space-size makes V8 collect new objects at 8 MiB instead of 16, which saves 10 MB under
# load. Both are set here and not in the entry point, so that `kubectl exec … check` reports the
# limits of the server.
# MALLOC_… are documented settings of glibc's malloc. With one arena for all threads and a fixed
# threshold, freed memory returns to the system.
ENV NODE_ENV=production \
    NODE_OPTIONS="--max-old-space-size=128 --max-semi-space-size=8" \
    MALLOC_ARENA_MAX=1 \
    MALLOC_TRIM_THRESHOLD_=131072
USER 65532:65532
EXPOSE 9080 9081
# Exec form: it needs no shell, and SIGTERM reaches the process. Both flags are documented options of
# Node.js.
# --disable-sigusr1: otherwise SIGUSR1 opens a debugger on loopback, which the containers of a pod
# share.
# --v8-pool-size=2: V8 then collects garbage with two threads in addition to the main one, instead of
# four. On a single core, four threads take most of the CPU from the requests. With one thread, the
# marking falls behind the requests, which halves their rate.
ENTRYPOINT ["/nodejs/bin/node", "--disable-sigusr1", "--v8-pool-size=2", "/app/dist/gatecar.js"]
