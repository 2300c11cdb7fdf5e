import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';

const EXAMPLES = join(import.meta.dirname, '../../examples');

/** The gateways with a page, as folders of `examples/` and as names in a sentence. */
export const GATEWAYS: Readonly<Record<string, string>> = {
  nginx: 'nginx',
  'envoy-http': 'Envoy over HTTP',
  'envoy-grpc': 'Envoy over gRPC',
  caddy: 'Caddy',
  haproxy: 'HAProxy',
  traefik: 'Traefik',
  istio: 'Istio',
  'envoy-gateway': 'Envoy Gateway',
  contour: 'Contour',
  'gateway-api': 'the Gateway API',
  apisix: 'Apache APISIX',
  'f5-nginx': 'the F5 NGINX Ingress Controller',
  'ingress-nginx': 'ingress-nginx',
};

const LANGUAGES: Readonly<Record<string, string>> = { '.conf': 'nginx', '.lua': 'lua', '.yaml': 'yaml' };

const READ_NEXT = `## Read next

- [Settings that fail open](index.md#settings-that-make-any-external-auth-fail-open): test yours.
- [Identity headers](../identity-headers.md): what the application receives.
- [TLS between gateway and gatecar](../operations.md#tls-between-gateway-and-gatecar).
`;

/** Returns the pages of all gateways, by their paths in the project. */
export async function gatewayPages(): Promise<Readonly<Record<string, string>>> {
  const pages = Object.entries(GATEWAYS).map(
    async ([folder, name]) => [`docs/gateways/${folder}.md`, await gatewayPage(folder, name)] as const,
  );
  return Object.fromEntries(await Promise.all(pages));
}

async function gatewayPage(folder: string, name: string): Promise<string> {
  const readme = await readFile(join(EXAMPLES, folder, 'README.md'), 'utf8');
  const [title = '', ...rest] = readme.split('\n');
  const files = globSync('*', { cwd: join(EXAMPLES, folder) })
    .filter(file => file !== 'README.md')
    .sort();
  const parts = [
    `<!-- Generated from examples/${folder} by npm run generate. -->`,
    title,
    `This page answers: how do I connect ${name} to gatecar, and what must stay as it is?`,
    withLinks(rest.join('\n').trim(), folder, files),
    ...(await Promise.all(files.map(file => section(folder, file)))),
    READ_NEXT,
  ];
  return parts.join('\n\n');
}

/** Rewrites links of the example's README to links of the page in `docs/gateways/`. */
function withLinks(text: string, folder: string, files: readonly string[]): string {
  return text.replaceAll(/\]\((?!https?:)([^)#]+)/g, (_, target: string) => {
    if (files.includes(target)) return `](#${target.toLowerCase().replaceAll('.', '')}`;
    const other = /^\.\.\/([\w.-]+)$/.exec(target)?.[1];
    if (other === 'README.md') return '](index.md';
    if (other !== undefined && Object.hasOwn(GATEWAYS, other)) return `](${other}.md`;
    return `](../../${join('examples', folder, target)}`;
  });
}

async function section(folder: string, file: string): Promise<string> {
  const text = await readFile(join(EXAMPLES, folder, file), 'utf8');
  const link = `[examples/${folder}/${file}](../../examples/${folder}/${file})`;
  return `## ${file}\n\nThis is ${link}.\n\n\`\`\`${LANGUAGES[extname(file)] ?? 'text'}\n${text.trimEnd()}\n\`\`\``;
}
