import type { JsonWebKey } from 'node:crypto';
import { join } from 'node:path';
import { type Reply, sendRequest } from '../test/fixtures/send-request.ts';
import { type MeasuredProcess, startMeasured } from './pinned-process.ts';
import type { Bench } from './scenario.ts';

/** A baseline server that only sends a fixed response. */
export interface Bare extends MeasuredProcess {
  readonly url: string;
}

/** Connection headers, which node:http may add by itself. */
const OF_THE_CONNECTION = ['connection', 'date', 'keep-alive'];

/**
 * Starts node:http with gatecar's own response to this request. With a `key`, it verifies the
 * signature of each request's token first.
 */
export async function startBareHttp(
  bench: Bench,
  url: string,
  headers: Record<string, string>,
  key?: JsonWebKey,
): Promise<Bare> {
  const { origin, pathname: path } = new URL(url);
  const reply = await sendRequest(origin, { path, headers });
  const head = pairs(reply.rawHeaders).filter(([name = '']) => !OF_THE_CONNECTION.includes(name.toLowerCase()));
  const answer = { status: reply.status, head: head.flat(), body: reply.body, key };
  const name = key ? 'bare node:http that verifies' : 'bare node:http';
  const bare = await startBare(bench, name, 'bare-http.ts', JSON.stringify(answer));
  const same = await sendRequest(bare.url, { path, headers });
  bench.check('the bare server answers as gatecar does', isDeepEqual(shown(reply), shown(same)));
  return bare;
}

/** Starts one of the baseline servers, which prints its port. */
export async function startBare(bench: Bench, name: string, script: string, input: string): Promise<Bare> {
  const args = [join(import.meta.dirname, 'servers', script)];
  const process = await startMeasured(bench, { name, args, input, ready: line => line });
  return { ...process, url: `http://127.0.0.1:${process.readyValue}` };
}

function shown({ status, rawHeaders, body }: Reply): unknown {
  const names = pairs(rawHeaders).map(([name = '', value]) => (name.toLowerCase() === 'date' ? [name] : [name, value]));
  return { status, names: names.map(pair => pair.join(': ').toLowerCase()).sort(), body };
}

function isDeepEqual(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function pairs(rawHeaders: readonly string[]): string[][] {
  return Array.from({ length: rawHeaders.length / 2 }, (_, at) => rawHeaders.slice(at * 2, at * 2 + 2));
}
