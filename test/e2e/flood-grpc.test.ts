import t from 'tap';
import { floods } from './fixtures/floods/flood-suite.ts';

// Floods of the gRPC listener by clients without a valid credential. flood-suite.ts describes how
// to run one scenario.

const listener = 'grpc';
const seed = Number(process.env['GATECAR_FLOOD_SEED'] ?? 20_261_130);

t.setTimeout(290_000);

floods(t, { probe: 'grpc' }, flood => {
  flood.test('one connection of 500 checks at a time without end', { listener, attack: ['endlessChecks', {}] });
  flood.test('20 connections of 500 checks at a time without end', {
    listener,
    attack: ['endlessChecks', { connections: 20 }],
  });
  flood.test('200 connections of 100 checks at a time without end', {
    listener,
    attack: ['endlessChecks', { connections: 200, atOnce: 100 }],
  });
  flood.test('35 connections of 1,000 checks each with one invalid token', {
    listener,
    attack: ['checks', { connections: 35, token: 'one' }],
    seconds: 2,
  });
  flood.test('35 connections of 1,000 checks each with a distinct invalid token', {
    listener,
    attack: ['checks', { connections: 35, token: 'distinct' }],
    seconds: 2,
  });
  flood.test('100 connections of 100 checks each with 15 KB of headers and an invalid token', {
    listener,
    attack: ['checks', { connections: 100, calls: 100, padding: 15_000, token: 'one' }],
    seconds: 2,
  });
  flood.test('200 connections of 1,000 checks each that leave no window for a response', {
    listener,
    attack: ['checks', { connections: 200, read: false }],
    seconds: 2,
  });
  flood.test('40 connections of 1,000 unfinished checks each', {
    listener,
    attack: ['unfinished', { connections: 40 }],
    seconds: 2,
  });
  flood.test('100 connections of 100 unfinished checks each with 15 KB of headers', {
    listener,
    attack: ['unfinished', { connections: 100, calls: 100, padding: 15_000 }],
    seconds: 2,
  });
  flood.test('100 connections of 60 unfinished checks each with 1,000 bytes of a long message', {
    listener,
    attack: ['unfinished', { connections: 100, calls: 60, bytes: 1_000, length: 4_000_000 }],
  });
  flood.test('20 connections that reset each stream at once', {
    listener,
    attack: ['rapidReset', { connections: 20 }],
  });
  flood.test('20 connections with a header block without end', {
    listener,
    attack: ['continuations', { connections: 20 }],
  });
  flood.test('20 connections with empty CONTINUATION frames without end', {
    listener,
    attack: ['continuations', { connections: 20, bytes: 0 }],
  });
  flood.test('20 connections of calls with 15 KB of headers one after the other', {
    listener,
    attack: ['headerFlood', { connections: 20 }],
  });
  flood.test('20 connections of calls with 64 KB of headers one after the other', {
    listener,
    attack: ['headerFlood', { connections: 20, bytes: 64_000 }],
  });
  for (const frame of ['ping', 'settings', 'priority', 'window update', 'unknown frame', 'empty data'] as const) {
    flood.test(`20 connections of ${frame} frames without end`, {
      listener,
      attack: ['frames', { connections: 20, frame }],
      seconds: 1,
    });
  }
  flood.test('200 connections of PING frames whose responses are never read', {
    listener,
    attack: ['frames', { connections: 200, frame: 'ping', read: false }],
  });
  flood.test('10,000 idle gRPC connections', { listener, attack: ['idle', { connections: 10_000 }] });
  t.comment(`GATECAR_FLOOD_SEED=${seed}`);
  flood.test('200 kinds of gRPC abuse by the generator', {
    listener,
    attack: ['grpcAbuse', { seed, kinds: 200 }],
    seconds: 2,
  });
});
