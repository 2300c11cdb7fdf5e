import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { type Bare, startBare } from './baseline.ts';
import { CHECK, checkRequest } from './check-request.ts';
import { benchAuthority } from './dev-authority.ts';
import { startGatecar, WITH_GRPC } from './gatecar.ts';
import type { Bench } from './scenario.ts';

/** A unary response over HTTP/2; headers are in pairs. */
interface GrpcReply {
  readonly head: readonly string[];
  /** Frame prefix and message, base64. */
  readonly message: string;
  readonly trailers: readonly string[];
}

/** Starts node:http2 with gatecar's own response to this CheckRequest. */
export async function startBareHttp2(bench: Bench, url: string, body: Buffer): Promise<Bare> {
  const reply = await askGrpc(url, body);
  const bare = await startBare(bench, 'bare node:http2', 'bare-http2.ts', JSON.stringify(reply));
  bench.check('the response is an allow', reply.trailers.join().includes('grpc-status,0') && isAllow(reply.message));
  bench.check('the bare server answers as gatecar does', same(reply, await askGrpc(bare.url, body)));
  return bare;
}

/** Starts gatecar with its gRPC listener, and writes a CheckRequest for load clients to a file. */
export async function startGatecarWithGrpc(bench: Bench): Promise<{
  readonly authority: Awaited<ReturnType<typeof benchAuthority>>;
  readonly gatecar: Awaited<ReturnType<typeof startGatecar>>;
  readonly bodyFile: string;
}> {
  const directory = await mkdtemp(join(tmpdir(), 'gatecar-bench-'));
  bench.teardown(() => rm(directory, { recursive: true }));
  const authority = await benchAuthority(bench);
  const gatecar = await startGatecar(bench, { ...authority.settings, ...WITH_GRPC });
  const bodyFile = join(directory, 'check-request');
  await writeFile(bodyFile, checkRequest(authority.token), { mode: 0o600 });
  return { authority, gatecar, bodyFile };
}

async function askGrpc(url: string, body: Buffer): Promise<GrpcReply> {
  const client = connect(url);
  try {
    const stream = client.request({ ':method': 'POST', ':path': CHECK.path, ...CHECK.headers });
    let trailers: string[] = [];
    stream.on('trailers', (_headers, _flags, rawHeaders?: string[]) => {
      trailers = rawHeaders ?? [];
    });
    const message = buffer(stream);
    stream.end(body);
    const [, , rawHead] = (await once(stream, 'response')) as [unknown, number, string[]?];
    const head = rawHead ?? [];
    return { head: withoutDate(head), message: (await message).toString('base64'), trailers };
  } finally {
    client.close();
  }
}

/**
 * Whether a CheckResponse contains `ok_response` (field 3). The first five bytes are the gRPC frame
 * prefix.
 */
function isAllow(message: string): boolean {
  const bytes = Buffer.from(message, 'base64').subarray(5);
  for (let at = 0; at < bytes.length; at += 2 + (bytes[at + 1] ?? 0)) if (bytes[at] === 0x1a) return true;
  return false;
}

function withoutDate(head: readonly string[]): string[] {
  return head.filter((_, at) => head[at - (at % 2)] !== 'date');
}

function same(one: GrpcReply, other: GrpcReply): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
