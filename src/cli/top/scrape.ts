import { get } from 'node:http';
import { buffer } from 'node:stream/consumers';
import type { Address } from '../../config/network-types.ts';
import { UsageError } from '../command.ts';
import { type LocalTarget, localTarget } from '../local-target.ts';

/** Where the metrics are; the URL is that of `/metrics`. */
export interface MetricsTarget extends LocalTarget {
  /** For the user. */
  readonly shown: string;
}

const TIMEOUT_MS = 5_000;

/** Returns the metrics of the ops listener at this address, on this machine. */
export function targetOfAddress(address: Address): MetricsTarget {
  const target = localTarget(address, 'http');
  const shown = address.kind === 'unix' ? address.text : target.url;
  return { ...target, url: `${target.url}/metrics`, shown };
}

/**
 * Returns the metrics at this base URL, or at this URL of `/metrics`.
 *
 * @throws {UsageError}
 */
export function targetOfUrl(text: string | undefined): MetricsTarget {
  const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' || url.username !== '' || url.password !== '') {
    throw new UsageError('--url must be an http URL of the ops listener, such as http://127.0.0.1:9081');
  }
  const base = `${url.origin}${url.pathname.replace(/\/(metrics)?$/, '')}`;
  return { url: `${base}/metrics`, shown: base };
}

/**
 * Reads the metrics.
 *
 * @throws {Error} if there is no response, or one other than 200.
 */
export async function scrape({ url, socketPath }: MetricsTarget): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const options = { signal, ...(socketPath !== undefined && { socketPath }) };
  get(url, options, response => {
    if (response.statusCode === 200) return void buffer(response).then(resolve, reject);
    response.resume();
    reject(new Error(`HTTP ${response.statusCode}`));
  }).once('error', reject);
  return (await promise).toString('utf8');
}
