/**
 * Adds TLS between gateway and gatecar to a gateway's configuration.
 *
 * @param mutual whether gatecar requires a client certificate from the gateway.
 */
export type WithTls = (text: string, mutual: boolean) => string;

/** Placeholder file paths and server name. The operator replaces them. */
const CA = '/tls/ca.crt';
const CERT = '/tls/tls.crt';
const KEY = '/tls/tls.key';
const NAME = 'gatecar.gatecar.svc';

const WHY = '# Unverified TLS does not stop a client that can redirect connections. To change: the files and the name.';

const REQUEST = 'proxy_pass http://gatecar/auth;';

/** For nginx's `ngx_http_proxy_module`, which does not verify certificates by default. */
export const nginxTls: WithTls = (text, mutual) => {
  const lines = [
    REQUEST.replace('http:', 'https:'),
    WHY,
    'proxy_ssl_verify              on;',
    `proxy_ssl_trusted_certificate ${CA};`,
    `proxy_ssl_name                ${NAME};`,
    'proxy_ssl_server_name         on;',
    ...(mutual ? [`proxy_ssl_certificate         ${CERT};`, `proxy_ssl_certificate_key     ${KEY};`] : []),
  ];
  return text.replace(REQUEST, () => lines.join(`\n${' '.repeat(12)}`));
};

const CLUSTER = '    - name: gatecar\n      connect_timeout: 1s\n';

/** For Envoy: an `UpstreamTlsContext` in the cluster that points to gatecar. */
export const envoyTls: WithTls = (text, mutual) => {
  const lines = [
    WHY,
    'transport_socket:',
    '  name: envoy.transport_sockets.tls',
    '  typed_config:',
    '    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
    `    sni: ${NAME}`,
    '    common_tls_context:',
    ...(mutual
      ? [`      tls_certificates: [{ certificate_chain: { filename: ${CERT} }, private_key: { filename: ${KEY} } }]`]
      : []),
    '      validation_context:',
    `        trusted_ca: { filename: ${CA} }`,
    `        match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: ${NAME} } }]`,
  ];
  return text.replace(CLUSTER, () => CLUSTER + lines.map(line => `      ${line}\n`).join(''));
};

/** Lets Envoy resolve a host name. A cluster without a type accepts only IP addresses. */
export const envoyStrictDns = (text: string): string =>
  text.replace(CLUSTER, () => `${CLUSTER}      type: STRICT_DNS\n`);

const TRANSPORT_END = 'response_header_timeout 5s\n';

/** For Caddy's `transport http`, which verifies certificates by default. */
export const caddyTls: WithTls = (text, mutual) => {
  const lines = [
    WHY,
    'tls',
    `tls_trust_pool file ${CA}`,
    `tls_server_name ${NAME}`,
    ...(mutual ? [`tls_client_auth ${CERT} ${KEY}`] : []),
  ];
  return text.replace(TRANSPORT_END, () => TRANSPORT_END + lines.map(line => `\t\t\t\t${line}\n`).join(''));
};

/** For HAProxy's `server`. HAProxy reads the certificate and its key from one file. */
export const haproxyTls: WithTls = (text, mutual) =>
  text.replace(/^( *)(server gatecar .*)$/m, (_line, indent: string, server: string) => {
    const crt = mutual ? ' crt /tls/tls.pem' : '';
    return `${indent}${WHY}\n${indent}${server} ssl verify required ca-file ${CA} sni str(${NAME}) verifyhost ${NAME}${crt}`;
  });
