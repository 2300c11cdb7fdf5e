import t from 'tap';
import { floods } from './fixtures/floods/flood-suite.ts';

// Floods of the ops listener, which is plain HTTP and needs no credential. How to run one
// scenario: flood-suite.ts.

const listener = 'ops';

t.setTimeout(280_000);

floods(t, {}, flood => {
  flood.test('68 KB of GET /metrics at once on one ops connection', {
    listener,
    attack: ['pipeline', { path: '/metrics', bytes: 68_000 }],
    seconds: 2,
  });
  flood.test('one ops connection that pipelines GET /metrics without end', {
    listener,
    attack: ['pipeline', { path: '/metrics', waitForFirst: true }],
  });
  flood.test('20 ops connections that pipeline GET /livez without end', {
    listener,
    attack: ['pipeline', { path: '/livez', connections: 20 }],
  });
  flood.test('20 ops connections that pipeline GET /readyz?verbose without end', {
    listener,
    attack: ['pipeline', { path: '/readyz?verbose', connections: 20 }],
  });
  flood.test('20 ops connections that pipeline GET /nothing without end', {
    listener,
    attack: ['pipeline', { path: '/nothing', connections: 20 }],
  });
  flood.test('200 ops connections that pipeline GET /metrics without end', {
    listener,
    attack: ['pipeline', { path: '/metrics', connections: 200 }],
  });
  flood.test('200 ops connections that pipeline GET /metrics and never read a response', {
    listener,
    attack: ['pipeline', { path: '/metrics', connections: 200, read: false }],
    seconds: 2,
  });
  flood.test('6,000 half request heads on the ops listener', {
    listener,
    attack: ['partialHeads', { path: '/metrics', connections: 6_000 }],
  });
  flood.test('2,000 half request heads of 14 KB on the ops listener', {
    listener,
    attack: ['partialHeads', { path: '/metrics', connections: 2_000, bytes: 14_000 }],
  });
  flood.test('1,000 ops connections that send a body byte by byte', {
    listener,
    attack: ['slowBodies', { path: '/metrics', connections: 1_000 }],
  });
  flood.test('10,000 idle ops connections', { listener, attack: ['idle', { connections: 10_000 }] });
});
