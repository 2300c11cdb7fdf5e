import t from 'tap';
import { gatewaySuite } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';

// `examples/nginx/nginx.conf`, addresses aside, held to what holds for every gateway.

t.setTimeout(startLimitMs);

t.test('nginx', { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) }, async t => {
  await gatewaySuite(
    t,
    async (t, { gatecar, application }) =>
      startNginx(t, await exampleConfig([`http://${gatecar}`], `http://${application}`)),
    {
      // The page of the example's own error_page: auth_request by itself makes a 500 of both.
      downStatus: 503,
      outageStatus: 503,
      // Of what the auth server says, auth_request passes on status and challenge alone.
      tellsWhy: false,
      // Not a valid path for nginx: out of the root, no percent-encoding, a NUL.
      refusedPaths: ['/..%2f', '/%zz', '/%00'],
    },
  );
});
