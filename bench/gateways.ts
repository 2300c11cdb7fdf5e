import { envoyExample, startEnvoy } from '../test/e2e/fixtures/support/envoy.ts';
import { exampleConfig, replaceOnce, startNginx } from '../test/e2e/fixtures/support/nginx.ts';
import type { Bench } from './scenario.ts';

/**
 * Starts a gateway with the configuration of its example, in front of an auth service and an
 * application, each `host:port`.
 *
 * @returns its base URL.
 */
export type StartGateway = (bench: Bench, decider: string, application: string) => Promise<string>;

export const nginx: StartGateway = async (bench, decider, application) => {
  const config = await exampleConfig([`http://${decider}`], `http://${application}`);
  return (await startNginx(bench, withoutAccessLog(config))).url;
};

export function envoy(example: 'envoy-http' | 'envoy-grpc'): StartGateway {
  return async (bench, decider, application) => {
    const neighbours = { gatecar: decider, grpc: decider, application };
    return (await startEnvoy(bench, await envoyExample(example), neighbours)).url;
  };
}

/** Starts an application that answers every request immediately. @returns `host:port`. */
export async function startApplication(bench: Bench): Promise<string> {
  const config = 'events {} http { server { listen 8080; location / { return 200 "ok"; } } }';
  return new URL((await startNginx(bench, withoutAccessLog(config))).url).host;
}

/** Turns off the access log, because the fixture writes a line for each request. */
function withoutAccessLog(config: string): string {
  return replaceOnce(config, 'listen 8080;', 'listen 8080; access_log off;');
}
