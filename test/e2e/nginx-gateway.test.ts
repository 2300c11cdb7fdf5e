import t from 'tap';
import { gatewaySuite } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';

// `examples/nginx/nginx.conf` with other addresses must pass the gateway suite.

t.setTimeout(startLimitMs);

t.test('nginx passes the gateway suite', { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) }, async t => {
  await gatewaySuite(
    t,
    async (t, { gatecar, application }) =>
      startNginx(t, await exampleConfig([`http://${gatecar}`], `http://${application}`)),
    {
      // The page of the example's error_page. By itself auth_request turns both into a 500.
      downStatus: 503,
      outageStatus: 503,
      // auth_request passes on only the status and the challenge.
      passesReason: false,
      // nginx rejects the path: outside of the root, invalid percent-encoding, a NUL.
      rejectedPaths: ['/..%2f', '/%zz', '/%00'],
    },
  );
});
