import { BlockList, isIP } from 'node:net';
import type { Config } from './schema.ts';
import type { Address } from './types.ts';

/** Faults that no setting has alone. */
export function crossFaults(config: Config): string[] {
  const faults: string[] = [];
  if (config.mode === 'basic' && !config.allowInsecureBasic && !isLocal(config.listen)) {
    faults.push(
      `GATECAR_MODE=basic verifies no token: GATECAR_LISTEN must be a loopback address or a Unix socket, or ` +
        `GATECAR_ALLOW_INSECURE_BASIC must be true; got ${JSON.stringify(config.listen.text)}`,
    );
  }
  if (config.listen.text === config.opsListen.text && !/:0$/.test(config.listen.text)) {
    faults.push(`GATECAR_LISTEN and GATECAR_OPS_LISTEN must differ; both are ${JSON.stringify(config.listen.text)}`);
  }
  if (config.clientIpHeader !== undefined && config.trustedPeers === undefined) {
    faults.push(
      'GATECAR_CLIENT_IP_HEADER needs GATECAR_TRUSTED_PEERS: a header counts only from a peer that is trusted',
    );
  }
  if (config.kubeApiUrl !== undefined && config.kubeContext !== undefined) {
    faults.push('GATECAR_KUBE_API_URL and GATECAR_KUBE_CONTEXT are both set; the context belongs to a kubeconfig');
  }
  return faults;
}

/** What works but deserves a second look. */
export function warnings(config: Config): string[] {
  const found: string[] = [];
  if (config.mode === 'basic') {
    found.push('basic mode: tokens are NOT verified; any well-formed token passes');
    if (config.allowedNamespaces || config.allowedServiceAccounts) {
      found.push('basic mode knows no identity: the allowlists are not applied');
    }
    return found;
  }
  if (config.tokenAudiences.length === 0) {
    found.push('GATECAR_TOKEN_AUDIENCES is empty: tokens for the API server itself pass, whoever they were meant for');
  }
  const url = config.kubeApiUrl === undefined ? undefined : new URL(config.kubeApiUrl);
  if (url?.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, ''))) {
    found.push('GATECAR_KUBE_API_URL is plain http to another host: tokens travel unencrypted');
  }
  return found;
}

function isLocal(address: Address): boolean {
  return address.kind === 'unix' || (address.host !== undefined && isLoopback(address.host));
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

function isLoopback(host: string): boolean {
  const version = isIP(host);
  if (version === 0) return host === 'localhost';
  return LOOPBACK.check(host, version === 6 ? 'ipv6' : 'ipv4');
}
