import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { type TokenIssuer, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { startGatecar } from '../fixtures/gatecar.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';
import { accepts, type Behaviour, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';

const SEEDS = LONG_FUZZ ? [1, 2, 3] : [1];

t.setTimeout(120_000);

/** Whatever becomes of a value, it stays one value: line ends would make two header fields of it. */
const BYTES = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).filter(one => !/[\r\n]/.test(one));
const PIECES = [
  ...([
    'Bearer ',
    'bearer',
    'BEARER ',
    'Basic ',
    ' ',
    '  ',
    '\t',
    ',',
    ', ',
    ';',
    '=',
    '==',
    '.',
    '"',
    '%20',
    '\0',
  ] as const),
  ...([
    '\x7f',
    '\x80',
    '\xa0',
    '\xff',
    'x',
    'A',
    '-',
    '_',
    '~',
    '+',
    '/',
    'null',
    'undefined',
    'system:anonymous',
  ] as const),
] as const;

type Mutation = (value: string, random: Seeded, good: string) => string;

const at = (value: string, random: Seeded) => random.below(value.length + 1);

const MUTATIONS: readonly [Mutation, ...Mutation[]] = [
  value => value,
  (value, random) => cut(value, at(value, random), 1),
  (value, random) => cut(value, at(value, random), random.below(40)),
  (value, random) => value.slice(0, at(value, random)),
  (value, random) => value.slice(at(value, random)),
  (value, random) => splice(value, at(value, random), random.pick(PIECES)),
  (value, random) => splice(cut(value, random.below(8), 1), random.below(8), random.pick(PIECES)),
  (value, random) => splice(value, value.length, random.pick(PIECES)),
  (value, random) => splice(value, at(value, random), BYTES[random.below(BYTES.length)] ?? ''),
  (value, random) => {
    const place = random.below(value.length || 1);
    return splice(cut(value, place, 1), place, BYTES[random.below(BYTES.length)] ?? '');
  },
  (value, random) => {
    const place = random.below(value.length || 1);
    const one = value.charAt(place);
    return splice(cut(value, place, 1), place, one === one.toLowerCase() ? one.toUpperCase() : one.toLowerCase());
  },
  (value, random, good) => `${value}${random.pick([',', ', ', ' ', ';', ''])}${good}`,
  (value, random, good) => `${good}${random.pick([',', ', ', ' ', ';', ''])}${value}`,
  value => value.replace(/^bearer /i, ''),
  value => ` ${value}\t `,
  (value, random) => value.replace(/\.[^.]*$/, `.${random.text(PIECES, 4)}`),
  value => value.split('').reverse().join(''),
];

/**
 * Reviews as the API server does: it writes `Bearer <token>` and reads that anew, so that what stands after a space or a
 * line end goes unseen, and an empty token is its anonymous user, whom it authenticates.
 */
function gullible(issuer: TokenIssuer): Behaviour {
  const anonymous = { username: 'system:anonymous', groups: ['system:unauthenticated'] };
  return (request, response) => {
    const token = `Bearer ${request.token}`.trim().split(/[ \r\n]/)[1] ?? '';
    if (token === '') accepts({ user: anonymous })(request, response);
    else if (issuer.verify(token).kind === 'ours') accepts()(request, response);
    else reviews({ error: 'invalid bearer token' })(request, response);
  };
}

function cut(value: string, from: number, length: number): string {
  return value.slice(0, from) + value.slice(from + length);
}

function splice(value: string, place: number, piece: string): string {
  return value.slice(0, place) + piece + value.slice(place);
}

/** One kept-alive connection, opened anew when the parser has refused what was sent over it. */
class Line {
  readonly #port: number;
  #socket: Socket | undefined;

  constructor(base: string) {
    this.#port = Number(new URL(base).port);
  }

  /** The status of the one answer to one request. */
  async ask(head: string): Promise<number> {
    this.#socket ??= connect(this.#port, '127.0.0.1');
    const socket = this.#socket;
    let received = '';
    const whole = () => {
      const end = received.indexOf('\r\n\r\n');
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(received)?.[1]);
      return end >= 0 && received.length >= end + 4 + length;
    };
    socket.write(Buffer.from(head, 'latin1'));
    while (!whole()) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      received += chunk.toString('latin1');
    }
    if (/\r\nconnection: close\r\n/i.test(received)) this.close();
    return Number(received.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length));
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }
}

/**
 * Whether what RFC 9110 §5.5 leaves of a field value is the one good credential, whole and alone. The last character of
 * a signature has bits that are not read, by the API server neither: its other spellings are as good.
 */
function isGood(value: string, token: string): boolean {
  const trimmed = value.replace(/^[ \t]+|[ \t]+$/g, '');
  const given = trimmed.slice('Bearer '.length);
  if (!/^bearer [\w.-]+$/i.test(trimmed) || given.slice(0, -1) !== token.slice(0, -1)) return false;
  const [one, other] = [given, token].map(text => Buffer.from(text.split('.')[2] ?? '', 'base64url'));
  return one !== undefined && other?.equals(one) === true;
}

for (const seed of SEEDS) {
  t.test(`of 1,500 spoiled credentials none passes (seed ${seed})`, async t => {
    const issuer = tokenIssuer();
    const standIn = await startStandIn(gullible(issuer));
    t.teardown(() => standIn.close());
    const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url });
    t.teardown(() => gatecar.stop());
    const line = new Line(gatecar.auth);
    t.teardown(() => line.close());
    const random = seeded(seed);
    const token = issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
    const good = `Bearer ${token}`;
    const show = (value: string) => JSON.stringify(value.replaceAll(token, '<the token>'));
    const statuses: Record<number, number> = {};
    const wrong: string[] = [];
    for (let i = 0; i < 1500; i += 1) {
      let value = random.pick(MUTATIONS)(good, random, good);
      while (random.below(4) === 0) value = random.pick(MUTATIONS)(value, random, good);
      const status = await line.ask(`GET /auth HTTP/1.1\r\nHost: x\r\nAuthorization: ${value}\r\n\r\n`);
      statuses[status] = (statuses[status] ?? 0) + 1;
      const expected = isGood(value, token) ? 200 : /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(value) ? 400 : 401;
      if (status !== expected) wrong.push(`${status}: ${show(value)}`);
      // The connection is in step with us still: a good one passes over it, and one without is refused.
      if (i % 10 === 0) {
        const next = [`Authorization: ${good}\r\n`, ''].map(header => `GET /auth HTTP/1.1\r\nHost: x\r\n${header}\r\n`);
        for (const [at, head] of next.entries()) {
          const after = await line.ask(head);
          if (after !== [200, 401][at]) wrong.push(`${after} after ${show(value)}`);
        }
      }
    }
    t.same(wrong, []);
    t.ok((statuses[200] ?? 0) > 0, 'some were left as they were');
    t.ok((statuses[401] ?? 0) > 500, 'most were refused by us');
    t.ok((statuses[400] ?? 0) > 0, 'and some by the parser');
  });
}
