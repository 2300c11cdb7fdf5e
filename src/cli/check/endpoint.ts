import { lookup } from 'node:dns/promises';
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { tlsOptions } from '../../kube/dispatcher.ts';
import type { KubeEndpoint } from '../../kube/endpoint.ts';
import { errorCode } from '../../system/error-code.ts';
import { quoteUntrusted } from '../output.ts';
import { type CheckResult, fail, ok, warn } from './check-result.ts';

const ADDRESS_FIX = 'kubectl config view --minify   # for GATECAR_KUBE_API_URL or GATECAR_KUBECONFIG';

/**
 * Checks whether the API server's address accepts connections and whose certificate it presents.
 * Sends no request, so gatecar's credential is never sent.
 */
export async function checkEndpoint(endpoint: KubeEndpoint, timeoutMs: number, nowMs: number): Promise<CheckResult[]> {
  const { proxyUrl } = endpoint;
  const baseUrl = withoutUserInfo(endpoint.baseUrl);
  if (proxyUrl !== undefined) {
    return [ok('address', `${baseUrl} through the proxy ${new URL(proxyUrl).host}, which is not tested here`)];
  }
  const { protocol, hostname, port } = new URL(baseUrl);
  const host = hostname.replace(/^\[|\]$/g, '');
  const isTls = protocol === 'https:';
  const target = { host, port: Number(port || (isTls ? 443 : 80)), timeoutMs };
  const unreached = await reach(target);
  if (unreached !== undefined) return [fail('address', `${baseUrl} ${unreached}`, ADDRESS_FIX)];
  const reached = ok('address', `${baseUrl} resolves and accepts connections`);
  if (!isTls) return [reached, ok('tls', 'none: plain http')];
  return [reached, await checkTls({ ...endpoint, baseUrl }, target, nowMs)];
}

/** Removes the user name and password that a kubeconfig's URL may contain. */
function withoutUserInfo(baseUrl: string): string {
  return baseUrl.replace(/(?<=^https?:\/\/)[^/]*@/i, '');
}

interface Target {
  readonly host: string;
  readonly port: number;
  readonly timeoutMs: number;
}

/** Opens and closes a connection. Returns the problem, if there is one. */
async function reach({ host, port, timeoutMs }: Target): Promise<string | undefined> {
  try {
    if (isIP(host) === 0) await lookup(host);
  } catch (error) {
    return `does not resolve (${errorCode(error)})`;
  }
  const { socket, trouble } = await settled(connect({ host, port }), 'connect', timeoutMs);
  socket.destroy();
  if (trouble === undefined) return undefined;
  return trouble === 'ECONNREFUSED'
    ? 'refuses connections: no process listens there'
    : `cannot be reached (${trouble})`;
}

async function checkTls(
  { tls, baseUrl }: Pick<KubeEndpoint, 'tls' | 'baseUrl'>,
  { host, port, timeoutMs }: Target,
  nowMs: number,
): Promise<CheckResult> {
  // An untrusted server may finish the handshake, so its certificate can be reported. No data is
  // sent to it.
  const named = isIP(host) === 0 ? { servername: host } : {};
  const handshake = () =>
    connectTls({ host, port, ...named, ...tlsOptions(tls), rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
  let socket: TLSSocket;
  try {
    socket = handshake();
  } catch (error) {
    return fail('tls', `the CA bundle or the client certificate cannot be used (${errorCode(error)})`, CA_FIX);
  }
  const { trouble } = await settled(socket, 'secureConnect', timeoutMs);
  try {
    if (trouble !== undefined)
      return fail('tls', `${baseUrl} does not speak TLS with gatecar (${trouble})`, ADDRESS_FIX);
    if (tls.rejectUnauthorized === false) {
      return warn(
        'tls',
        'insecure-skip-tls-verify: any server can pose as the API server and receive the credential of gatecar',
        CA_FIX,
      );
    }
    return assessCertificate(socket, nowMs);
  } finally {
    socket.destroy();
  }
}

const CA_FIX =
  "kubectl config view --raw --minify --output 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d   # for GATECAR_KUBE_CA_FILE";

const DAY_MS = 86_400_000;

/** OpenSSL's codes for a certificate outside its validity period. */
const OUT_OF_TIME: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'has expired',
  CERT_NOT_YET_VALID: 'is not valid yet',
};

function assessCertificate(socket: TLSSocket, nowMs: number): CheckResult {
  const { valid_from: from, valid_to: to, subjectaltname: names, issuer } = socket.getPeerCertificate();
  if (socket.authorized) {
    const soon = Date.parse(to) - nowMs < DAY_MS;
    const text = `the certificate is the API server's, by the configured CA; valid until ${to}`;
    return soon ? warn('tls', text, 'kubeadm certs check-expiration') : ok('tls', text);
  }
  // At run time this is an error code, although its type is `Error`.
  const code = String(socket.authorizationError);
  const untimely = OUT_OF_TIME[code];
  if (untimely !== undefined) {
    return fail(
      'tls',
      `the certificate ${untimely}: ${from} to ${to}; it is ${new Date(nowMs).toUTCString()} here`,
      'kubeadm certs check-expiration',
    );
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return fail(
      'tls',
      `the certificate is for ${quoteUntrusted(names)}, not for the host of the address (${code})`,
      ADDRESS_FIX,
    );
  }
  return fail(
    'tls',
    `the certificate is of ${quoteUntrusted(issuer?.CN)}, which is not the configured CA (${code})`,
    CA_FIX,
  );
}

/**
 * Waits for an event of a socket. If an error or the timeout comes first, `trouble` is its code or
 * `timeout`.
 */
async function settled<S extends Socket>(
  socket: S,
  event: string,
  timeoutMs: number,
): Promise<{ socket: S; trouble: string | undefined }> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const timer = setTimeout(() => resolve('timeout'), timeoutMs);
  socket.once(event, () => resolve(undefined));
  socket.on('error', error => resolve(errorCode(error)));
  const trouble = await promise;
  clearTimeout(timer);
  return { socket, trouble };
}
