// Baseline: node:http2 only, with fixed frames from standard input.
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

const answer = JSON.parse(await text(process.stdin)) as { head: string[]; message: string; trailers: string[] };
const message = Buffer.from(answer.message, 'base64');
const head = Object.fromEntries(pairs(answer.head));
const trailers = Object.fromEntries(pairs(answer.trailers));

const server = createServer();
server.on('stream', stream => {
  stream.on('data', () => {});
  stream.on('error', () => {});
  stream.on('end', () => {
    // The load generator resets open streams when its time is over.
    if (stream.destroyed) return;
    stream.respond(head, { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers(trailers));
    stream.end(message);
  });
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));

function pairs(flat: readonly string[]): [string, string | number][] {
  return Array.from({ length: flat.length / 2 }, (_, at) => {
    const [name = '', value = ''] = flat.slice(at * 2, at * 2 + 2);
    return [name, name === ':status' ? Number(value) : value];
  });
}
