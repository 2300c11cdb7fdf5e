import t from 'tap';
import { at, exampleDocuments, IDENTITY_NAMES, sortedNames, type Yaml } from '../fixtures/examples.ts';

// Checks the text of the gateway examples that no test runs. test/e2e/examples-schema.test.ts
// validates them against the gateways' schemas, and test/gateway/recorded.test.ts replays what
// these gateways send.

const document = (gateway: string, file: string, kind?: string): Yaml | undefined =>
  exampleDocuments(gateway, file).find(object => kind === undefined || object['kind'] === kind);

const INGRESS = document('ingress-nginx', 'ingress.yaml', 'Ingress');
const ANNOTATIONS = at(INGRESS, 'metadata.annotations') as Readonly<Record<string, string>>;
const ANNOTATION = 'nginx.ingress.kubernetes.io/';
const MIDDLEWARE = document('traefik', 'middleware.yaml', 'Middleware');
const ROUTER = document('traefik', 'middleware.yaml', 'IngressRoute');
const ENTRY_POINTS = document('traefik', 'static.yaml');
const MESH = document('istio', 'mesh-config.yaml');
const PROVIDER = 'meshConfig.extensionProviders[0].envoyExtAuthzHttp';
const MESH_POLICY = document('istio', 'authorization-policy.yaml');
const SECURITY = document('envoy-gateway', 'security-policy.yaml', 'SecurityPolicy');
const CLIENTS = document('envoy-gateway', 'security-policy.yaml', 'ClientTrafficPolicy');
const EXTENSION = document('contour', 'httpproxy.yaml', 'ExtensionService');
const PROXY = document('contour', 'httpproxy.yaml', 'HTTPProxy');
const FORWARD_AUTH = at(document('apisix', 'apisix.yaml'), 'routes[0].plugins.forward-auth') as Yaml;
const APISIX = document('apisix', 'config.yaml');
const F5_POLICY = document('f5-nginx', 'virtual-server.yaml', 'Policy');
const F5_SNIPPETS = at(
  document('f5-nginx', 'virtual-server.yaml', 'VirtualServer'),
  'spec.routes[0].location-snippets',
);
const ROUTE = document('gateway-api', 'http-route.yaml', 'HTTPRoute');
const FILTER = at(ROUTE, 'spec.rules[0].filters[0].externalAuth') as Yaml;

const AUTH_URL = 'http://gatecar.gatecar.svc.cluster.local:9080/auth';

t.test('every example lists every identity header where its gateway replaces or strips them', async t => {
  const lists: Record<string, unknown> = {
    'ingress-nginx': ANNOTATIONS[`${ANNOTATION}auth-response-headers`],
    traefik: at(MIDDLEWARE, 'spec.forwardAuth.authResponseHeaders'),
    istio: at(MESH, `${PROVIDER}.headersToUpstreamOnAllow`),
    'envoy-gateway, after gatecar': at(SECURITY, 'spec.extAuth.http.headersToBackend'),
    'envoy-gateway, before gatecar': at(CLIENTS, 'spec.headers.earlyRequestHeaders.remove'),
    apisix: FORWARD_AUTH['upstream_headers'],
    'gateway-api': at(FILTER, 'http.allowedResponseHeaders'),
  };
  for (const [gateway, names] of Object.entries(lists)) t.strictSame(sortedNames(names), IDENTITY_NAMES, gateway);
});

t.test(
  'F5: each identity header is copied from the auth response into the request header of the same name',
  async t => {
    const [upgrades, ...directives] = String(F5_SNIPPETS)
      .trim()
      .split('\n')
      .filter(line => !line.startsWith('#'));
    t.equal(
      upgrades,
      'if ($http_upgrade !~* "^(websocket)?$") { return 400; }',
      'without it, h2c would bypass gatecar',
    );
    const variables = new Map<string, string>();
    const set: string[][] = [];
    for (const line of directives) {
      const [directive, name = '', value = ''] = line.replace(/;$/, '').split(/\s+/);
      if (directive === 'auth_request_set') variables.set(name, value);
      else if (directive === 'proxy_set_header') set.push([name.toLowerCase(), variables.get(value) ?? 'nothing']);
      else t.fail(`unexpected directive: ${line}`);
    }
    t.strictSame(
      set.sort(),
      IDENTITY_NAMES.map(name => [name, `$upstream_http_${name.replaceAll('-', '_')}`]),
    );
  },
);

t.test(
  'ingress-nginx: no annotation caches results, shares connections, allows by default or opens a bypass',
  async t => {
    // The annotations of docs/user-guide/nginx-configuration/annotations.md that the example needs.
    const expected = ['auth-url', 'auth-method', 'auth-response-headers'].map(name => ANNOTATION + name);
    t.strictSame(Object.keys(ANNOTATIONS).sort(), expected.sort());
    t.equal(ANNOTATIONS[`${ANNOTATION}auth-url`], AUTH_URL);
    t.equal(ANNOTATIONS[`${ANNOTATION}auth-method`], 'GET', 'otherwise the client sets X-Original-URI');
  },
);

t.test(
  'Traefik: gatecar is the first middleware, receives Authorization, and aliases of header names are dropped',
  async t => {
    t.match(at(MIDDLEWARE, 'spec.forwardAuth'), { address: AUTH_URL, trustForwardHeader: true });
    t.ok(sortedNames(at(MIDDLEWARE, 'spec.forwardAuth.authRequestHeaders')).includes('authorization'));
    t.notOk(at(MIDDLEWARE, 'spec.forwardAuth.forwardBody'), 'gatecar does not wait for the body');
    t.ok(Number(at(MIDDLEWARE, 'spec.forwardAuth.maxResponseBodySize')) > 1_024, 'the body of a denial fits');
    t.equal(at(ROUTER, 'spec.routes[0].middlewares[0].name'), at(MIDDLEWARE, 'metadata.name'));
    t.equal(at(ENTRY_POINTS, 'entryPoints.web.http.aliasHeadersStrategy'), 'delete');
    t.strictSame(at(ENTRY_POINTS, 'entryPoints.web.forwardedHeaders'), { trustedIPs: [] });
  },
);

t.test('Istio: gatecar decides on every request, within seconds, and an outage denies', async t => {
  t.match(at(MESH, PROVIDER), { pathPrefix: '/auth', timeout: '5s', failOpen: false, statusOnError: '503' });
  t.ok(sortedNames(at(MESH, `${PROVIDER}.includeRequestHeadersInCheck`)).includes('authorization'));
  t.equal(
    at(MESH, 'meshConfig.defaultConfig.connectionSettings.profile'),
    'EDGE',
    'names with underscores are rejected',
  );
  t.equal(at(MESH_POLICY, 'spec.provider.name'), at(MESH, 'meshConfig.extensionProviders[0].name'));
  t.match(at(MESH_POLICY, 'spec'), { action: 'CUSTOM', rules: [{}] });
  t.strictSame(at(MESH_POLICY, 'spec.rules'), [{}], 'no rule excludes a request');
  t.notOk(at(MESH_POLICY, 'metadata.annotations'), 'in particular not istio.io/dry-run');
});

t.test('Envoy Gateway: an outage or an invalid policy denies', async t => {
  t.match(at(SECURITY, 'spec.extAuth'), {
    failOpen: false,
    statusOnError: 503,
    timeout: '5s',
    http: { path: '/auth' },
  });
  t.notOk(at(SECURITY, 'spec.extAuth.bodyToExtAuth'), 'gatecar does not wait for the body');
  t.equal(at(CLIENTS, 'spec.headers.withUnderscoresAction'), 'RejectRequest');
  t.strictSame(at(CLIENTS, 'spec.targetRefs'), at(SECURITY, 'spec.targetRefs'));
});

t.test('Contour: an outage denies, and neither plain HTTP nor a disabled policy bypasses gatecar', async t => {
  t.match(at(PROXY, 'spec.virtualhost.authorization'), { failOpen: false, responseTimeout: '5s' });
  t.notOk(at(PROXY, 'spec.virtualhost.authorization.withRequestBody'), 'gatecar does not wait for the body');
  t.equal(at(PROXY, 'spec.virtualhost.authorization.extensionRef.name'), at(EXTENSION, 'metadata.name'));
  t.equal(at(EXTENSION, 'spec.protocol'), 'h2c');
  t.notMatch(JSON.stringify(PROXY), /permitInsecure|authPolicy|disabled|enableFallbackCertificate/);
});

t.test('APISIX: an outage denies, Authorization is sent, and no alias of a header name passes', async t => {
  t.match(FORWARD_AUTH, { uri: AUTH_URL, allow_degradation: false, status_on_error: 503, request_method: 'GET' });
  t.ok(sortedNames(FORWARD_AUTH['request_headers']).includes('authorization'));
  t.ok(sortedNames(FORWARD_AUTH['client_headers']).includes('www-authenticate'));
  t.equal(at(APISIX, 'nginx_config.http.underscores_in_headers'), 'off');
});

t.test('F5: the policy calls gatecar, and its snippets send method and URI', async t => {
  t.match(at(F5_POLICY, 'spec.externalAuth'), { authURI: '/auth', authServiceName: 'gatecar/gatecar' });
  const snippets = String(at(F5_POLICY, 'spec.externalAuth.authSnippets'));
  t.match(snippets, /^proxy_set_header X-Original-URI \$request_uri;$/m);
  t.match(snippets, /^proxy_set_header X-Original-Method \$request_method;$/m);
  t.notMatch(snippets + F5_SNIPPETS, /satisfy|rewrite|auth_request off/);
});

t.test('Gateway API: the filter calls gatecar over HTTP, without the body', async t => {
  t.match(FILTER, { protocol: 'HTTP', http: { path: '/auth' } });
  t.notOk(FILTER['forwardBody'], 'gatecar does not wait for the body');
  t.equal(at(ROUTE, 'spec.rules.length'), 1, 'no rule lacks the filter');
});
