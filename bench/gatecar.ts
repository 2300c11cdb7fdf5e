import { setTimeout as sleep } from 'node:timers/promises';
import { metric } from '../test/fixtures/metrics.ts';
import { sendRequest } from '../test/fixtures/send-request.ts';
import { type MeasuredProcess, startMeasured } from './pinned-process.ts';
import { imageForm } from './production-build.ts';
import type { Bench } from './scenario.ts';

const READY_LIMIT_MS = 10_000;
const ASK_EVERY_MS = 2;

export interface Gatecar extends MeasuredProcess {
  /** Base URLs of its listeners. */
  readonly auth: string;
  readonly ops: string;
  /** Base URL of its gRPC listener, if the settings have one. */
  readonly grpc: string;
  /** Time from its start to its first 200 at `/readyz`, in milliseconds. */
  readonly readyMs: number;
  /** Returns the value of one of its metrics. */
  metric(name: string): Promise<number>;
}

export interface GatecarOptions {
  /** Flags of Node.js, in addition to the image's. */
  readonly flags?: readonly string[];
}

/** Settings for scenarios that use gRPC. */
export const WITH_GRPC = { GATECAR_GRPC_LISTEN: '127.0.0.1:0' } as const;

/**
 * Starts gatecar as the image does, on loopback and on the measured core. Resolves when it is
 * ready.
 */
export async function startGatecar(
  bench: Bench,
  settings: Readonly<Record<string, string>>,
  { flags = [] }: GatecarOptions = {},
): Promise<Gatecar> {
  const { env, args } = imageForm();
  const process = await startMeasured(bench, {
    name: 'gatecar',
    args: [...flags, ...args],
    env: {
      ...env,
      GATECAR_LISTEN: '127.0.0.1:0',
      GATECAR_OPS_LISTEN: '127.0.0.1:0',
      GATECAR_SHUTDOWN_DELAY: '0s',
      // No result expires during a run, so every lookup of a cached token is a hit.
      GATECAR_CACHE_TTL: '10m',
      ...settings,
    },
    ready: line => (line.includes('"listening"') ? line : undefined),
  });
  const { auth, ops, grpc } = JSON.parse(process.readyValue) as Record<'auth' | 'ops' | 'grpc', string>;
  const url = (address = 'none') => `http://${address}`;
  const base = url(ops);
  const limit = performance.now() + READY_LIMIT_MS;
  while ((await sendRequest(base, { path: '/readyz' })).status !== 200) {
    if (performance.now() > limit) throw new Error('gatecar is not ready in time');
    await sleep(ASK_EVERY_MS);
  }
  const readyMs = performance.now() - process.startedAt;
  return { ...process, auth: url(auth), ops: base, grpc: url(grpc), readyMs, metric: name => metric(base, name) };
}
