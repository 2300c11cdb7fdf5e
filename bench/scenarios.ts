import type { Scenario } from './scenario.ts';
import { cachedGrpc } from './scenarios/cached-grpc.ts';
import { cachedHttp } from './scenarios/cached-http.ts';
import { flood } from './scenarios/flood.ts';
import { gateways } from './scenarios/gateways.ts';
import { invalidTokens } from './scenarios/invalid-tokens.ts';
import { manyTokens } from './scenarios/many-tokens.ts';
import { memory } from './scenarios/memory.ts';
import { miss } from './scenarios/miss.ts';
import { soak } from './scenarios/soak.ts';

/** All scenarios, in the order of the table. */
export const SCENARIOS: readonly Scenario[] = [
  cachedHttp,
  invalidTokens,
  cachedGrpc,
  miss,
  manyTokens,
  gateways,
  memory,
  flood,
  soak,
];
