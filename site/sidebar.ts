import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Entry {
  readonly text: string;
  readonly link?: string;
  readonly collapsed?: boolean;
  readonly items?: Entry[];
}

/** Returns the sidebar: the pages in the order of `docs/index.md`, and then the project's. */
export function sidebar(root: string): Entry[] {
  const index = readFileSync(join(root, 'docs/index.md'), 'utf8');
  const pages = Array.from(index.matchAll(/^\| \[([^\]]+)\]\(([^)]+)\.md\)/gm), ([, text = '', page]) => {
    const entry = { text, link: `/docs/${page}` };
    return page === 'gateways/index' ? { ...entry, collapsed: true, items: gateways(root) } : entry;
  });
  const project = [
    { text: 'Changelog', link: '/CHANGELOG' },
    { text: 'Contributing', link: '/CONTRIBUTING' },
    { text: 'Helm chart', link: '/charts/gatecar/README' },
    { text: 'Performance', link: '/bench/PERFORMANCE' },
    { text: 'Reporting a vulnerability', link: '/SECURITY' },
  ];
  return [
    { text: 'Documentation', items: [{ text: 'Overview', link: '/' }, ...pages] },
    { text: 'Project', items: project },
  ];
}

function gateways(root: string): Entry[] {
  return globSync('docs/gateways/*.md', { cwd: root })
    .filter(path => !path.endsWith('index.md'))
    .map(path => ({
      text: /^# (.*)$/m.exec(readFileSync(join(root, path), 'utf8'))?.[1] ?? path,
      link: `/${path.replace(/\.md$/, '')}`,
    }))
    .sort((one, other) => one.text.localeCompare(other.text, 'en'));
}
