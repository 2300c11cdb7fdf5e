import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LocalTarget } from '../cli/local-target.ts';
import type { Config } from '../config/schema.ts';
import { parseServiceAccount } from '../identity/identity.ts';
import { ISSUER, type TokenIssuer } from './token-issuer.ts';

/** A request to try, with a token of its own. */
export interface SampleRequest {
  /** The name of the token's file. */
  readonly name: string;
  readonly title: string;
  readonly token: string;
}

/**
 * Returns a request that is allowed with these settings, and three that are not. The mode
 * `format-only` would allow these too, so they are left out.
 */
export function sampleRequests(config: Config, issuer: TokenIssuer): SampleRequest[] {
  const audiences = config.tokenAudiences.slice(0, 1);
  const good = {
    ...allowedAccount(config),
    audiences: audiences.length > 0 ? audiences : [ISSUER],
    pod: 'my-app-0',
    node: 'dev-node',
  };
  const expired = { expiresInSeconds: -3600, notBeforeSeconds: -7200 };
  const elsewhere = { audiences: [unlisted('another-app', config.tokenAudiences)] };
  const blocked = { namespace: unlisted('blocked', allowedNamespaces(config)) };
  const valid = { name: 'valid', title: 'valid token', token: issuer.issue(good) };
  if (config.mode === 'format-only') return [valid];
  return [
    valid,
    { name: 'audience', title: 'wrong audience', token: issuer.issue({ ...good, ...elsewhere }) },
    { name: 'namespace', title: 'blocked namespace', token: issuer.issue({ ...good, ...blocked }) },
    { name: 'expired', title: 'expired', token: issuer.issue({ ...good, ...expired }) },
  ];
}

/** Returns a name that is not in the list: this one, or this one with a prefix. */
function unlisted(name: string, list: readonly (string | undefined)[]): string {
  return list.includes(name) ? unlisted(`not-${name}`, list) : name;
}

/** Returns the namespaces in which a ServiceAccount may pass. */
function allowedNamespaces({ allowedNamespaces = [], allowedServiceAccounts = [] }: Config) {
  return [...allowedNamespaces, ...allowedServiceAccounts.map(one => parseServiceAccount(one)?.namespace)];
}

function allowedAccount(config: Config): { namespace: string; serviceAccount: string } {
  const listed = parseServiceAccount(config.allowedServiceAccounts?.[0] ?? '');
  if (listed !== undefined) return { namespace: listed.namespace, serviceAccount: listed.name };
  // Never empty: `gatecar dev` sets it if no allowlist is configured.
  const [namespace] = config.allowedNamespaces as [string, ...string[]];
  return { namespace, serviceAccount: 'my-app' };
}

/** The response to a request that was tried. */
export interface SampleResult {
  /** 0 if there was no response. */
  readonly status: number;
  /** The user of an allowed request, the reason of a denied one, or the error. */
  readonly detail: string;
}

/** Sends an auth request with this token. */
export function trySample(target: LocalTarget, token: string, headerPrefix: string): Promise<SampleResult> {
  const { url, socketPath } = target;
  const send = url.startsWith('https:') ? httpsRequest : httpRequest;
  const options = {
    headers: { authorization: `Bearer ${token}` },
    // The listener is this process. Its certificate is seldom for a loopback address.
    rejectUnauthorized: false,
    ...(socketPath !== undefined && { socketPath }),
  };
  return new Promise(resolve => {
    const sent = send(`${url}/auth`, options, response => {
      response.resume();
      const { statusCode = 0, headers } = response;
      const detail = headers['x-gatecar-reason'] ?? headers[`${headerPrefix.toLowerCase()}user`] ?? '';
      resolve({ status: statusCode, detail: String(detail) });
    });
    sent.once('error', ({ message }) => resolve({ status: 0, detail: `not tried: ${message}` })).end();
  });
}
