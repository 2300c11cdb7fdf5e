import t from 'tap';
import { floods } from './fixtures/floods/flood-suite.ts';

// Floods of the auth listener by clients without a valid credential. flood-suite.ts describes how
// to run one scenario.

const listener = 'auth';

t.setTimeout(280_000);

floods(t, {}, flood => {
  flood.test('1.3 MB of GET /auth at once on one connection', {
    listener,
    attack: ['pipeline', { bytes: 1_300_000 }],
  });
  flood.test('one connection that pipelines GET /auth without end', { listener, attack: ['pipeline', {}] });
  flood.test('one connection that waits for its first response and then pipelines GET /auth/x without end', {
    listener,
    attack: ['pipeline', { path: '/auth/x', waitForFirst: true }],
  });
  flood.test('20 connections that pipeline GET /auth without end', {
    listener,
    attack: ['pipeline', { connections: 20 }],
  });
  flood.test('20 connections that pipeline GET /nothing without end', {
    listener,
    attack: ['pipeline', { path: '/nothing', connections: 20 }],
  });
  flood.test('200 connections that pipeline GET /auth without end', {
    listener,
    attack: ['pipeline', { connections: 200 }],
  });
  flood.test('200 connections that pipeline GET /auth and never read a response', {
    listener,
    attack: ['pipeline', { connections: 200, read: false }],
    seconds: 2,
  });
  flood.test('6,000 half request heads', { listener, attack: ['partialHeads', { connections: 6_000 }] });
  flood.test('3,000 half request heads of 60 KB', {
    listener,
    attack: ['partialHeads', { connections: 3_000, bytes: 60_000 }],
    seconds: 2,
  });
  flood.test('1,000 connections that send a body byte by byte', {
    listener,
    attack: ['slowBodies', { connections: 1_000 }],
  });
  flood.test('1,000 connections that send a chunked body byte by byte', {
    listener,
    attack: ['slowBodies', { connections: 1_000, chunked: true }],
  });
  flood.test('10,000 idle connections', { listener, attack: ['idle', { connections: 10_000 }] });
  flood.test('220 connections of 256 requests each with one invalid token', {
    listener,
    attack: ['waiting', { connections: 220, requests: 256 }],
    seconds: 2,
  });
  flood.test('220 connections of 256 requests each with a distinct invalid token', {
    listener,
    attack: ['waiting', { connections: 220, requests: 256, distinct: true }],
    seconds: 2,
  });
  flood.test('40 connections of 256 requests each with an invalid token and a head of 60 KB', {
    listener,
    attack: ['waiting', { connections: 40, requests: 256, padding: 60_000 }],
    seconds: 2,
  });
  flood.test('20 connections that send bytes that are not HTTP, one after the other', {
    listener,
    attack: ['nonHttpBytes', { connections: 20 }],
  });
});
