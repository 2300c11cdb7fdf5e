import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Config, SETTINGS } from '../../config/schema.ts';
import {
  type AddressSyntax,
  caddyAddress,
  envoyAddress,
  haproxyAddress,
  hasHostName,
  type Listener,
  nginxAddress,
  writtenAddress,
} from './addresses.ts';
import { caddyTls, envoyStrictDns, envoyTls, haproxyTls, nginxTls, type WithTls } from './tls-snippets.ts';

/** How the configuration of a gateway on the same machine contains the address of gatecar. */
interface AddressTemplate {
  readonly listener: Listener;
  /** The address as the example has it. It occurs there once. */
  readonly written: string;
  readonly syntax: AddressSyntax;
  /** Makes the further changes that an address with a host name needs. */
  readonly withHostName?: (text: string) => string;
}

/** A gateway's configuration: files below `examples`. Settings are inserted into the first one. */
interface GatewayText {
  readonly files: readonly string[];
  /** Absent if the gateway calls a Service of the cluster: no setting has its name and port. */
  readonly asked?: AddressTemplate;
  /** Adds TLS. Absent for the same reason as `asked`. */
  readonly tls?: WithTls;
}

const envoy = (listener: Listener, port: number): AddressTemplate => ({
  listener,
  written: `socket_address: { address: 127.0.0.1, port_value: ${port} }`,
  syntax: envoyAddress,
  withHostName: envoyStrictDns,
});

/** Every gateway whose configuration `gatecar gateway` can print. */
export const GATEWAYS = {
  nginx: {
    files: ['nginx/nginx.conf'],
    asked: { listener: 'listen', written: 'server 127.0.0.1:9080;', syntax: nginxAddress },
    tls: nginxTls,
  },
  'envoy-http': { files: ['envoy-http/envoy.yaml'], asked: envoy('listen', 9080), tls: envoyTls },
  'envoy-grpc': { files: ['envoy-grpc/envoy.yaml'], asked: envoy('grpcListen', 9082), tls: envoyTls },
  caddy: {
    files: ['caddy/Caddyfile'],
    asked: { listener: 'listen', written: 'forward_auth 127.0.0.1:9080 {', syntax: caddyAddress },
    tls: caddyTls,
  },
  haproxy: {
    files: ['haproxy/haproxy.cfg', 'haproxy/gatecar.lua'],
    asked: { listener: 'listen', written: 'server gatecar 127.0.0.1:9080', syntax: haproxyAddress },
    tls: haproxyTls,
  },
  'ingress-nginx': { files: ['ingress-nginx/ingress.yaml'] },
  istio: { files: ['istio/mesh-config.yaml', 'istio/authorization-policy.yaml'] },
  'envoy-gateway': { files: ['envoy-gateway/security-policy.yaml'] },
  contour: { files: ['contour/httpproxy.yaml'] },
  traefik: { files: ['traefik/middleware.yaml', 'traefik/static.yaml'] },
  'gateway-api': { files: ['gateway-api/http-route.yaml'] },
  apisix: { files: ['apisix/apisix.yaml', 'apisix/config.yaml'] },
  'f5-nginx': { files: ['f5-nginx/virtual-server.yaml'] },
} as const satisfies Record<string, GatewayText>;

export type GatewayName = keyof typeof GATEWAYS;

/**
 * Returns the folder of the examples: next to the bundle, or in the source tree.
 *
 * @param here the folder of this code.
 */
export function examplesFolder(here: string): string {
  const shipped = join(here, 'examples');
  return existsSync(shipped) ? shipped : join(here, '../../../examples');
}

/**
 * Renders one file of a gateway's configuration. The address and the header prefix of the settings
 * replace those of the example. With default settings the result is the example itself.
 *
 * @param file the path below `examples`; one of the gateway's files.
 * @throws {UsageError} if the gateway cannot connect to the address in the settings.
 */
export async function gatewayText(name: GatewayName, file: string, config: Config): Promise<string> {
  const { files, asked, tls }: GatewayText = GATEWAYS[name];
  const example = await readFile(join(examplesFolder(import.meta.dirname), file), 'utf8');
  const isFirst = file === files[0];
  const addressed = asked !== undefined && isFirst ? withAddress(example, asked, config) : example;
  const { tlsCertFile, tlsClientCaFile, identityHeaderPrefix } = config;
  const isTls = tls !== undefined && isFirst && tlsCertFile !== undefined;
  return withPrefix(isTls ? tls(addressed, tlsClientCaFile !== undefined) : addressed, identityHeaderPrefix);
}

/** Replaces the example's address with the configured one, if there is one. */
function withAddress(
  text: string,
  { listener, written, syntax, withHostName }: AddressTemplate,
  config: Config,
): string {
  const address = config[listener];
  if (address === undefined) return text;
  const place = writtenAddress(syntax, listener, address);
  const replaced = text.replace(written, () => place);
  return withHostName !== undefined && hasHostName(address) ? withHostName(replaced) : replaced;
}

const DEFAULT_PREFIX = SETTINGS.identityHeaderPrefix.default;

/** Replaces the header prefix in every spelling that gateways and nginx variables use. */
function withPrefix(text: string, prefix: string): string {
  const variable = (name: string) => name.replaceAll('-', '_');
  const lower = (name: string) => name.toLowerCase();
  const ways = [(name: string) => name, lower, variable, (name: string) => lower(variable(name))];
  return ways.reduce((done, way) => done.replaceAll(way(DEFAULT_PREFIX), () => way(prefix)), text);
}
