import type { Message, Sequence } from './sequence.ts';

const CLIENT = 'client';
const GATEWAY = 'gateway';
const GATECAR = 'gatecar';
const API = 'API server';
const APPLICATION = 'application';

const REQUEST: Message = { from: CLIENT, to: GATEWAY, lines: ['GET /api', 'Authorization: Bearer …'] };
const SUBREQUEST: Message = { from: GATEWAY, to: GATECAR, lines: ['auth subrequest', 'or ext_authz Check'] };
const ALLOW: Message = { from: GATECAR, to: GATEWAY, lines: ['200', 'identity headers'], colour: 'green' };
const FORWARD: Message = { from: GATEWAY, to: APPLICATION, lines: ['GET /api with X-Auth-Request-User, …'] };
const RESPONSE: Message = { from: APPLICATION, to: GATEWAY, lines: ['response'] };
const OK: Message = { from: GATEWAY, to: CLIENT, lines: ['response'], colour: 'green' };
const REVIEW: Message = { from: GATECAR, to: API, lines: ['TokenReview'] };

const INVALID: Message = { from: CLIENT, to: GATEWAY, lines: ['invalid tokens,', '64 connections'] };

/** The sequence diagrams, by the names of their files in `docs/images`. */
export const SEQUENCES: Readonly<Record<string, Sequence>> = {
  hit: {
    title: 'Cache hit: gatecar answers from its cache, and the API server gets no request',
    participants: [CLIENT, GATEWAY, GATECAR, API, APPLICATION],
    steps: [
      REQUEST,
      SUBREQUEST,
      { at: GATECAR, note: ['result is cached', 'policy is evaluated'] },
      ALLOW,
      FORWARD,
      RESPONSE,
      OK,
    ],
  },
  miss: {
    title: 'Cache miss: a new token costs one TokenReview, which concurrent requests share',
    participants: [CLIENT, GATEWAY, GATECAR, API, APPLICATION],
    steps: [
      REQUEST,
      SUBREQUEST,
      { at: GATECAR, note: ['token is not cached', 'JWT pre-check passes', 'queue has a slot'] },
      REVIEW,
      { from: API, to: GATECAR, lines: ['authenticated: true', 'user, groups, pod'], colour: 'green' },
      { at: GATECAR, note: ['result is cached (10 s)', 'policy is evaluated'] },
      ALLOW,
      FORWARD,
      RESPONSE,
      OK,
    ],
  },
  outage: {
    title: 'Outage with stale-if-error: cached tokens still pass, new tokens get 503 and never 401',
    participants: [CLIENT, GATEWAY, GATECAR, API],
    steps: [
      { ...REVIEW, lines: ['probe each second:', 'no answer'], lost: true },
      { heading: 'A token whose cached result has expired (GATECAR_CACHE_STALE_IF_ERROR=5m)' },
      REQUEST,
      SUBREQUEST,
      { at: GATECAR, note: ['API server is down:', 'stale result is served'] },
      { from: GATECAR, to: GATEWAY, lines: ['200, identity headers', 'X-Gatecar-Stale: 42'], colour: 'green' },
      { from: GATEWAY, to: CLIENT, lines: ['response of the application'], colour: 'green' },
      { heading: 'A token that is not cached' },
      REQUEST,
      SUBREQUEST,
      { ...REVIEW, lines: ['TokenReview: no answer'], lost: true },
      { from: GATECAR, to: GATEWAY, lines: ['503 with Retry-After', 'after 3 s, never 401'], colour: 'orange' },
      { from: GATEWAY, to: CLIENT, lines: ['503'], colour: 'orange' },
    ],
  },
  flood: {
    title: 'Flood of invalid tokens: gatecar rejects them without a review, and a new valid token gets its review',
    participants: [CLIENT, GATEWAY, GATECAR, API],
    steps: [
      { heading: 'Invalid tokens: wrong signature, expired, other audience' },
      INVALID,
      SUBREQUEST,
      { at: GATECAR, note: ['JWT pre-check fails', 'rejections are throttled'] },
      { from: GATECAR, to: GATEWAY, lines: ['401, no review'], colour: 'red' },
      { from: GATEWAY, to: CLIENT, lines: ['401'], colour: 'red' },
      { heading: 'A new valid token at the same time' },
      REQUEST,
      SUBREQUEST,
      { at: GATECAR, note: ['valid signature:', 'priority verified'] },
      { ...REVIEW, lines: ['TokenReview at once'] },
      { from: API, to: GATECAR, lines: ['authenticated: true'], colour: 'green' },
      ALLOW,
      { from: GATEWAY, to: CLIENT, lines: ['response of the application'], colour: 'green' },
    ],
  },
};
