import t from 'tap';
import { at, exampleDocuments } from '../fixtures/examples.ts';
import { gatewaySuite } from './fixtures/support/gateway-suite.ts';
import type { Neighbours } from './fixtures/support/gateway-under-test.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { nginxMissing, startNginx } from './fixtures/support/nginx.ts';

// Runs the snippets of `examples/f5-nginx` in nginx, between the lines that F5's controller writes
// around them. Those lines follow the controller's templates for a VirtualServer and a Policy
// externalAuth. The controller itself does not run.

const [policy, virtualServer] = exampleDocuments('f5-nginx', 'virtual-server.yaml');

function controllerConfig({ gatecar, application }: Neighbours): string {
  return `
events {}
http {
  map $http_upgrade $vs_connection_header { default upgrade; '' $default_connection_header; }
  upstream auth { server ${gatecar}; }
  upstream app { server ${application}; }
  server {
    listen 8080;
    location = /_external_auth {
      internal;
      ${at(policy, 'spec.externalAuth.authSnippets')}
      set $default_connection_header close;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $vs_connection_header;
      proxy_pass_request_body off;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header Host $host;
      proxy_set_header Content-Length "0";
      proxy_pass http://auth${at(policy, 'spec.externalAuth.authURI')};
    }
    location / {
      ${at(virtualServer, 'spec.routes[0].location-snippets')}
      auth_request /_external_auth;
      client_max_body_size ${at(virtualServer, 'spec.upstreams[0].client-max-body-size')};
      set $default_connection_header close;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $vs_connection_header;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header Host $host;
      proxy_pass http://app;
    }
  }
}`;
}

t.setTimeout(startLimitMs);

t.test(
  'the F5 snippets pass the gateway suite',
  { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) },
  async t => {
    await gatewaySuite(t, (t, neighbours) => startNginx(t, controllerConfig(neighbours)), {
      // auth_request turns every status other than 2xx, 401 and 403 into a 500.
      downStatus: 500,
      outageStatus: 500,
      // auth_request passes on only the status and the challenge.
      passesReason: false,
      acceptsUploads: true,
      // nginx rejects the path: outside of the root, invalid percent-encoding, a NUL.
      rejectedPaths: ['/..%2f', '/%zz', '/%00'],
    });
  },
);
