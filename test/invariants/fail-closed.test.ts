import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { type TokenIssuer, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { startGatecar } from '../fixtures/gatecar.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';
import { accepts, type Behaviour, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';

const SEEDS = LONG_FUZZ ? [1, 2, 3] : [1];
const CASES = LONG_FUZZ ? 1_500 : 500;

t.setTimeout(120_000);

/**
 * A value stays one value after each mutation. A line end would split it into two header fields.
 */
const BYTES = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).filter(
  character => !/[\r\n]/.test(character),
);
// biome-ignore format: a table
const PIECES = [
  'Bearer ', 'bearer', 'BEARER ', 'Basic ', ' ', '  ', '\t', ',', ', ', ';', '=', '==', '.', '"', '%20', '\0',
  '\x7f', '\x80', '\xa0', '\xff', 'x', 'A', '-', '_', '~', '+', '/', 'null', 'undefined', 'system:anonymous',
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
    const index = random.below(value.length || 1);
    return splice(cut(value, index, 1), index, BYTES[random.below(BYTES.length)] ?? '');
  },
  (value, random) => {
    const index = random.below(value.length || 1);
    const character = value.charAt(index);
    return splice(
      cut(value, index, 1),
      index,
      character === character.toLowerCase() ? character.toUpperCase() : character.toLowerCase(),
    );
  },
  (value, random, good) => `${value}${random.pick([',', ', ', ' ', ';', ''])}${good}`,
  (value, random, good) => `${good}${random.pick([',', ', ', ' ', ';', ''])}${value}`,
  value => value.replace(/^bearer /i, ''),
  value => ` ${value}\t `,
  (value, random) => value.replace(/\.[^.]*$/, `.${random.text(PIECES, 4)}`),
  value => value.split('').reverse().join(''),
];

/**
 * Reviews as the API server does: it writes `Bearer <token>` and parses that again. It ignores
 * what follows a space or a line end, and authenticates an empty token as its anonymous user.
 */
function lenientReview(issuer: TokenIssuer): Behaviour {
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

function splice(value: string, index: number, piece: string): string {
  return value.slice(0, index) + piece + value.slice(index);
}

/** A kept-alive connection that is reopened after the parser rejected what was sent over it. */
class KeptAliveConnection {
  readonly #port: number;
  #socket: Socket | undefined;

  constructor(base: string) {
    this.#port = Number(new URL(base).port);
  }

  /** Sends a request and returns the status of its one response. */
  async send(head: string): Promise<number> {
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
 * Whether a field value, trimmed as RFC 9110 §5.5 says, is exactly the one valid credential. The
 * last character of a signature has unused bits that the API server ignores too, so its other
 * spellings are valid.
 */
function isGood(value: string, token: string): boolean {
  const trimmed = value.replace(/^[ \t]+|[ \t]+$/g, '');
  const credential = trimmed.slice('Bearer '.length);
  if (!/^bearer [\w.-]+$/i.test(trimmed) || credential.slice(0, -1) !== token.slice(0, -1)) return false;
  const [sent, issued] = [credential, token].map(text => Buffer.from(text.split('.')[2] ?? '', 'base64url'));
  return sent !== undefined && issued?.equals(sent) === true;
}

for (const seed of SEEDS) {
  t.test(`of mutated credentials only the intact ones pass (seed ${seed})`, async t => {
    const issuer = tokenIssuer();
    const standIn = await startStandIn(lenientReview(issuer));
    t.teardown(() => standIn.close());
    const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url });
    t.teardown(() => gatecar.stop());
    const connection = new KeptAliveConnection(gatecar.auth);
    t.teardown(() => connection.close());
    const random = seeded(seed);
    const token = issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
    const good = `Bearer ${token}`;
    const show = (value: string) => JSON.stringify(value.replaceAll(token, '<the token>'));
    const statuses: Record<number, number> = {};
    const unexpected: string[] = [];
    for (let i = 0; i < CASES; i += 1) {
      let value = random.pick(MUTATIONS)(good, random, good);
      while (random.below(4) === 0) value = random.pick(MUTATIONS)(value, random, good);
      const status = await connection.send(`GET /auth HTTP/1.1\r\nHost: x\r\nAuthorization: ${value}\r\n\r\n`);
      statuses[status] = (statuses[status] ?? 0) + 1;
      const expected = isGood(value, token) ? 200 : /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(value) ? 400 : 401;
      if (status !== expected) unexpected.push(`${status}: ${show(value)}`);
      // The connection is still in step: a valid credential passes over it, and a request without
      // one is rejected.
      if (i % 10 === 0) {
        const next = [`Authorization: ${good}\r\n`, ''].map(header => `GET /auth HTTP/1.1\r\nHost: x\r\n${header}\r\n`);
        for (const [index, head] of next.entries()) {
          const after = await connection.send(head);
          if (after !== [200, 401][index]) unexpected.push(`${after} after ${show(value)}`);
        }
      }
    }
    t.same(unexpected, []);
    t.ok((statuses[200] ?? 0) > 0, 'some credentials stayed intact');
    t.ok((statuses[401] ?? 0) > CASES / 2, 'gatecar rejected most of them');
    t.ok((statuses[400] ?? 0) > 0, 'the parser rejected some of them');
  });
}
