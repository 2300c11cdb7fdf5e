// Baseline: the minimal relay on node:http. It sends a TokenReview for each request's token over
// kept-alive connections, and returns only the status. It checks, limits and caches nothing.
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { Agent } from 'undici';

const { url, ca, credential } = JSON.parse(await text(process.stdin)) as Record<'url' | 'ca' | 'credential', string>;
const { origin, pathname: path } = new URL(url);
const agent = new Agent({ connections: 64, pipelining: 1, allowH2: false, connect: { ca } });
const headers = {
  'content-type': 'application/json',
  accept: 'application/json',
  authorization: `Bearer ${credential}`,
};

function relay(authorization: string, response: ServerResponse): void {
  const spec = { token: authorization.slice('Bearer '.length), audiences: ['bindcar'] };
  const body = JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec });
  const chunks: Buffer[] = [];
  agent.dispatch(
    { origin, path, method: 'POST', headers, body },
    {
      onRequestStart() {},
      onResponseStart() {},
      onResponseData(_, chunk) {
        chunks.push(chunk);
      },
      onResponseEnd() {
        const { status } = JSON.parse(Buffer.concat(chunks).toString('utf8'));
        response.writeHead(status.authenticated ? 200 : 401, ['Content-Length', '0']);
        response.end();
      },
      onResponseError: () => response.destroy(),
    },
  );
}

const server = createServer((request, response) => relay(request.headers.authorization ?? '', response));
server.keepAliveTimeout = 3_660_000;
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
