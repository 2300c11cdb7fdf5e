// How many RS256 signatures one core can verify: for each `{"seconds":N}` on standard input, their number a second.
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { createInterface } from 'node:readline';

const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
// As long as the signed part of a ServiceAccount's token.
const signed = Buffer.alloc(800, 'a');
const signature = sign('sha256', signed, privateKey);
signature[100] = (signature[100] ?? 0) ^ 1;

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const { seconds } = JSON.parse(line) as { seconds: number };
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < seconds * 1000) {
    if (verify('sha256', signed, publicKey, signature)) throw new Error('a wrong signature is right');
    count += 1;
  }
  process.stdout.write(`${(count * 1000) / (performance.now() - start)}\n`);
}
