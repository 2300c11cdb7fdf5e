import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { VERSION } from '../../src/app.ts';
import { metric } from '../fixtures/metrics.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startContainer } from './fixtures/support/container.ts';
import type { GatecarProcess } from './fixtures/support/gatecar-process.ts';
import { buildImage, imageToolsMissing, RUNTIME_BASE } from './fixtures/support/image.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';
import { identityIn, serviceAccountIdentity } from './fixtures/support/response-matchers.ts';
import { underLoad } from './fixtures/support/under-load.ts';
import { until } from './fixtures/support/until.ts';

// Builds and runs the unchanged Dockerfile. Its bases are stand-ins made from this machine's
// files, so only the layers on top of them are tested.

const run = promisify(execFile);
const user = 65532;

t.setTimeout(startLimitMs);

t.test(
  'the image of the Dockerfile',
  { skip: skipWithout(imageToolsMissing() ?? kubeApiServerMissing() ?? nginxMissing()) },
  async t => {
    const image = await buildImage(t, { REVISION: 'a-revision' });
    const { config, rootfs } = image;
    const [base, ...layers] = image.layers;
    const app = (name: string) => readFile(join(rootfs, 'app', name), 'utf8');

    t.test('the image has its labels, and runs gatecar as a user other than root', async t => {
      const labels = Object.entries(config.Labels ?? {}).filter(([name]) =>
        name.startsWith('org.opencontainers.image.'),
      );
      t.strictSame(Object.fromEntries(labels.map(([name, value]) => [name.replace(/^.*\./, ''), value])), {
        title: 'gatecar',
        description: 'HTTP auth sidecar for Kubernetes: a bearer token in, identity headers out',
        licenses: 'Apache-2.0',
        version: VERSION,
        revision: 'a-revision',
        name: RUNTIME_BASE,
      });
      const { User, Entrypoint, Cmd, Env = [], ExposedPorts = {} } = config;
      t.equal(User, `${user}:${user}`);
      const [program, ...args] = [...(Entrypoint ?? []), ...(Cmd ?? [])];
      t.equal(program, '/nodejs/bin/node');
      t.strictSame(args, ['--disable-sigusr1', '--v8-pool-size=2', '/app/dist/gatecar.js']);
      t.strictSame(Object.keys(ExposedPorts), ['9080/tcp', '9081/tcp']);
      t.ok(Env.includes('NODE_ENV=production'));
      t.ok(Env.includes('NODE_OPTIONS=--max-old-space-size=128 --max-semi-space-size=8'), 'the heap is limited');
      for (const variable of ['MALLOC_ARENA_MAX=1', 'MALLOC_TRIM_THRESHOLD_=131072'])
        t.ok(Env.includes(variable), variable);
    });

    t.test('the image is its base and /app, which only root may write', async t => {
      const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
      const packed = (await Promise.all(layers.map(({ file }) => readFile(file)))).map(tar => gzipSync(tar).length);
      const compressed = packed.reduce((sum, size) => sum + size, 0);
      const megabytes = (size: number) => `${(size / 1e6).toFixed(2)} MB`;
      const all = megabytes((base?.bytes ?? 0) + bytes);
      t.comment(`image: ${all}, of which gatecar ${megabytes(bytes)} (${megabytes(compressed)} compressed)`);
      t.ok(compressed < 1e6, 'gatecar’s layers are less than 1 MB to download');
      for (const { file } of layers) {
        const { stdout } = await run('tar', ['--numeric-owner', '-tvf', file]);
        for (const line of stdout.trim().split('\n')) {
          t.match(line, /^[-d]rw[x-]r-[x-]r-[x-] 0\/0 .* app\//);
        }
      }
      const names = (await readdir(rootfs, { recursive: true })).map(path => path.replace(/^.*\//, ''));
      for (const name of ['sh', 'bash', 'npm', 'node_modules', 'src']) t.notOk(names.includes(name), name);
    });

    t.test('the image holds the bill of materials and the licences of its packages', async t => {
      t.equal(JSON.parse(await app('package.json')).version, VERSION);
      t.equal(await app('LICENSE'), await readFile(join(import.meta.dirname, '../../LICENSE'), 'utf8'));
      const bill = JSON.parse(await app('dist/sbom.cdx.json'));
      t.match(bill, { bomFormat: 'CycloneDX', metadata: { component: { name: 'gatecar', version: VERSION } } });
      t.ok(bill.components.length > 30);
      const texts = await app('dist/licenses.txt');
      for (const { name, version } of bill.components) t.ok(texts.includes(`\n${name} ${version} (`), name);
    });

    t.test('the image runs in a restricted container, with a real API server and behind nginx', async t => {
      const { api, tokenFile } = await startCluster(t);
      const { uid } = await api.createServiceAccount('apps', 'web');
      const token = await api.requestToken('apps', 'web', { audiences: ['bindcar'] });
      const account = join(api.directory, 'account');
      await mkdir(account);
      const credentials = await projectedVolume(account, {
        token: await readFile(tokenFile, 'utf8'),
        'ca.crt': api.ca,
        namespace: 'gatecar',
      });
      // As the kubelet does if a pod has one user: no other user may read it.
      await chown(credentials.path('token'), user, user);
      await chmod(credentials.path('token'), 0o600);
      const { hostname, port } = new URL(api.url);
      const start = async () => {
        const container = await startContainer(t, image, {
          settings: {
            KUBERNETES_SERVICE_HOST: hostname,
            KUBERNETES_SERVICE_PORT: port,
            GATECAR_LISTEN: '127.0.0.1:0',
            GATECAR_OPS_LISTEN: '127.0.0.1:0',
            GATECAR_SHUTDOWN_DELAY: '1s',
            GATECAR_LOG_LEVEL: 'trace',
          },
          volumes: { '/var/run/secrets/kubernetes.io/serviceaccount': account },
        });
        await container.gatecar.ready();
        return container;
      };
      const [leaving, staying] = [await start(), await start()];
      const application = await startApplication(t);
      const nginx = await startNginx(
        t,
        await exampleConfig([leaving.gatecar.auth, staying.gatecar.auth], application.url),
      );

      t.test('in its container gatecar is process 1, without any privilege', async t => {
        const status = await readFile(`/proc/${leaving.pid}/status`, 'utf8');
        const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]?.trim().split(/\s+/);
        for (const name of ['Uid', 'Gid']) t.strictSame(field(name), new Array(4).fill(`${user}`), name);
        t.strictSame(field('Groups'), ['']);
        for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) t.match(field(name)?.[0], /^0+$/, name);
        t.strictSame(field('NoNewPrivs'), ['1']);
        t.equal(field('NSpid')?.at(-1), '1');
        const mounts = await readFile(`/proc/${leaving.pid}/mountinfo`, 'utf8');
        t.match(mounts, / \/ ro[, ]/, 'its root is read-only');
        t.equal(
          await metric(leaving.gatecar.ops, `gatecar_build_info{version="${VERSION}",node="${process.version}"}`),
          1,
        );
      });

      t.test('in the container a valid token passes, and an invalid one does not', async t => {
        t.match(await sendRequest(nginx.url, { token }), { status: 200, body: 'system:serviceaccount:apps:web' });
        const received = identityIn(application.requests.at(-1)?.rawHeaders ?? []);
        t.match(received, { user: 'system:serviceaccount:apps:web', uid });
        t.equal(received['credential-id'], serviceAccountIdentity('apps', 'web', uid, token)['credential-id']);
        t.equal((await sendRequest(nginx.url, { token: 'garbage' })).status, 401);
        t.equal((await sendRequest(nginx.url)).status, 401);
        const otherAudience = await api.requestToken('apps', 'web', { audiences: ['another'] });
        t.equal((await sendRequest(nginx.url, { token: otherAudience })).status, 401);
      });

      t.test('the container runs with a kubeconfig, as the only user that may read it', async t => {
        const userId = 4711;
        const file = join(api.directory, 'own-kubeconfig');
        const cluster = { server: api.url, 'certificate-authority-data': Buffer.from(api.ca).toString('base64') };
        const kubeconfig = {
          apiVersion: 'v1',
          kind: 'Config',
          'current-context': 'own',
          clusters: [{ name: 'own', cluster }],
          contexts: [{ name: 'own', context: { cluster: 'own', user: 'own' } }],
          users: [{ name: 'own', user: { token: await readFile(tokenFile, 'utf8') } }],
        };
        await writeFile(file, JSON.stringify(kubeconfig), { mode: 0o600 });
        await chown(file, userId, userId);
        const { gatecar } = await startContainer(t, image, {
          args: ['serve', '--listen=127.0.0.1:0', '--ops-listen=127.0.0.1:0', '--kubeconfig=/kubeconfig'],
          user: `${userId}:${userId}`,
          settings: { GATECAR_SHUTDOWN_DELAY: '0' },
          volumes: { '/kubeconfig': file },
        });
        await gatecar.ready();
        t.equal((await sendRequest(gatecar.auth, { token })).status, 200);
        t.equal((await sendRequest(gatecar.auth, { token: 'garbage' })).status, 401);
      });

      t.test(
        'SIGTERM under load: the container drains, no client gets an error, and it exits with 0',
        { timeout: 60_000 },
        async t => {
          const statuses = await underLoad(t, nginx.url, token, async () => {
            const isServing = async ({ gatecar }: { gatecar: GatecarProcess }) =>
              (await metric(gatecar.ops, 'gatecar_requests_total{protocol="http",decision="allow",reason=""}')) > 50;
            await until('both serve requests', async () => (await isServing(leaving)) && (await isServing(staying)));
            leaving.gatecar.signal('SIGTERM');
            t.equal(await leaving.gatecar.end(), 'exit code 0');
          });
          t.strictSame(statuses, new Array(8).fill([200]));
          t.equal((await leaving.gatecar.logs()).at(-1)?.msg, 'stopped');
        },
      );
    });
  },
);
