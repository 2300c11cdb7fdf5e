import { randomUUID, X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { envoyClient, headersOf } from '../fixtures/envoy-client.ts';
import { metric } from '../fixtures/metrics.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';
import {
  type CertificateFiles,
  createAuthority,
  createClientCertificate,
  createServerCertificate,
} from './fixtures/support/certificates.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { writeExecPlugin, writeKubeconfig } from './fixtures/support/kubeconfig.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { shownCertificate } from './fixtures/support/shown-certificate.ts';
import { until } from './fixtures/support/until.ts';

// What a day replaces, in a minute, while requests come in: not one of them fails.

const audiences = ['bindcar'];
const user = 'system:serviceaccount:apps:web';

/** The kubelet renews a token each hour at the latest. */
const tokenRotations = 24;
/**
 * Ten renewals, of which a busy machine may miss some. With the ten seconds for which the API server remembers a token, one that is
 * not renewed is refused well within the day all the same.
 */
const tokenLifeSeconds = 20;
/** How long past its end the API server still takes a token, for clocks that differ. */
const leewaySeconds = 60;
const tokenEveryMs = 2_000;
/** Between two requests of one client. */
const paceMs = 10;
/** The day goes on until each client has asked so often, and the plugin's token has run out twice. */
const requestsOfEach = 500;
const pluginRuns = 3;

t.setTimeout(startLimitMs);

t.test(
  'a day of rotations in a minute, under load: not one failed request',
  { skip: skipWithout(kubeApiServerMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const callersClaims = await api.claimsFor('apps', 'web', { aud: audiences });
    const ownClaims = await api.claimsFor('gatecar', 'gatecar');
    const freshToken = () => api.signToken({ ...callersClaims, jti: randomUUID() });
    const ownToken = () => {
      const exp = Math.floor(Date.now() / 1_000) + tokenLifeSeconds - leewaySeconds;
      return api.signToken({ ...ownClaims, jti: randomUUID(), iat: exp - 600, nbf: exp - 600, exp });
    };
    const directory = async (name: string) => {
      const path = join(api.directory, name);
      await mkdir(path);
      return path;
    };

    // What gatecar shows to the API server, and trusts.
    let ca = await readFile(api.caFile, 'utf8');
    const account = await projectedVolume(await directory('account'), { token: ownToken(), 'ca.crt': ca });
    const caFile = account.path('ca.crt');
    const plugin = await writeExecPlugin(join(api.directory, 'plugin'), account.path('token'));
    const kubeconfig = join(api.directory, 'rotated-kubeconfig');
    await writeKubeconfig(kubeconfig, { url: api.url, caFile }, { gatecar: plugin });

    // What it shows to gateways, and they to it.
    let made = 0;
    const base = (name: string) => join(api.directory, `listener-${name}-${++made}`);
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

    // A machine that does other things as well is no outage.
    const patient = { GATECAR_REVIEW_TIMEOUT: '30s' };
    const followed = { ...settings, GATECAR_KUBE_TOKEN_FILE: account.path('token'), GATECAR_KUBE_CA_FILE: caFile };
    const gatecar = await startGatecar(t, {
      ...followed,
      ...patient,
      GATECAR_GRPC_LISTEN: '127.0.0.1:0',
      GATECAR_TLS_CERT_FILE: listeners.path('tls.crt'),
      GATECAR_TLS_KEY_FILE: listeners.path('tls.key'),
      GATECAR_TLS_CLIENT_CA_FILE: listeners.path('ca.crt'),
    });
    const byPlugin = await startGatecar(t, {
      ...patient,
      GATECAR_KUBECONFIG: kubeconfig,
      PATH: process.env['PATH'] ?? '',
    });
    const listening = await gatecar.logged('where it listens', line => line.msg === 'listening');
    const [authPort, grpc] = [Number(String(listening['auth']).split(':').at(-1)), String(listening['grpc'])];

    const counts = new Map<string, number>();
    const failures: string[] = [];
    let over = false;
    let othersDone = false;
    const load = async (name: string, once: (token: string) => Promise<string>) => {
      const known = freshToken();
      for (let turn = 0; !over; turn += 1) {
        const answer = await once(turn % 2 === 0 ? known : freshToken()).catch(error => `${error}`);
        // It had no time for new tokens, whatever was rotated meanwhile.
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
      load('kept-alive TLS', token => askTls(authPort, token, keptAlive)),
      load('new TLS connections', token => askTls(authPort, token, new Agent(mutual()))),
      load('kept gRPC', token => check(keptCheck, token)),
      load('new gRPC connections', async token => {
        const once = envoyClient(grpc, secured(mutual()));
        return await check(once, token).finally(() => once.close());
      }),
      load('kubeconfig with a plugin', async token => {
        const { status, headers } = await ask(byPlugin.auth, { token });
        return told(status, headers);
      }),
    ];

    const reloads = (outcome: string) => metric(gatecar.ops, `gatecar_tls_reloads_total{outcome="${outcome}"}`);
    const replaceListeners = async (outcome: 'success' | 'failure', files: Record<string, string> = secret()) => {
      const before = await reloads(outcome);
      await listeners.swap(files);
      await until(`a reload is told: ${outcome}`, async () => (await reloads(outcome)) === before + 1);
    };
    const isShown = async (certificate: string, what: string) => {
      const { fingerprint256 } = new X509Certificate(certificate);
      t.equal(await shownCertificate(authPort, mutual()), fingerprint256, `${what}, over HTTP`);
      t.equal(await shownCertificate(Number(grpc.split(':').at(-1)), mutual()), fingerprint256, `${what}, over gRPC`);
    };

    const runsOfPlugin = async () =>
      (await readFile(`${join(api.directory, 'plugin')}.calls`, 'utf8')).split('\n').length - 1;
    const isDayOver = async () =>
      [...counts.values()].every(count => count >= requestsOfEach) && (await runsOfPlugin()) >= pluginRuns;
    const rotateOwn = async () => {
      for (let rotation = 1; rotation <= tokenRotations || !othersDone || !(await isDayOver()); rotation += 1) {
        await pause(tokenEveryMs);
        await account.swap({ token: ownToken(), 'ca.crt': ca });
      }
    };
    const rotateApiServer = async () => {
      await api.renewCertificate();
      for (let round = 0; round < 2; round += 1) {
        const old = ca;
        const renewed = await api.prepareAuthority();
        ca = old + renewed;
        await seenByGatecar(caFile, ca);
        await api.renewCertificate();
        ca = renewed;
        await seenByGatecar(caFile, ca);
      }
    };
    /** The next swap of the account brings it, and files are looked at once a second. */
    const seenByGatecar = async (file: string, content: string) => {
      await until('the CA bundle is on the disk', async () => (await readFile(file, 'utf8')) === content);
      await pause(tokenEveryMs);
    };
    const rotateListeners = async () => {
      for (let renewal = 0; renewal < 3; renewal += 1) {
        server = await pemOf(await createServerCertificate(base('server'), authority));
        await replaceListeners('success');
        await isShown(server.cert, `renewal ${renewal + 1} is shown`);

        const oldCa = clientCa;
        clientAuthority = await newClientAuthority();
        const newCa = await readFile(clientAuthority.certFile, 'utf8');
        clientCa = oldCa + newCa;
        await replaceListeners('success');
        client = await clientOf(clientAuthority);
        await until('nobody shows the old one any more', async () => settled());
        clientCa = newCa;
        await replaceListeners('success');
      }
      const { key } = await pemOf(await createServerCertificate(base('server'), authority));
      await replaceListeners('failure', { ...secret(), 'tls.key': key });
      await isShown(server.cert, 'the key of another certificate leaves in force what was');
      t.match(
        await gatecar.logged(
          'that they cannot be used',
          line => line.msg === 'TLS reload failed; keeping the current certificate',
        ),
        {
          level: 'warn',
          problem: /^GATECAR_TLS_KEY_FILE must be a file that holds the key of the first certificate/,
        },
      );
      server = await pemOf(await createServerCertificate(base('server'), authority));
      await replaceListeners('success');
      await isShown(server.cert, 'a good one is taken after a bad one');
    };
    /** Whether each client has since begun and ended a request: what it shows is read when it connects. */
    const settled = (() => {
      let seen: Map<string, number> | undefined;
      return () => {
        seen ??= new Map(counts);
        const isPast = [...seen].every(([name, count]) => (counts.get(name) ?? 0) >= count + 2);
        if (isPast) seen = undefined;
        return isPast;
      };
    })();

    await until('every client is at work', async () => counts.size === loads.length);
    try {
      const others = Promise.all([rotateApiServer(), rotateListeners()]).finally(() => {
        othersDone = true;
      });
      await Promise.all([rotateOwn(), others]);
    } finally {
      over = true;
      await Promise.all(loads);
    }
    t.strictSame(failures.slice(0, 20), [], 'not one request failed');
    for (const [name, count] of counts) t.ok(count >= requestsOfEach, `${name}: ${count} requests`);
    t.equal(await reloads('success'), 10);
    t.equal(await reloads('failure'), 1);
    const runs = await runsOfPlugin();
    t.ok(runs >= pluginRuns, `its token ran out and the plugin was run again: ${runs} times`);
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

/** {@link told} of the answer. */
function askTls(port: number, token: string, agent: Agent): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const headers = { authorization: `Bearer ${token}` };
  const asked = request({ host: '127.0.0.1', port, path: '/auth', headers, agent });
  asked.once('error', reject);
  asked.once('response', reply => {
    reply.resume().once('error', reject);
    reply.once('end', () => resolve(told(reply.statusCode, reply.headers)));
  });
  asked.end();
  return promise;
}

async function check(client: ReturnType<typeof envoyClient>, token: string): Promise<string> {
  const { status, ok_response, denied_response } = await client.checkHeaders({ authorization: `Bearer ${token}` });
  const { headers = [] } = ok_response ?? denied_response ?? {};
  return told(status.code === 0 ? 200 : denied_response?.status.code, headersOf(headers));
}

/** The status, and the user or why there is none. */
function told(status: number | undefined, headers: IncomingHttpHeaders): string {
  return `${status} ${headers['x-gatecar-reason'] ?? headers['x-auth-request-user']}`;
}
