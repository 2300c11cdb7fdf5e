import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { sendRequest } from '../fixtures/send-request.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { apiAudience, kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import {
  denial,
  denialOf,
  identity,
  identityIn,
  rejected,
  serviceAccountIdentity,
} from './fixtures/support/response-matchers.ts';

// Verifies what README and docs promise, on the real API server.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test(
  'the worked examples of the documentation hold on the real API server',
  { skip: skipWithout(kubeApiServerMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    const { uid } = await api.createServiceAccount('apps', 'web');
    await api.createServiceAccount('apps', 'other');
    await api.createServiceAccount('ci', 'builder');
    await api.createServiceAccount('blocked', 'web');
    const [web, otherAccount, builder, blocked] = await Promise.all([
      api.requestToken('apps', 'web', { audiences }),
      api.requestToken('apps', 'other', { audiences }),
      api.requestToken('ci', 'builder', { audiences }),
      api.requestToken('blocked', 'web', { audiences }),
    ]);
    const forApiServer = await api.requestToken('apps', 'web');
    const legacy = await api.createLegacySecretToken('apps', 'web');

    const namespaceDenied = (namespace: string) =>
      denial(
        'namespace_denied',
        `Token validation failed: ServiceAccount from unauthorized namespace: ${namespace}`,
        'insufficient_scope',
      );
    const accountDenied = (name: string) =>
      denial(
        'service_account_denied',
        `Token validation failed: ServiceAccount not authorized: ${name}`,
        'insufficient_scope',
      );

    t.test('without an allowlist every ServiceAccount passes that has a token for the right audience', async t => {
      const gatecar = await startGatecar(t, settings);

      t.test('an allow has status 200, every identity header once, and no body', async t => {
        const reply = await sendRequest(gatecar.auth, { token: web });
        t.equal(reply.status, 200);
        t.equal(reply.body, '');
        t.strictSame(identityIn(reply.rawHeaders), identity(serviceAccountIdentity('apps', 'web', uid, web)));
        const { 'content-length': length, 'content-type': type, 'cache-control': caching } = reply.headers;
        t.strictSame([length, type, caching], ['0', undefined, 'no-store']);
        t.equal(
          reply.headers['x-envoy-auth-headers-to-remove'],
          ['Pod', 'Pod-Uid', 'Node', 'Node-Uid', 'Truncated'].map(name => `X-Auth-Request-${name}`).join(','),
        );
      });

      t.test('an allow for a token bound to a pod names the pod and its node', async t => {
        const node = await api.createNode('node-1');
        const pod = await api.createPod('apps', 'web-0', { serviceAccount: 'web', nodeName: 'node-1' });
        const token = await api.requestToken('apps', 'web', { audiences, boundPod: { name: 'web-0', ...pod } });
        const reply = await sendRequest(gatecar.auth, { token });
        t.equal(reply.status, 200);
        const bound = { pod: 'web-0', 'pod-uid': pod.uid, node: 'node-1', 'node-uid': node.uid };
        t.strictSame(
          identityIn(reply.rawHeaders),
          identity({ ...serviceAccountIdentity('apps', 'web', uid, token), ...bound }),
        );
      });

      t.test('a token for the wrong audience and a missing credential get 401 with the reason', async t => {
        const wrongAudience = (audience: string) =>
          rejected(
            `[invalid bearer token, token audiences ["${audience}"] is invalid for the target audiences ["bindcar"]]`,
          );
        t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: forApiServer })), wrongAudience(apiAudience));
        const elsewhere = await api.requestToken('apps', 'web', { audiences: ['elsewhere'] });
        t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: elsewhere })), wrongAudience('elsewhere'));
        t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: 'garbage' })), rejected('invalid bearer token'));
        t.strictSame(
          denialOf(await sendRequest(gatecar.auth)),
          denial('credentials_missing', 'Missing Authorization header'),
        );
        const basic = { headers: { Authorization: 'Basic d2ViOndlYg==' } };
        t.strictSame(
          denialOf(await sendRequest(gatecar.auth, basic)),
          denial('credentials_malformed', 'Invalid Authorization header format'),
        );
        t.strictSame(
          denialOf(await sendRequest(gatecar.auth, { headers: { Authorization: 'Bearer ' } })),
          denial('token_empty', 'Empty token', 'invalid_request'),
        );
      });

      t.test('a legacy Secret token is for the API server’s audience only', async t => {
        const { status, body } = await sendRequest(gatecar.auth, { token: legacy });
        t.equal(status, 401);
        t.match(
          JSON.parse(body).error,
          /^Token validation failed: .*is invalid for the target audiences \["bindcar"\]/,
        );
      });
    });

    t.test('an allowlist of namespaces, one per line: others are named in the denial', async t => {
      const gatecar = await startGatecar(t, { ...settings, GATECAR_ALLOWED_NAMESPACES: '\napps\n  ci\n' });
      t.equal((await sendRequest(gatecar.auth, { token: web })).status, 200);
      t.equal((await sendRequest(gatecar.auth, { token: builder })).status, 200);
      t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: blocked })), namespaceDenied('blocked'));
      const { level, reason, username, status } = await gatecar.logged('the denial', ({ msg }) => msg === 'denied');
      t.strictSame(
        { level, reason, username, status },
        { level: 'info', reason: 'namespace_denied', username: 'system:serviceaccount:blocked:web', status: 401 },
      );
    });

    t.test(
      'an allowlist of ServiceAccounts, by the older names of the settings: others are named in the denial',
      async t => {
        const gatecar = await startGatecar(t, {
          ...settings,
          BIND_TOKEN_AUDIENCES: 'elsewhere\nbindcar',
          BIND_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:apps:web\nsystem:serviceaccount:ci:builder',
        });
        t.equal((await sendRequest(gatecar.auth, { token: web })).status, 200);
        t.equal((await sendRequest(gatecar.auth, { token: builder })).status, 200);
        t.strictSame(
          denialOf(await sendRequest(gatecar.auth, { token: otherAccount })),
          accountDenied('system:serviceaccount:apps:other'),
        );
        t.strictSame(
          denialOf(await sendRequest(gatecar.auth, { token: blocked })),
          accountDenied('system:serviceaccount:blocked:web'),
        );
      },
    );

    t.test('with both allowlists both must pass, and the status of a denial can be 403', async t => {
      const gatecar = await startGatecar(t, {
        ...settings,
        BIND_ALLOWED_NAMESPACES: 'apps,blocked',
        GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:apps:web,system:serviceaccount:ci:builder',
        GATECAR_POLICY_DENIED_STATUS: '403',
      });
      const forbidden = { status: 403 };
      t.equal((await sendRequest(gatecar.auth, { token: web })).status, 200);
      t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: builder })), {
        ...namespaceDenied('ci'),
        ...forbidden,
      });
      t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: blocked })), {
        ...accountDenied('system:serviceaccount:blocked:web'),
        ...forbidden,
      });
      t.equal((await sendRequest(gatecar.auth, { token: 'garbage' })).status, 401, 'an invalid token stays a 401');
    });

    t.test('without a configured audience, only tokens for the API server pass', async t => {
      const gatecar = await startGatecar(t, { ...settings, GATECAR_TOKEN_AUDIENCES: '' });
      for (const token of [forApiServer, legacy]) {
        const reply = await sendRequest(gatecar.auth, { token });
        t.equal(reply.status, 200);
        t.match(identityIn(reply.rawHeaders), { user: 'system:serviceaccount:apps:web', audiences: apiAudience });
      }
      t.equal((await sendRequest(gatecar.auth, { token: web })).status, 401);
      t.match(await gatecar.logs(), [{ level: 'warn', msg: /^GATECAR_TOKEN_AUDIENCES is empty/ }]);

      t.test("users of the API server's token file are not ServiceAccounts; their names arrive encoded", async t => {
        const { jane, zoë } = api.opaqueTokens;
        t.strictSame(
          identityIn((await sendRequest(gatecar.auth, { token: jane.token })).rawHeaders),
          identity({
            user: 'jane',
            uid: jane.uid,
            groups: 'team%20a,b,system:authenticated',
            audiences: apiAudience,
          }),
        );
        const { user = '', groups } = identityIn((await sendRequest(gatecar.auth, { token: zoë.token })).rawHeaders);
        t.match(user, /^[\x20-\x7e]+$/);
        t.equal(decodeURIComponent(user), zoë.username);
        t.equal(groups, 'gr%C3%B6%C3%9Fe,a%252Cb,system:authenticated');
      });
    });

    t.test(
      'a user that is not a ServiceAccount passes no allowlist, and opaque tokens can be rejected without a review',
      async t => {
        const { token } = api.opaqueTokens.jane;
        const noAudience = { ...settings, GATECAR_TOKEN_AUDIENCES: '' };
        const listed = await startGatecar(t, { ...noAudience, GATECAR_ALLOWED_NAMESPACES: 'apps' });
        t.strictSame(denialOf(await sendRequest(listed.auth, { token })), namespaceDenied('none (jane)'));
        const rejecting = await startGatecar(t, { ...noAudience, GATECAR_OPAQUE_TOKENS: 'reject' });
        t.strictSame(denialOf(await sendRequest(rejecting.auth, { token })), rejected('invalid bearer token'));
        t.equal((await sendRequest(rejecting.auth, { token: forApiServer })).status, 200);
      },
    );

    t.test('with generic error details every denial looks the same', async t => {
      const gatecar = await startGatecar(t, {
        ...settings,
        GATECAR_ALLOWED_NAMESPACES: 'apps',
        GATECAR_ERROR_DETAIL: 'generic',
      });
      const generic = { ...denial('', 'Unauthorized', 'invalid_token'), reason: undefined };
      t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: 'garbage' })), generic);
      t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: blocked })), generic);
    });

    t.test('the prefix of the identity headers is configurable', async t => {
      const gatecar = await startGatecar(t, { ...settings, GATECAR_IDENTITY_HEADER_PREFIX: 'X-Bind-' });
      const { headers } = await sendRequest(gatecar.auth, { token: web });
      t.match(headers, { 'x-bind-user': 'system:serviceaccount:apps:web', 'x-bind-pod': '' });
      t.equal(headers['x-auth-request-user'], undefined);
    });

    t.test("a line end in the token file is not part of gatecar's own token", async t => {
      const tokenFile = join(api.directory, 'token-with-line-end');
      await writeFile(tokenFile, `${await api.requestToken('gatecar', 'gatecar')}\n`);
      const gatecar = await startGatecar(t, { ...settings, GATECAR_KUBE_TOKEN_FILE: tokenFile });
      t.equal((await sendRequest(gatecar.auth, { token: web })).status, 200);
    });
  },
);
