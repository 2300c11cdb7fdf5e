import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
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

/** Returns a request that is allowed with these settings, and three that are not. */
export function sampleRequests(config: Config, issuer: TokenIssuer): SampleRequest[] {
  const audiences = config.tokenAudiences.slice(0, 1);
  const good = {
    ...allowedAccount(config),
    audiences: audiences.length > 0 ? audiences : [ISSUER],
    pod: 'my-app-0',
    node: 'dev-node',
  };
  const expired = { expiresInSeconds: -3600, notBeforeSeconds: -7200 };
  return [
    { name: 'valid', title: 'valid token', token: issuer.issue(good) },
    { name: 'audience', title: 'wrong audience', token: issuer.issue({ ...good, audiences: ['another-app'] }) },
    { name: 'namespace', title: 'blocked namespace', token: issuer.issue({ ...good, namespace: 'blocked' }) },
    { name: 'expired', title: 'expired', token: issuer.issue({ ...good, ...expired }) },
  ];
}

function allowedAccount(config: Config): { namespace: string; serviceAccount: string } {
  const listed = parseServiceAccount(config.allowedServiceAccounts?.[0] ?? '');
  if (listed !== undefined) return { namespace: listed.namespace, serviceAccount: listed.name };
  // Never empty: `gatecar dev` sets it if no allowlist is configured.
  const [namespace] = config.allowedNamespaces as [string, ...string[]];
  return { namespace, serviceAccount: 'my-app' };
}

/** Where to send auth requests: a URL, and the path of the Unix socket if it is one. */
export interface Target {
  readonly url: string;
  readonly socketPath?: string;
}

/** Returns where to send requests for a listener's address, on this machine. */
export function targetOf(listener: string, scheme: 'http' | 'https'): Target {
  if (listener.startsWith('unix:')) {
    return { url: `${scheme}://localhost`, socketPath: listener.slice('unix:'.length) };
  }
  return { url: `${scheme}://${listener.replace(/^(\[::\]|0\.0\.0\.0):/, '127.0.0.1:')}` };
}

/** The response to a request that was tried. */
export interface SampleResult {
  /** 0 if there was no response. */
  readonly status: number;
  /** The user of an allowed request, the reason of a denied one, or the error. */
  readonly detail: string;
}

/** Sends an auth request with this token. */
export function trySample(target: Target, token: string, headerPrefix: string): Promise<SampleResult> {
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
