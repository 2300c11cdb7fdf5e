import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Address } from '../../config/network-types.ts';
import type { Config } from '../../config/schema.ts';
import { CHECK_ASK_TIMEOUT_MS } from '../../limits/constants.ts';
import { bindAddress, type ListenError } from '../../server/listen.ts';
import type { BindTarget } from '../../system/bind-server.ts';
import { checkMaterial, type TlsFileError, type TlsPaths, tlsFiles } from '../../tls/tls-files.ts';
import { localHost } from '../local-target.ts';
import { type CheckResult, fail, ok } from './check-result.ts';

/**
 * Checks whether each listener's address is free or already used by gatecar, and whether the TLS
 * files are usable.
 */
export async function checkListeners(config: Config, nowMs: number): Promise<CheckResult[]> {
  const { listen, opsListen, grpcListen, tlsCertFile: certFile, tlsKeyFile: keyFile } = config;
  const isTls = certFile !== undefined;
  const auth = await checkAddress('GATECAR_LISTEN', listen, () => answersAsGatecar(listen, isTls, '/auth'));
  const ops = await checkAddress('GATECAR_OPS_LISTEN', opsListen, () => answersAsGatecar(opsListen, false, '/metrics'));
  const found = [auth, ops];
  if (grpcListen !== undefined) {
    // The gRPC listener cannot be identified without a token. It counts as gatecar's if both others
    // are.
    const isOurs = async () => [auth, ops].every(one => one.text.endsWith(OURS));
    found.push(await checkAddress('GATECAR_GRPC_LISTEN', grpcListen, isOurs));
  }
  if (certFile !== undefined && keyFile !== undefined) {
    found.push(await checkTlsFiles({ certFile, keyFile, clientCaFile: config.tlsClientCaFile }, nowMs));
  }
  return found;
}

const OURS = 'gatecar is there already';

async function checkAddress(setting: string, address: Address, isOurs: () => Promise<boolean>): Promise<CheckResult> {
  try {
    await bindAddress(tryOut, address, setting);
    return ok('listeners', `${setting}: ${address.text} is free`);
  } catch (error) {
    const { message: text } = error as ListenError;
    if (!text.endsWith('EADDRINUSE')) return fail('listeners', text, `gatecar --help   # ${setting}`);
    if (await isOurs()) return ok('listeners', `${setting}: ${address.text}: ${OURS}`);
    return fail('listeners', `${text}: another process listens there`, 'ss --listening --numeric --processes');
  }
}

/** Listens on an address and stops immediately. */
function tryOut(target: BindTarget): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const server = createServer();
  server.once('error', reject);
  server.listen(target, () => server.close(() => resolve('')));
  return promise;
}

/** Whether the response at an address is one that only gatecar sends. Sends no secret. */
async function answersAsGatecar(address: Address, isTls: boolean, path: string): Promise<boolean> {
  // Not as a URL, which cannot have the zone of an IPv6 address.
  const where =
    address.kind === 'unix' ? { socketPath: address.path } : { host: localHost(address), port: address.port };
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const asked = (isTls ? requestHttps : requestHttp)(
    // The certificate is not verified: no secret is sent, and only the text of the check depends on
    // it.
    { ...where, path, agent: false, rejectUnauthorized: false, signal: AbortSignal.timeout(CHECK_ASK_TIMEOUT_MS) },
    response => {
      const isAuth = /realm="gatecar"/.test(response.headers['www-authenticate'] ?? '');
      text(response).then(
        body => resolve(isAuth || body.includes('gatecar_build_info{')),
        () => resolve(false),
      );
    },
  );
  asked.on('error', () => resolve(false));
  asked.end();
  return promise;
}

async function checkTlsFiles(paths: TlsPaths, nowMs: number): Promise<CheckResult> {
  try {
    const { notAfter } = checkMaterial(await tlsFiles(paths).read(), paths);
    const until = notAfter.toISOString();
    if (nowMs > notAfter.getTime()) {
      return fail(
        'listeners',
        `the certificate in ${paths.certFile} expired ${until}`,
        `openssl x509 -noout -dates -in ${paths.certFile}`,
      );
    }
    return ok('listeners', `the certificate in ${paths.certFile} and its key are valid until ${until}`);
  } catch (error) {
    return fail(
      'listeners',
      (error as TlsFileError).message,
      `openssl x509 -noout -subject -dates -in ${paths.certFile}`,
    );
  }
}
