import { randomUUID, X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import t from 'tap';
import { envoyClient, headersOf } from '../fixtures/envoy-client.ts';
import { metric } from '../fixtures/metrics.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import {
  type CertificateFiles,
  createAuthority,
  createClientCertificate,
  createServerCertificate,
} from './fixtures/support/certificates.ts';
import { newTokens, startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { writeExecPlugin, writeKubeconfig } from './fixtures/support/kubeconfig.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { presentedCertificate } from './fixtures/support/presented-certificate.ts';
import { until } from './fixtures/support/until.ts';

// Rotates every credential of a day within a minute, under load. No request may fail.

const audiences = ['bindcar'];
const user = 'system:serviceaccount:apps:web';

/** The kubelet rotates a token at least every hour. */
const tokenRotations = 24;
/**
 * Ten rotations, of which a busy machine may miss some. The API server caches a token for ten
 * seconds. Even so, a token that is not rotated is rejected well within the simulated day.
 */
const tokenLifeSeconds = 20;
/** How long the API server still accepts an expired token, to allow for clock differences. */
const leewaySeconds = 60;
const tokenEveryMs = 2_000;
/** Pause between two requests of one client. */
const paceMs = 10;
/**
 * The day continues until each client has sent this many requests, and the plugin's token has
 * expired twice.
 */
const requestsOfEach = 500;
const pluginRuns = 3;

t.setTimeout(startLimitMs);

t.test(
  'a day of credential rotations in a minute, under load: no request fails',
  { skip: skipWithout(kubeApiServerMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const callersClaims = await api.claimsFor('apps', 'web', { aud: audiences });
    const ownClaims = await api.claimsFor('gatecar', 'gatecar');
    const newToken = newTokens(api, callersClaims);
    const ownToken = () => {
      const exp = Math.floor(Date.now() / 1_000) + tokenLifeSeconds - leewaySeconds;
      return api.signToken({ ...ownClaims, jti: randomUUID(), iat: exp - 600, nbf: exp - 600, exp });
    };
    const directory = async (name: string) => {
      const path = join(api.directory, name);
      await mkdir(path);
      return path;
    };

    // gatecar's credentials for the API server, and the CA that it trusts.
    let ca = await readFile(api.caFile, 'utf8');
    const account = await projectedVolume(await directory('account'), { token: ownToken(), 'ca.crt': ca });
    const caFile = account.path('ca.crt');
    const plugin = await writeExecPlugin(join(api.directory, 'plugin'), account.path('token'));
    const kubeconfig = join(api.directory, 'rotated-kubeconfig');
    await writeKubeconfig(kubeconfig, { url: api.url, caFile }, { gatecar: plugin });

    // The certificates of the listeners and of the gateways.
    let fileCount = 0;
    const base = (name: string) => join(api.directory, `listener-${name}-${++fileCount}`);
    const authority = await createAuthority(base('authority'), 'listeners');
    const trusted = await readFile(authority.certFile, 'utf8');
    const newClientAuthority = () => createAuthority(base('client-authority'), 'gateways');
    let clientAuthority = await newClientAuthority();
    const clientOf = async (signer: CertificateFiles) =>
      pemOf(await createClientCertificate(base('client'), signer, 'gateway', []));
    let client = await clientOf(clientAuthority);
    let server = await pemOf(await createServerCertificate(base('server'), authority));
    let clientCa = await readFile(clientAuthority.certFile, 'utf8');
    const secret = () => ({ 'tls.crt': server.cert, 'tls.key': server.key, 'ca.crt': clientCa });
    const listeners = await projectedVolume(await directory('listeners'), secret());

    // A busy machine must not cause an outage.
    const longTimeout = { GATECAR_REVIEW_TIMEOUT: '30s' };
    const rotatedFiles = { ...settings, GATECAR_KUBE_TOKEN_FILE: account.path('token'), GATECAR_KUBE_CA_FILE: caFile };
    const gatecar = await startGatecar(t, {
      ...rotatedFiles,
      ...longTimeout,
      GATECAR_GRPC_LISTEN: '127.0.0.1:0',
      GATECAR_TLS_CERT_FILE: listeners.path('tls.crt'),
      GATECAR_TLS_KEY_FILE: listeners.path('tls.key'),
      GATECAR_TLS_CLIENT_CA_FILE: listeners.path('ca.crt'),
    });
    const byPlugin = await startGatecar(t, {
      ...longTimeout,
      GATECAR_KUBECONFIG: kubeconfig,
      PATH: process.env['PATH'] ?? '',
    });
    const listening = await gatecar.logged('where it listens', line => line.msg === 'listening');
    const [authPort, grpc] = [Number(String(listening['auth']).split(':').at(-1)), String(listening['grpc'])];

    const counts = new Map<string, number>();
    const failures: string[] = [];
    let finished = false;
    let otherRotationsDone = false;
    const startLoad = async (name: string, send: (token: string) => Promise<string>) => {
      const cachedToken = newToken();
      for (let round = 0; !finished; round += 1) {
        const answer = await send(round % 2 === 0 ? cachedToken : newToken()).catch(error => `${error}`);
        // gatecar sheds new tokens on a busy machine, independently of the rotations.
        if (answer === '503 overloaded') continue;
        counts.set(name, (counts.get(name) ?? 0) + 1);
        if (answer !== `200 ${user}`) failures.push(`${name}: ${answer}`);
        await pause(paceMs);
      }
    };
    const mutual = () => ({ ca: trusted, ...client });
    const keptAlive = new Agent({ ...mutual(), keepAlive: true, maxSockets: 1 });
    t.teardown(() => keptAlive.destroy());
    const keptCheck = envoyClient(grpc, secured(mutual()));
    t.teardown(() => keptCheck.close());
    const loads = [
      startLoad('kept-alive TLS', token => askTls(authPort, token, keptAlive)),
      startLoad('new TLS connections', token => askTls(authPort, token, new Agent(mutual()))),
      startLoad('kept gRPC', token => check(keptCheck, token)),
      startLoad('new gRPC connections', async token => {
        const newClient = envoyClient(grpc, secured(mutual()));
        return await check(newClient, token).finally(() => newClient.close());
      }),
      startLoad('kubeconfig with a plugin', async token => {
        const { status, headers } = await sendRequest(byPlugin.auth, { token });
        return summaryOf(status, headers);
      }),
    ];

    const reloads = (outcome: string) => metric(gatecar.ops, `gatecar_tls_reloads_total{outcome="${outcome}"}`);
    const replaceListeners = async (outcome: 'success' | 'failure', files: Record<string, string> = secret()) => {
      const before = await reloads(outcome);
      await listeners.swap(files);
      await until(`a reload is counted: ${outcome}`, async () => (await reloads(outcome)) === before + 1);
    };
    const assertPresented = async (certificate: string, claim: string) => {
      const { fingerprint256 } = new X509Certificate(certificate);
      t.equal(await presentedCertificate(authPort, mutual()), fingerprint256, `${claim}, over HTTP`);
      t.equal(
        await presentedCertificate(Number(grpc.split(':').at(-1)), mutual()),
        fingerprint256,
        `${claim}, over gRPC`,
      );
    };

    const runsOfPlugin = async () =>
      (await readFile(`${join(api.directory, 'plugin')}.calls`, 'utf8')).split('\n').length - 1;
    const isDayOver = async () =>
      [...counts.values()].every(count => count >= requestsOfEach) && (await runsOfPlugin()) >= pluginRuns;
    const rotateOwnCredential = async () => {
      for (let rotation = 1; rotation <= tokenRotations || !otherRotationsDone || !(await isDayOver()); rotation += 1) {
        await pause(tokenEveryMs);
        await account.swap({ token: ownToken(), 'ca.crt': ca });
      }
    };
    const rotateApiServer = async () => {
      await api.renewCertificate();
      for (let round = 0; round < 2; round += 1) {
        const old = ca;
        const nextCa = await api.prepareAuthority();
        ca = old + nextCa;
        await loadedByGatecar(caFile, ca);
        await api.renewCertificate();
        ca = nextCa;
        await loadedByGatecar(caFile, ca);
      }
    };
    /**
     * Waits until the next swap has written the bundle and gatecar has read it, which it does once
     * a second.
     */
    const loadedByGatecar = async (file: string, content: string) => {
      await until('the CA bundle is on the disk', async () => (await readFile(file, 'utf8')) === content);
      await pause(tokenEveryMs);
    };
    const rotateListeners = async () => {
      for (let rotation = 0; rotation < 3; rotation += 1) {
        server = await pemOf(await createServerCertificate(base('server'), authority));
        await replaceListeners('success');
        await assertPresented(server.cert, `rotation ${rotation + 1} is presented`);

        const oldCa = clientCa;
        clientAuthority = await newClientAuthority();
        const newCa = await readFile(clientAuthority.certFile, 'utf8');
        clientCa = oldCa + newCa;
        await replaceListeners('success');
        client = await clientOf(clientAuthority);
        await until('no client presents the old certificate', async () => settled());
        clientCa = newCa;
        await replaceListeners('success');
      }
      const { key } = await pemOf(await createServerCertificate(base('server'), authority));
      await replaceListeners('failure', { ...secret(), 'tls.key': key });
      await assertPresented(server.cert, 'the key of another certificate leaves the current one in force');
      t.match(
        await gatecar.logged(
          'that the reload failed',
          line => line.msg === 'TLS reload failed; keeping the current certificate',
        ),
        {
          level: 'warn',
          problem: /^GATECAR_TLS_KEY_FILE must be a file that holds the key of the first certificate/,
        },
      );
      server = await pemOf(await createServerCertificate(base('server'), authority));
      await replaceListeners('success');
      await assertPresented(server.cert, 'valid files are loaded after invalid ones');
    };
    /**
     * Whether each client has since started and finished a request: it reads its certificate when
     * it connects.
     */
    const settled = (() => {
      let countsBefore: Map<string, number> | undefined;
      return () => {
        countsBefore ??= new Map(counts);
        const isPast = [...countsBefore].every(([name, count]) => (counts.get(name) ?? 0) >= count + 2);
        if (isPast) countsBefore = undefined;
        return isPast;
      };
    })();

    await until('every client has sent requests', async () => counts.size === loads.length);
    try {
      const otherRotations = Promise.all([rotateApiServer(), rotateListeners()]).finally(() => {
        otherRotationsDone = true;
      });
      await Promise.all([rotateOwnCredential(), otherRotations]);
    } finally {
      finished = true;
      await Promise.all(loads);
    }
    t.strictSame(failures.slice(0, 20), [], 'no request failed');
    for (const [name, count] of counts) t.ok(count >= requestsOfEach, `${name}: ${count} requests`);
    t.equal(await reloads('success'), 10);
    t.equal(await reloads('failure'), 1);
    const runs = await runsOfPlugin();
    t.ok(runs >= pluginRuns, `the plugin ran again after its token expired: ${runs} times`);
  },
);

interface Pem {
  readonly cert: string;
  readonly key: string;
}

async function pemOf({ certFile, keyFile }: CertificateFiles): Promise<Pem> {
  return { cert: await readFile(certFile, 'utf8'), key: await readFile(keyFile, 'utf8') };
}

function secured({ ca, cert, key }: Pem & { ca: string }) {
  return credentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert));
}

/**
 * Sends a request over TLS, and returns its {@link summaryOf | summary}.
 */
function askTls(port: number, token: string, agent: Agent): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const headers = { authorization: `Bearer ${token}` };
  const outgoing = request({ host: '127.0.0.1', port, path: '/auth', headers, agent });
  outgoing.once('error', reject);
  outgoing.once('response', reply => {
    reply.resume().once('error', reject);
    reply.once('end', () => resolve(summaryOf(reply.statusCode, reply.headers)));
  });
  outgoing.end();
  return promise;
}

async function check(client: ReturnType<typeof envoyClient>, token: string): Promise<string> {
  const { status, ok_response, denied_response } = await client.checkHeaders({ authorization: `Bearer ${token}` });
  const { headers = [] } = ok_response ?? denied_response ?? {};
  return summaryOf(status.code === 0 ? 200 : denied_response?.status.code, headersOf(headers));
}

/** Returns the status, with the user or the reason. */
function summaryOf(status: number | undefined, headers: IncomingHttpHeaders): string {
  return `${status} ${headers['x-gatecar-reason'] ?? headers['x-auth-request-user']}`;
}
