// Baseline: node:http only, with a fixed response from standard input. With `key`, it first
// verifies the RS256 signature of each request's token. That is the minimum that rejecting a token
// for its signature can cost. The key must be gatecar's own: a signature that is not a number below
// the modulus is rejected before any arithmetic.
import { createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

const { status, head, body, key } = JSON.parse(await text(process.stdin)) as {
  status: number;
  head: string[];
  body: string;
  key?: JsonWebKey;
};
const publicKey = key && createPublicKey({ key, format: 'jwk' });

function isSigned(publicKey: KeyObject, authorization = ''): boolean {
  const [header, payload, signature = ''] = authorization.slice('Bearer '.length).split('.');
  return verify(
    'sha256',
    Buffer.from(`${header}.${payload}`, 'latin1'),
    publicKey,
    Buffer.from(signature, 'base64url'),
  );
}

const server = createServer((request, response) => {
  if (publicKey && isSigned(publicKey, request.headers.authorization))
    throw new Error('an invalid signature was accepted');
  response.writeHead(status, head);
  response.end(body);
});
server.keepAliveTimeout = 3_660_000;
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
