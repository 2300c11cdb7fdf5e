import { once } from 'node:events';
import { type AddressInfo, connect as connectTcp, createServer, type Server, Socket } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { authorizeFormatOnly } from '../../src/authorize.ts';
import { createResponseRenderer } from '../../src/gateway/auth-response.ts';
import { connectionIntake } from '../../src/gateway/connection-intake.ts';
import { trustedProxies } from '../../src/gateway/forwarded-headers.ts';
import { createGrpcListener } from '../../src/gateway/grpc/listener.ts';
import { createHttpListener, type HttpListenerOptions } from '../../src/gateway/http/listener.ts';
import { ConnectionPool } from '../../src/limits/connection-pool.ts';
import { CONNECTION_BYTES } from '../../src/limits/constants.ts';
import { followHandshakes } from '../../src/tls/handshake-failure.ts';
import {
  type ListenerOptions,
  type ListenerTls,
  remoteAddress,
  type TlsMaterial,
} from '../../src/tls/listener-options.ts';
import { envoyClient } from '../fixtures/envoy-client.ts';
import { roomyLimits } from '../fixtures/limits.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { pem } from '../fixtures/tls-server.ts';
import { until } from '../fixtures/until.ts';

// Behaviour shared by both listeners: TLS and the limit on connections.

const bytes = (name: string) => Buffer.from(pem(name));
const material = (certificate: string, clientCa?: string): TlsMaterial => ({
  cert: bytes(`${certificate}.crt`),
  key: bytes(`${certificate}.key`),
  clientCa: clientCa === undefined ? undefined : bytes(`${clientCa}.crt`),
});

interface ReplaceableTls extends ListenerTls {
  replace(material: TlsMaterial): void;
}

function tlsOf(first: TlsMaterial): ReplaceableTls {
  const callbacks: ((material: TlsMaterial) => void)[] = [];
  return {
    material: first,
    onReplaced: callback => callbacks.push(callback),
    replace(next) {
      for (const callback of callbacks) callback(next);
    },
  };
}

const GATEWAY = {
  authorize: authorizeFormatOnly,
  answer: createResponseRenderer({
    policyDeniedStatus: 401,
    unavailableStatus: 503,
    errorDetail: 'full',
    identityHeaderPrefix: 'X-Auth-Request-',
  }),
  trusted: trustedProxies([]),
  clientIpHeader: undefined,
  onFault: () => {},
} as const;

type Options = ListenerOptions & Partial<Pick<HttpListenerOptions, 'maxConnections' | 'onRejected' | 'pool'>>;

/** Starts a listener. @returns its port. */
const LISTENERS: Record<'http/1.1' | 'h2', (t: Test, options: Options) => Promise<number>> = {
  async 'http/1.1'(t, options) {
    const { app: gateway } = createHttpListener({ ...GATEWAY, ...roomyLimits(), ...options });
    await gateway.ready();
    gateway.server.listen(0, '127.0.0.1');
    await once(gateway.server, 'listening');
    t.teardown(() => {
      gateway.server.close();
      gateway.server.closeAllConnections();
    });
    return (gateway.server.address() as AddressInfo).port;
  },
  async h2(t, options) {
    const gateway = createGrpcListener({ ...GATEWAY, ...roomyLimits(), ...options });
    t.teardown(() => gateway.destroy());
    return Number((await gateway.listen({ host: '127.0.0.1', port: 0 })).split(':')[1]);
  },
};

const clientOf = (name: string): ConnectionOptions => ({ cert: pem(`${name}.crt`), key: pem(`${name}.key`) });

/** Connects and waits for data, which the server sends only after it accepts the certificate. */
async function handshake(t: Test, port: number, protocol: string, more: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    ca: pem('ca.crt'),
    servername: 'localhost',
    ALPNProtocols: [protocol],
    checkServerIdentity: () => undefined,
    ...more,
  });
  t.teardown(() => socket.destroy());
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  socket.once('error', reject).once('close', () => reject(new Error('closed')));
  socket.once('data', () => resolve(socket));
  if (protocol === 'http/1.1') socket.write('GET /auth HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\n\r\n');
  else socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0');
  return promise;
}

const serial = (socket: TLSSocket) => socket.getPeerX509Certificate()?.serialNumber;

for (const [protocol, start] of Object.entries(LISTENERS)) {
  t.test(`${protocol}: TLS 1.3 is used if possible, 1.2 only with forward secrecy, and nothing older`, async t => {
    const port = await start(t, { tls: tlsOf(material('server')) });
    const modern = await handshake(t, port, protocol);
    t.equal(modern.getProtocol(), 'TLSv1.3');
    t.equal(modern.alpnProtocol, protocol);
    const older = await handshake(t, port, protocol, { maxVersion: 'TLSv1.2' });
    t.match([older.getProtocol(), older.getCipher().name], ['TLSv1.2', /^ECDHE-ECDSA-.*(GCM|CHACHA20)/]);
    const weak: ConnectionOptions[] = [
      { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
      { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256' },
      { ALPNProtocols: ['spdy/3'] },
    ];
    for (const options of weak) await t.rejects(handshake(t, port, protocol, options));
  });

  t.test(`${protocol}: with a client CA, only clients with a certificate of it are accepted`, async t => {
    const port = await start(t, { tls: tlsOf(material('server', 'ca')) });
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const options = { maxVersion: version };
      await handshake(t, port, protocol, { ...options, ...clientOf('client') });
      await t.rejects(handshake(t, port, protocol, options), 'no certificate');
      const untrusted = { ...options, ...clientOf('other-client') };
      await t.rejects(handshake(t, port, protocol, untrusted), 'a certificate of another CA');
    }
    const open = await start(t, { tls: tlsOf(material('server')) });
    await handshake(t, open, protocol, clientOf('other-client'));
  });

  t.test(`${protocol}: replaced TLS material applies to new connections, and open ones stay`, async t => {
    const tls = tlsOf(material('server', 'ca'));
    const port = await start(t, { tls });
    const old = await handshake(t, port, protocol, clientOf('client'));
    tls.replace(material('server-by-name', 'other-ca'));
    const fresh = await handshake(t, port, protocol, clientOf('other-client'));
    t.not(serial(fresh), serial(old));
    await t.rejects(handshake(t, port, protocol, clientOf('client')));
    for (const maxVersion of ['TLSv1.1', 'TLSv1.2'] as const) {
      const weak: ConnectionOptions = { minVersion: 'TLSv1', maxVersion, ciphers: 'ECDHE-ECDSA-AES128-SHA256' };
      await t.rejects(
        handshake(t, port, protocol, { ...weak, ...clientOf('other-client') }),
        'weak TLS stays disabled',
      );
    }
    const more = once(old, 'data');
    if (protocol === 'http/1.1') old.write('GET /auth HTTP/1.1\r\nHost: a\r\n\r\n');
    // PING
    else old.write('\0\0\x08\x06\0\0\0\0\0abcdefgh');
    await more;
  });

  t.test(`${protocol}: no TLS session is resumed after the client CA was replaced`, async t => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const tls = tlsOf(material('server', 'ca'));
      const port = await start(t, { tls });
      let session: Buffer | undefined;
      const options = { maxVersion, servername: 'localhost', ...clientOf('client') };
      const socket = connect({
        port,
        host: '127.0.0.1',
        ca: pem('ca.crt'),
        ALPNProtocols: [protocol],
        ...options,
      });
      socket.on('error', () => {});
      socket.on('session', ticket => {
        session = ticket;
      });
      await until(() => session !== undefined);
      socket.destroy();
      const again = await handshake(t, port, protocol, { ...options, session: session as Buffer });
      t.ok(again.isSessionReused(), 'the session is resumed while the client CA is unchanged');
      tls.replace(material('server', 'other-ca'));
      await t.rejects(handshake(t, port, protocol, { ...options, session: session as Buffer }), maxVersion);
    }
  });

  t.test(`${protocol}: a client that does not finish the handshake or send TLS is disconnected`, async t => {
    const port = await start(t, { tls: tlsOf(material('server')), handshakeTimeoutMs: 400 });
    for (const text of ['', '\x16\x03\x01', 'GET /auth HTTP/1.1\r\nHost: a\r\n\r\n']) {
      const socket = connectTcp(port, '127.0.0.1').on('error', () => {});
      let received = '';
      socket.on('data', chunk => {
        received += chunk.toString('latin1');
      });
      socket.write(text, 'latin1');
      await once(socket, 'close');
      t.notMatch(received, 'HTTP');
    }
    await handshake(t, port, protocol);
  });

  t.test(`${protocol}: each failed handshake is reported with its reason`, async t => {
    const failures: (readonly [reason: string, peer: string | undefined])[] = [];
    const options: ListenerOptions = {
      handshakeTimeoutMs: 500,
      onHandshakeFailure: (reason, peer) => failures.push([reason, peer]),
    };
    const mutual = await start(t, { ...options, tls: tlsOf(material('server', 'ca')) });
    const open = await start(t, { ...options, tls: tlsOf(material('server')) });
    const expired = await start(t, { ...options, tls: tlsOf(material('server', 'server-expired')) });
    const raw = (send: (socket: Socket) => void) => async () => {
      const socket = connectTcp(open, '127.0.0.1').on('error', () => {});
      t.teardown(() => socket.destroy());
      await once(socket, 'connect');
      send(socket);
    };
    const attempt = (port: number, more: ConnectionOptions) => () => handshake(t, port, protocol, more);
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    const cases: [reason: string, act: () => Promise<unknown>, hasPeer: boolean][] = [
      ['client_certificate_missing', attempt(mutual, {}), true],
      ['client_certificate_untrusted', attempt(mutual, clientOf('other-client')), false],
      ['client_certificate_purpose', attempt(mutual, clientOf('server')), false],
      ['client_certificate_expired', attempt(expired, clientOf('server-expired')), false],
      ['protocol_version', attempt(open, old), true],
      ['no_common_cipher', attempt(open, { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256' }), true],
      ['no_common_protocol', attempt(open, { ALPNProtocols: ['spdy/3'] }), true],
      ['plain_http', raw(socket => socket.write('GET / HTTP/1.1\r\n\r\n')), true],
      ['not_tls', raw(socket => socket.write(Buffer.alloc(64, 0xff))), true],
      ['connection_closed', raw(socket => socket.end()), false],
      ['connection_closed', raw(socket => socket.resetAndDestroy()), false],
      ['timeout', raw(() => {}), false],
      ['other', raw(socket => socket.write(Buffer.from('16030100050200000100', 'hex'))), true],
    ];
    for (const [reason, act, hasPeer] of cases) {
      failures.length = 0;
      await act().then(
        () => {},
        () => {},
      );
      await until(() => failures.length > 0);
      t.strictSame(failures[0]?.[0], reason);
      if (hasPeer) t.equal(failures[0]?.[1], '127.0.0.1', reason);
    }
    if (protocol === 'h2') {
      failures.length = 0;
      await t.rejects(handshake(t, open, protocol, { ALPNProtocols: [] }));
      t.strictSame(failures, [['no_common_protocol', '127.0.0.1']], 'HTTP/2 requires ALPN');
    }
    failures.length = 0;
    await handshake(t, mutual, protocol, clientOf('client'));
    t.strictSame(failures, []);
  });

  for (const tls of [undefined, tlsOf(material('server'))]) {
    t.test(
      `${protocol}${tls ? ' over TLS' : ''}: a connection beyond the limit closes the one that has waited longest for its client`,
      async t => {
        let rejected = 0;
        const onRejected = () => {
          rejected += 1;
        };
        const port = await start(t, { tls, maxConnections: 2, onRejected });
        const open = async () => {
          const socket = connectTcp(port, '127.0.0.1').on('error', () => {});
          t.teardown(() => socket.destroy());
          await once(socket, 'connect');
          return socket.resume();
        };
        const [first, second] = [await open(), await open()];
        const closed = once(first, 'close');
        const third = await open();
        await closed;
        t.equal(rejected, 1);
        t.notOk(second.closed || third.closed);
      },
    );
  }
}

t.test('a Check over mutual TLS succeeds with a client certificate and fails without', async t => {
  const port = await LISTENERS.h2(t, { tls: tlsOf(material('server', 'ca')) });
  const [ca, key, cert] = [bytes('ca.crt'), bytes('client.key'), bytes('client.crt')];
  const withCertificate = envoyClient(`localhost:${port}`, credentials.createSsl(ca, key, cert));
  const withoutCertificate = envoyClient(`localhost:${port}`, credentials.createSsl(ca));
  t.teardown(() => {
    withCertificate.close();
    withoutCertificate.close();
  });
  t.equal((await withCertificate.checkHeaders({ authorization: 'Bearer abc' })).status.code, 0);
  await t.rejects(withoutCertificate.checkHeaders({ authorization: 'Bearer abc' }), { code: 14 });
});

t.test('a TCP peer whose address is unavailable is "unknown" and not treated as a Unix socket peer', async t => {
  const server = (address: AddressInfo | string) => ({ address: () => address }) as Server;
  const [tcp, unix] = [server({ address: '127.0.0.1', family: 'IPv4', port: 1 }), server('/run/gatecar.sock')];
  const socket = (remoteAddress?: string) => ({ remoteAddress }) as Socket;
  t.equal(remoteAddress(tcp, socket('192.0.2.1')), '192.0.2.1');
  t.equal(remoteAddress(unix, socket()), '');
  t.equal(remoteAddress(tcp, socket()), 'unknown');
  t.equal(trustedProxies(['unix', '0.0.0.0/0', '::/0']).has('unknown'), false);
});

t.test('a client that rejects the server certificate is reported as server_certificate_rejected', async t => {
  const server = createServer();
  const reasons: string[] = [];
  followHandshakes(server, reason => reasons.push(reason));
  const alerts = ['TLSV1_ALERT_UNKNOWN_CA', 'SSL/TLS_ALERT_BAD_CERTIFICATE', 'SSL/TLS_ALERT_CERTIFICATE_EXPIRED'];
  for (const alert of alerts)
    server.emit('tlsClientError', Object.assign(new Error(), { code: `ERR_SSL_${alert}` }), {});
  t.strictSame(new Set(reasons), new Set(['server_certificate_rejected']));
  server.emit('tlsClientError', new Error(), {});
  t.equal(reasons.at(-1), 'other', 'an error without a code');
});

for (const protocol of ['http/1.1', 'h2'] as const) {
  t.test(`${protocol}: a connection that does not fit into the pool is closed and counted`, async t => {
    for (const tls of [undefined, tlsOf(material('server'))]) {
      let rejected = 0;
      const onRejected = (): void => {
        rejected += 1;
      };
      const port = await LISTENERS[protocol](t, { tls, onRejected, pool: new ConnectionPool(1024) });
      const socket = connectTcp(port, '127.0.0.1').on('error', () => {});
      await once(socket.resume(), 'close');
      t.equal(rejected, 1);
    }
  });
}

t.test('destroying a listener closes a connection during its TLS handshake', async t => {
  const { app, destroy } = createHttpListener({ ...GATEWAY, ...roomyLimits(), tls: tlsOf(material('server')) });
  await app.ready();
  app.server.listen(0, '127.0.0.1');
  await once(app.server, 'listening');
  const accepted = once(app.server, 'connection');
  const socket = connectTcp((app.server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
  await accepted;
  destroy();
  await once(socket.resume(), 'close');
  t.ok(socket.destroyed);
});

t.test('ten concurrent TLS handshakes on a Unix socket all complete', async t => {
  const path = join(await tempDir(t), 'auth.sock');
  const pool = new ConnectionPool(1024 ** 2 * 16);
  const { app, destroy } = createHttpListener({
    ...GATEWAY,
    requests: roomyLimits().requests,
    pool,
    tls: tlsOf(material('server')),
  });
  await app.ready();
  app.server.listen(path);
  await once(app.server, 'listening');
  t.teardown(destroy);
  const open = () => connect({ path, ca: pem('ca.crt'), servername: 'localhost', ALPNProtocols: ['http/1.1'] });
  const sockets = Array.from({ length: 10 }, () => open().on('error', () => {}));
  await Promise.all(sockets.map(socket => once(socket, 'secureConnect')));
  for (const socket of sockets) {
    socket.write('GET /auth HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\n\r\n');
    const [answer] = await once(socket, 'data');
    t.match(String(answer), /^HTTP\/1.1 200/);
  }
  t.equal(pool.size, 10);
  for (const socket of sockets) socket.destroy();
  await until(() => pool.size === 0);
});

t.test('a TLS connection on a Unix socket is not closed for a new one, because its activity is unknown', async t => {
  const server = createServer();
  const pool = new ConnectionPool(CONNECTION_BYTES.http + CONNECTION_BYTES.tls, { minIdleMs: 0 });
  connectionIntake(server, true, { protocol: 'http', pool });
  const sockets = [new Socket(), new Socket()] as const;
  for (const socket of sockets) server.emit('connection', socket);
  t.strictSame(
    sockets.map(({ destroyed }) => destroyed),
    [false, true],
  );
});

t.test('two TLS handshakes start in each turn of the event loop', async t => {
  const server = createServer();
  const started: Socket[] = [];
  server.on('connection', socket => started.push(socket));
  connectionIntake(server, true, { protocol: 'http', pool: new ConnectionPool(1024 ** 2) });
  const sockets = Array.from({ length: 6 }, () => new Socket());
  for (const socket of sockets) server.emit('connection', socket);
  t.equal(started.length, 0);
  sockets[1]?.destroy();
  const counts: number[] = [];
  for (let turns = 0; turns < 3; turns += 1) {
    await new Promise(resolve => setImmediate(resolve));
    counts.push(started.length);
  }
  t.strictSame(counts, [2, 4, 5], 'all except the connection that was closed');
});

t.test('a connection that does not fit into the pool is closed, even if rejections are not counted', async t => {
  const server = createServer();
  connectionIntake(server, false, { protocol: 'http', pool: new ConnectionPool(0) });
  const socket = new Socket();
  server.emit('connection', socket);
  t.ok(socket.destroyed);
});

t.test('over TLS a client that has ended its side still gets its response', async t => {
  const port = await LISTENERS['http/1.1'](t, { ...roomyLimits(), tls: tlsOf(material('server')) });
  const options = { port, host: '127.0.0.1', ca: pem('ca.crt'), servername: 'localhost', allowHalfOpen: true };
  const socket = connect(options as ConnectionOptions);
  t.teardown(() => socket.destroy());
  await once(socket, 'secureConnect');
  socket.end('GET /auth HTTP/1.1\r\nHost: x\r\n\r\n');
  let received = '';
  for await (const chunk of socket) received += chunk;
  t.match(received, /^HTTP\/1\.1 401 /);
});
