import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type EnvoyClient, envoyClient, headersOf } from '../fixtures/envoy-client.ts';
import { IDENTITY_NAMES } from '../fixtures/examples.ts';
import { startWithFakeApi, type TestGatecarWithFakeApi } from '../fixtures/gatecar.ts';

// The checks that Contour's Envoy sends, as recorded; `source` in the file says how.
// test/gateway/recorded.test.ts does the same for HTTP.

const RECORDED = join(import.meta.dirname, '../fixtures/recorded/contour.json');

interface Check {
  readonly attributes: { readonly request: { readonly http: { readonly headers: Record<string, string> } } };
}

const { requests } = JSON.parse(readFileSync(RECORDED, 'utf8')) as { requests: readonly Check[] };

/** Returns a recorded check with this token, or without any. */
function withToken(check: Check, token: string | undefined): Check {
  const copy = structuredClone(check);
  const { headers } = copy.attributes.request.http;
  if (token === undefined) delete headers['authorization'];
  else headers['authorization'] = headers['authorization']?.replace('{{token}}', token) ?? '';
  return copy;
}

t.test('the recorded checks of Contour are decided by their tokens', async t => {
  const gatecar: TestGatecarWithFakeApi = await startWithFakeApi({ GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  t.teardown(() => gatecar.stop());
  const client: EnvoyClient = envoyClient(String(gatecar.logs().find(line => line['msg'] === 'listening')?.['grpc']));
  t.teardown(() => client.close());

  for (const recorded of requests) {
    const { ':method': method, ':path': path } = recorded.attributes.request.http.headers;
    t.test(`recorded check ${method} ${path} passes with a valid token only`, async t => {
      const token = gatecar.token();
      const allowed = await client.check(withToken(recorded, token));
      t.equal(allowed.status.code, 0);
      const identity = headersOf(allowed.ok_response?.headers ?? []);
      t.strictSame(
        Object.keys(identity)
          .filter(name => name.startsWith('x-auth-request-'))
          .sort(),
        IDENTITY_NAMES,
      );
      t.equal(
        identity['x-auth-request-user'],
        'system:serviceaccount:default:my-app',
        "the client's header does not matter",
      );
      t.strictSame(
        allowed.ok_response?.headers_to_remove.map(name => name.toLowerCase()).sort(),
        IDENTITY_NAMES.filter(name => identity[name] === ''),
        'headers without a value are removed',
      );
      for (const invalid of [undefined, '', `${token}x`, gatecar.token({ audiences: ['other'] })]) {
        const { denied_response: denied } = await client.check(withToken(recorded, invalid));
        t.equal(denied?.status.code, 401);
        t.match(headersOf(denied?.headers ?? [])['www-authenticate'], /^Bearer realm="gatecar"/);
      }
    });
  }
});
