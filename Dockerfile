# syntax=docker/dockerfile:1
# Both bases can be replaced, and should be pinned by digest where images are built for others.
ARG BUILD_IMAGE=node:24-bookworm-slim
ARG RUNTIME_IMAGE=node:24-bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# No install scripts: the image's own Node builds, and esbuild's binary comes as a package.
RUN npm ci --ignore-scripts
COPY scripts/build.ts scripts/
COPY src src
RUN node scripts/build.ts

FROM ${RUNTIME_IMAGE}
WORKDIR /app
COPY LICENSE ./
COPY --from=build /src/package.json ./
COPY --from=build /src/dist dist
ENV NODE_ENV=production
USER 65532:65532
EXPOSE 9080 9081
# Exec form: no shell is needed, and SIGTERM reaches the process.
ENTRYPOINT ["node", "/app/dist/gatecar.js"]
