import type { JsonWebKey } from 'node:crypto';
import { type FakeApiServer, startFakeApiServer } from '../src/dev/fake-api-server.ts';
import { type TokenIssuer, tokenIssuer } from '../src/dev/token-issuer.ts';
import type { Bench } from './scenario.ts';

/** The embedded fake API server, and gatecar's settings for it. */
export interface BenchAuthority {
  readonly settings: Readonly<Record<string, string>>;
  /** Reviews received so far, without the one of the readiness probe. */
  readonly reviews: number;
  readonly token: string;
  /** The signing key; `undefined` if the issuer signs nothing. */
  readonly key: JsonWebKey | undefined;
}

const SUBJECT = {
  namespace: 'default',
  serviceAccount: 'my-app',
  audiences: ['bindcar'],
  pod: 'my-app-0',
  node: 'node-0',
};

/** Starts the fake API server in this process; it stops when the scenario ends. */
export async function benchAuthority(bench: Bench, issuer: TokenIssuer = tokenIssuer()): Promise<BenchAuthority> {
  const authority: FakeApiServer = await startFakeApiServer({ issuer });
  bench.teardown(() => authority.close());
  return {
    settings: { GATECAR_KUBE_API_URL: authority.url },
    get reviews() {
      return authority.reviews - 1;
    },
    token: issuer.issue(SUBJECT),
    key: issuer.jwks.keys[0] as JsonWebKey | undefined,
  };
}
