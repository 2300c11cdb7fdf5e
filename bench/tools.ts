import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { ADMIN_PATH, gatewayBinary } from '../test/e2e/fixtures/support/gateway-binaries.ts';
import { kubeApiServerMissing } from '../test/e2e/fixtures/support/kube-apiserver.ts';

/** External programs that scenarios run. */
export type Tool = 'taskset' | 'tar' | 'wrk' | 'h2load' | 'nginx' | 'envoy' | 'kube-apiserver';

const PACKAGES: Readonly<Record<Exclude<Tool, 'kube-apiserver'>, string>> = {
  taskset: 'util-linux',
  tar: 'tar',
  wrk: 'wrk',
  h2load: 'nghttp2-client',
  nginx: 'nginx-light',
  envoy: 'Envoy 1.40',
};

const KUBERNETES = join(import.meta.dirname, '../test/e2e/fixtures/kube-apiserver/go.mod');

/** Returns how to install the first missing tool, `install: …`; `undefined` if all are present. */
export function missing(tools: readonly Tool[]): string | undefined {
  for (const tool of tools) {
    if (tool === 'kube-apiserver') {
      const why = kubeApiServerMissing();
      if (why !== undefined) return why;
    } else if (path(tool) === undefined) {
      return `install: ${PACKAGES[tool]} (scripts/install-e2e does)`;
    }
  }
  return undefined;
}

/** Describes the machine for readers of the figures, without its host name. */
export function machine(): string {
  const memory = `${Math.round(totalmem() / 1024 ** 3)} GiB`;
  return `${cpus().length} × ${cpus()[0]?.model.trim()}, ${memory}, Linux ${release().split('-')[0]}`;
}

/** Returns `name version` of Node.js and of these tools. */
export function versions(tools: readonly Tool[]): string[] {
  const named = tools.filter(tool => tool !== 'taskset' && tool !== 'tar').map(tool => `${tool} ${version(tool)}`);
  return [`Node.js ${process.versions.node}`, ...new Set(named)];
}

function version(tool: Tool): string {
  if (tool === 'kube-apiserver') return /k8s\.io\/kubernetes v(\S+)/.exec(readFileSync(KUBERNETES, 'utf8'))?.[1] ?? '';
  const { stdout, stderr } = spawnSync(path(tool) ?? tool, [tool === 'wrk' || tool === 'nginx' ? '-v' : '--version'], {
    encoding: 'utf8',
  });
  return /\d+\.\d+\.\d+(?=\D)/.exec(`${stdout}${stderr}`)?.[0] ?? '';
}

function path(tool: Exclude<Tool, 'kube-apiserver'>): string | undefined {
  if (tool === 'nginx' || tool === 'envoy') return gatewayBinary(tool);
  return (
    spawnSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8', env: { PATH: ADMIN_PATH } }).stdout.trim() ||
    undefined
  );
}
