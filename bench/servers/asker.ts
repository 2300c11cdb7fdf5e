// Sends requests with a fixed concurrency over kept-alive connections: tokens to gatecar, or bare
// TokenReviews to the API server itself. A job is a line of JSON on standard input. Its result is a
// line on standard output: the response times in milliseconds, sorted.
import { createInterface } from 'node:readline';
import { Agent } from 'undici';

export interface Job {
  readonly kind: 'auth' | 'review';
  readonly tokens: readonly string[];
  readonly atOnce: number;
  /** Whether to retry if gatecar is overloaded: to have all tokens cached, not to measure. */
  readonly patient?: boolean;
}

const { url, ca, credential } = JSON.parse(process.argv[2] ?? '') as { url: string; ca?: string; credential?: string };
const { origin, pathname } = new URL(url);
// HTTP/2 is off: the API server would accept it, but it is slower, and the baseline must be the
// faster one.
const agent = new Agent({
  connections: 64,
  pipelining: 1,
  allowH2: false,
  connect: { ...(ca !== undefined && { ca }) },
});

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const { kind, tokens, atOnce, patient = false } = JSON.parse(line) as Job;
  const rest = tokens.values();
  const took: number[] = [];
  const worker = async () => {
    for (const token of rest) {
      const start = performance.now();
      await (kind === 'auth' ? ask(token, patient) : review(token));
      took.push(performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  process.stdout.write(`${JSON.stringify(took.sort((a, b) => a - b).map(ms => Number(ms.toFixed(4))))}\n`);
}

async function ask(token: string, patient: boolean): Promise<void> {
  const { status } = await send('GET', { authorization: `Bearer ${token}` });
  if (status === 503 && patient) return await ask(token, patient);
  if (status !== 200) throw new Error(`${url} answered ${status}`);
}

async function review(token: string): Promise<void> {
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    ...(credential !== undefined && { authorization: `Bearer ${credential}` }),
  };
  const spec = { token, audiences: ['bindcar'] };
  const question = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
  const { body } = await send('POST', headers, JSON.stringify(question));
  const answer = JSON.parse(body) as { status?: { authenticated?: boolean } };
  if (answer.status?.authenticated !== true) throw new Error('the API server rejected a valid token');
}

interface Reply {
  readonly status: number;
  readonly body: string;
}

/**
 * Sends a request in the way gatecar sends its own, without the streams of undici's `request`: they
 * would take a large part of the measured time.
 */
function send(method: 'GET' | 'POST', headers: Record<string, string>, body: string | null = null): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const chunks: Buffer[] = [];
  let status = 0;
  agent.dispatch(
    { origin, path: pathname, method, headers, body },
    {
      onRequestStart() {},
      onResponseStart(_, code) {
        status = code;
      },
      onResponseData(_, chunk) {
        chunks.push(chunk);
      },
      onResponseEnd: () => resolve({ status, body: Buffer.concat(chunks).toString('utf8') }),
      onResponseError: (_, error) => reject(error),
    },
  );
  return promise;
}
