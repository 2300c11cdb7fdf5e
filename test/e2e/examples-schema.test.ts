import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { at, exampleDocuments, exampleManifests, exampleReadme, type Yaml } from '../fixtures/examples.ts';
import {
  applyCrd,
  crdFrom,
  crdsOf,
  fetchSchemas,
  protoFields,
  schemasMissing,
  schemaVersion,
  tryToCreate,
} from './fixtures/support/gateway-schemas.ts';
import type { KubeReply } from './fixtures/support/kube-api.ts';
import { kubeApiServerMissing, startKubeApiServer, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';

// Validates the examples of gateways that do not run here against the gateways' own schemas.
// test/invariants/examples-fail-closed.test.ts checks their content.

/** The kinds that each example uses. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  'gateway-api': ['Gateway', 'GatewayClass', 'HTTPRoute', 'ReferenceGrant'],
  'envoy-gateway': ['SecurityPolicy', 'ClientTrafficPolicy', 'EnvoyProxy'],
  contour: ['HTTPProxy', 'ExtensionService'],
  istio: ['AuthorizationPolicy'],
  traefik: ['Middleware', 'IngressRoute'],
  dapr: ['Configuration'],
};

/**
 * Two kinds from docs/crd of nginx/kubernetes-ingress and its examples. No Go module contains
 * their schemas.
 */
const F5_POLICY = {
  ingressClassName: 'string',
  externalAuth: {
    authURI: /^\/.*$/,
    authServiceName: /^([a-z0-9-]+\/)?[a-z0-9-]+$/,
    authServicePorts: ['integer'],
    authSigninURI: 'string',
    authSigninRedirectBasePath: 'string',
    authSnippets: 'string',
    sslEnabled: 'boolean',
    sslVerify: 'boolean',
    sslVerifyDepth: 'integer',
    sniName: 'string',
    trustedCertSecret: 'string',
  },
} as const;
const F5_VIRTUAL_SERVER = {
  host: 'string',
  upstreams: [{ name: 'string', service: 'string', port: 'integer', 'client-max-body-size': 'string' }],
  routes: [
    {
      path: 'string',
      policies: [{ name: 'string', namespace: 'string' }],
      'location-snippets': 'string',
      action: { pass: 'string' },
    },
  ],
} as const;

/** The fields of apisix/plugins/forward-auth.lua of apache/apisix and their types. */
const FORWARD_AUTH: Readonly<Record<string, string>> = {
  uri: 'string',
  allow_degradation: 'boolean',
  status_on_error: 'number',
  ssl_verify: 'boolean',
  request_method: 'string',
  request_headers: 'object',
  extra_headers: 'object',
  upstream_headers: 'object',
  client_headers: 'object',
  consumer_header: 'string',
  timeout: 'number',
  keepalive: 'boolean',
  keepalive_timeout: 'number',
  keepalive_pool: 'number',
};

t.setTimeout(startLimitMs);

t.test(
  "the examples match the gateways' own schemas",
  { skip: skipWithout(kubeApiServerMissing() ?? schemasMissing()) },
  async t => {
    const schemas = await fetchSchemas();
    const api = await startKubeApiServer();
    t.teardown(() => api.stop());
    for (const [gateway, kinds] of Object.entries(KINDS)) {
      const crds = await crdsOf(schemas, gateway, kinds);
      t.equal(crds.length, kinds.length, `${gateway} has ${kinds.join(', ')}`);
      for (const crd of crds) await applyCrd(api, crd);
    }
    await applyCrd(api, crdFrom('k8s.nginx.org', 'v1', 'Policy', F5_POLICY));
    await applyCrd(api, crdFrom('k8s.nginx.org', 'v1', 'VirtualServer', F5_VIRTUAL_SERVER));
    for (const gateway of [...Object.keys(KINDS), 'ingress-nginx', 'f5-nginx', 'kind/manifests']) {
      t.test(`${gateway} example: each manifest is accepted strictly and without a warning`, async t => {
        const manifests = exampleManifests(gateway);
        t.not(manifests.length, 0);
        for (const manifest of manifests)
          assertAccepted(t, await tryToCreate(api, manifest), `${manifest.file}: ${manifest.kind}`);
      });
    }

    t.test(
      'the schemas reject an unknown field, a value of the wrong type and a value that is not allowed',
      async t => {
        const faults: readonly [gateway: string, kind: string, what: string, by: string, fault: RegExp][] = [
          [
            'traefik',
            'Middleware',
            'authResponseHeaders:',
            'authResponseHeader:',
            /unknown field "spec.*authResponseHeader"/,
          ],
          ['traefik', 'Middleware', 'address:', 'address: ""\n    address:', /key "address" already set/],
          ['istio', 'AuthorizationPolicy', 'CUSTOM', 'ASK', /Unsupported value: "ASK"/],
          ['envoy-gateway', 'SecurityPolicy', 'statusOnError: 503', 'statusOnError: 200', /Unsupported value: 200/],
          ['contour', 'HTTPProxy', 'failOpen: false', 'failOpen: "no"', /failOpen.*must be of type boolean/],
          ['gateway-api', 'HTTPRoute', 'type: ExternalAuth', 'type: CORS', /filter.externalAuth must be nil/],
          ['f5-nginx', 'Policy', 'authURI: /auth', 'authURI: auth', /spec.externalAuth.authURI in body should match/],
          [
            'dapr',
            'Configuration',
            'appId: gatecar',
            'app: gatecar',
            /unknown field "spec.accessControl.policies\[0\].app"/,
          ],
          ['kind/manifests', 'EnvoyProxy', 'type: NodePort', 'type: HostPort', /Unsupported value: "HostPort"/],
          [
            'kind/manifests',
            'Gateway',
            'parametersRef:',
            'parameters:',
            /unknown field "spec.infrastructure.parameters"/,
          ],
          ['dapr', 'Configuration', 'httpVerb: [POST]', 'httpVerb: POST', /httpVerb.*must be of type array/],
          ['ingress-nginx', 'Ingress', 'pathType: Prefix', 'pathType: Some', /Unsupported value: "Some"/],
        ];
        for (const [gateway, kind, what, by, fault] of faults) {
          const manifest = exampleManifests(gateway).find(manifest => manifest.kind === kind);
          if (!manifest) throw new Error(`${gateway} has no ${kind}`);
          const { text } = await tryToCreate(api, { ...manifest, text: replaceOnce(manifest.text, what, by) });
          t.match(JSON.parse(text).message, fault, `${gateway}: ${by}`);
        }
      },
    );

    t.test('Istio: the mesh configuration has only fields of its messages', async t => {
      const proto = (name: string) => readFile(join(schemas, 'istio', name), 'utf8');
      const mesh = exampleDocuments('istio', 'mesh-config.yaml')[0];
      const assertKnownFields = async (part: unknown, file: string, message: string) => {
        const fields = protoFields(await proto(file), message);
        t.strictSame(
          Object.keys(part as Yaml).filter(name => !fields.has(name)),
          [],
          message,
        );
      };
      const provider = 'EnvoyExternalAuthorizationHttpProvider';
      await assertKnownFields(at(mesh, 'meshConfig'), 'config.proto', 'MeshConfig');
      await assertKnownFields(at(mesh, 'meshConfig.extensionProviders[0].envoyExtAuthzHttp'), 'config.proto', provider);
      await assertKnownFields(at(mesh, 'meshConfig.defaultConfig'), 'proxy.proto', 'ProxyConfig');
      await assertKnownFields(
        at(mesh, 'meshConfig.defaultConfig.connectionSettings'),
        'proxy.proto',
        'ConnectionSettings',
      );
      t.match(
        [...protoFields(await proto('config.proto'), provider)],
        [
          ['service', 'string'],
          ['port', 'uint32'],
          ['timeout', 'google.protobuf.Duration'],
          ['pathPrefix', 'string'],
          ['failOpen', 'bool'],
          ['clearRouteCache', 'bool'],
          ['statusOnError', 'string'],
        ],
      );
    });

    t.test('the README of each example names the version of its schema', async t => {
      for (const gateway of Object.keys(KINDS)) {
        const version = (await schemaVersion(gateway)).slice(1);
        t.ok(exampleReadme(gateway).trim().split('\n\n').at(-1)?.includes(version), `${gateway}: ${version}`);
      }
    });
  },
);

t.test('APISIX: the plugin has only fields of forward-auth, with values of their types', async t => {
  const plugins = at(exampleDocuments('apisix', 'apisix.yaml')[0], 'routes[0].plugins') as Yaml;
  t.strictSame(Object.keys(plugins), ['forward-auth']);
  const fields = Object.entries(plugins['forward-auth'] as Yaml);
  t.strictSame(
    fields.map(([name, value]) => [name, typeof value]),
    fields.map(([name]) => [name, FORWARD_AUTH[name]]),
  );
});

function assertAccepted(t: Test, { status, headers, text }: KubeReply, name: string): void {
  t.equal(status, 201, `${name}: ${status === 201 ? 'accepted' : text}`);
  t.equal(headers['warning'], undefined, `${name}: no warning`);
}
