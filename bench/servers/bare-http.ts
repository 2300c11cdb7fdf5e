// The limit to measure against: node:http and nothing else, with the answer it is given on standard input.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

const { status, head, body } = JSON.parse(await text(process.stdin)) as {
  status: number;
  head: string[];
  body: string;
};
const server = createServer((_request, response) => {
  response.writeHead(status, head);
  response.end(body);
});
server.keepAliveTimeout = 3_660_000;
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
