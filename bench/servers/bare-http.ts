// The limit to measure against: node:http and nothing else, with the response head it is given on standard input.
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';

const head = JSON.parse(await text(process.stdin)) as string[];
const server = createServer((_request, response) => {
  response.writeHead(200, head);
  response.end();
});
server.keepAliveTimeout = 3_660_000;
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' && address !== null ? address.port : ''}\n`);
});
