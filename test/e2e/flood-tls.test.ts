import t from 'tap';
import { floods } from './fixtures/floods/flood-suite.ts';

// Floods of the auth and gRPC listeners over TLS. flood-suite.ts describes how to run one scenario.

t.setTimeout(280_000);

floods(t, { tls: true }, flood => {
  flood.test('6,400 TLS handshakes on the auth listener that stop after the ClientHello', {
    listener: 'auth',
    attack: ['halfHandshakes', { connections: 6_400 }],
    seconds: 2,
  });
  flood.test('6,400 TLS handshakes on the gRPC listener that stop after the ClientHello', {
    listener: 'grpc',
    attack: ['halfHandshakes', { connections: 6_400 }],
    seconds: 2,
  });
  flood.test('6,400 TLS handshakes that stop within the ClientHello', {
    listener: 'auth',
    attack: ['halfHandshakes', { connections: 6_400, share: 0.5 }],
  });
  flood.test('4,000 idle TLS connections', {
    listener: 'auth',
    attack: ['idle', { connections: 4_000 }],
    seconds: 2,
  });
  flood.test('20 clients that make one TLS handshake after the other', {
    listener: 'auth',
    attack: ['handshakes', { connections: 20 }],
  });
  flood.test('20 clients that renegotiate TLS 1.2', {
    listener: 'auth',
    attack: ['renegotiations', { connections: 20 }],
  });
  flood.test('200 clients that send bytes that are not TLS, or a record without an end', {
    listener: 'auth',
    attack: ['brokenRecords', { connections: 200 }],
  });
  flood.test('20 TLS connections that pipeline GET /auth without end', {
    listener: 'auth',
    attack: ['pipeline', { connections: 20 }],
  });
  flood.test('200 TLS connections that pipeline GET /auth and never read a response', {
    listener: 'auth',
    attack: ['pipeline', { connections: 200, read: false }],
    seconds: 2,
  });
  flood.test('20 TLS connections of 500 gRPC checks at a time without end', {
    listener: 'grpc',
    attack: ['endlessChecks', { connections: 20 }],
  });
  flood.test('35 TLS connections of 1,000 gRPC checks each with one invalid token', {
    listener: 'grpc',
    attack: ['checks', { connections: 35, token: 'one' }],
    seconds: 2,
  });
});
