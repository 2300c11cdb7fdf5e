import { join } from 'node:path';
import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import { checkResponse, requestHeaders } from '../../src/gateway/ext-authz.ts';
import { ENVOY_INCLUDES } from '../fixtures/envoy-client.ts';

interface Field {
  readonly name: string;
  readonly number: number;
  readonly type: string;
  readonly label: string;
  readonly typeName: string;
}
interface Message {
  readonly name: string;
  readonly field: readonly Field[];
  readonly nestedType: readonly Message[];
}

const OURS = join(import.meta.dirname, '../../src/gateway/ext-authz.proto');
const OFFICIAL = 'envoy/service/auth/v3/external_auth.proto';

/** In newer official files than the package carries; e2e holds it against the real Envoy with `encode_raw_headers`. */
const NEWER = ['HttpRequest.header_map'];

/** Every message of a file by its simple name, messages within messages among them. */
function messagesOf(file: string, includeDirs: readonly string[]): Map<string, Message> {
  const found = new Map<string, Message>();
  const add = (message: Message): void => {
    // Several official packages have messages of the same simple name; those of the authorization API come first.
    if (!found.has(message.name)) found.set(message.name, message);
    for (const nested of message.nestedType ?? []) add(nested);
  };
  const loaded = loadSync(file, { keepCase: true, includeDirs: [...includeDirs] });
  const ranked = Object.entries(loaded).sort(([one], [other]) => rank(one) - rank(other));
  for (const [, definition] of ranked) {
    if ('type' in definition && 'field' in (definition.type as object)) add(definition.type as unknown as Message);
  }
  return found;
}

function rank(name: string): number {
  const order = ['envoy.service.auth.v3', 'envoy.config.core.v3', 'envoy.type.v3', 'google.rpc'];
  const at = order.findIndex(prefix => name.startsWith(prefix));
  return at < 0 ? order.length : at;
}

t.test('every field has the name, number, type and label of the official one', async t => {
  const official = messagesOf(OFFICIAL, ENVOY_INCLUDES);
  const ours = messagesOf(OURS, []);
  t.ok(ours.size >= 14, 'our file was read');
  for (const message of ours.values()) {
    for (const field of message.field) {
      const title = `${message.name}.${field.name}`;
      if (NEWER.includes(title)) continue;
      const same = official.get(message.name)?.field.find(({ name }) => name === field.name);
      const { number, label } = field;
      // An enumeration travels as the integer that we write.
      const type = same?.type === 'TYPE_ENUM' ? 'TYPE_ENUM' : field.type;
      t.match(same, { number, type, label }, title);
      t.equal(simple(same?.typeName), same?.type === 'TYPE_ENUM' ? 'StatusCode' : simple(field.typeName), title);
    }
  }
});

function simple(typeName = ''): string {
  return typeName.split('.').at(-1) ?? '';
}

t.test('the service and its method have the official names', async t => {
  const method = (file: string, includeDirs: string[]) => {
    const service = loadSync(file, { includeDirs })['envoy.service.auth.v3.Authorization'] as unknown as {
      Check: { path: string; requestStream: boolean; responseStream: boolean };
    };
    const { path, requestStream, responseStream } = service.Check;
    return { path, requestStream, responseStream };
  };
  t.same(method(OURS, []), method(OFFICIAL, ENVOY_INCLUDES));
});

t.test('headers are read from both fields that Envoy may fill', async t => {
  const raw = { headers: [{ key: 'authorization', raw_value: Buffer.from('Bearer \xff', 'latin1') }] };
  t.same(requestHeaders({ header_map: raw }), ['authorization', 'Bearer \xff'], 'bytes stay what they are');
  t.same(requestHeaders({ headers: { a: '1' }, header_map: { headers: [{ key: 'b', value: '2' }, {}] } }), [
    ...['a', '1'],
    ...['b', '2'],
    ...['', ''],
  ]);
  t.same(requestHeaders(undefined), []);
  t.same(requestHeaders({ headers: null, header_map: null }), []);
});

t.test('an allow overwrites every header that has a value and removes every one that has none', async t => {
  const headers = ['Content-Length', '0', 'Cache-Control', 'no-store', 'X-User', 'me', 'X-Pod', ''];
  const remove = ['x-envoy-auth-headers-to-remove', 'X-Pod'];
  t.same(checkResponse({ status: 200, headers: [...headers, ...remove], body: '', text: '' }), {
    status: { code: 0, message: '' },
    ok_response: {
      headers: [{ header: { key: 'X-User', value: 'me' } }, { header: { key: 'X-Pod', value: '' } }],
      headers_to_remove: ['X-Pod'],
    },
  });
});

t.test('a refusal has the code of its status, and status, headers and body for the client', async t => {
  for (const [status, code] of [
    [401, 16],
    [403, 7],
    [503, 14],
  ] as const) {
    const headers = ['Content-Length', '2', 'Cache-Control', 'no-store'];
    t.same(checkResponse({ status, headers, body: '{}', text: 'why' }), {
      status: { code, message: 'why' },
      denied_response: {
        status: { code: status },
        headers: [{ header: { key: 'Cache-Control', value: 'no-store' } }],
        body: '{}',
      },
    });
  }
});
