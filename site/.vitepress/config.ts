import { join } from 'node:path';
import { defineConfig, type Plugin } from 'vitepress';
import { pictures } from '../pictures.ts';
import { repositoryLinks } from '../repository-links.ts';
import { sidebar } from '../sidebar.ts';

const ROOT = join(import.meta.dirname, '../..');

/** The address of the source, for links to files that are no pages. GitHub Actions sets both. */
const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
const repository = GITHUB_REPOSITORY && `${GITHUB_SERVER_URL ?? 'https://github.com'}/${GITHUB_REPOSITORY}`;

/** Pages are outside this folder and do not find its packages by themselves. */
const vueForPages: Plugin = {
  name: 'vue-for-pages',
  enforce: 'pre',
  resolveId(id, importer) {
    const isPage = importer?.split('?')[0]?.endsWith('.md');
    return isPage && /^vue($|\/)/.test(id) ? this.resolve(id, import.meta.filename, { skipSelf: true }) : undefined;
  },
};

/** Returns the anchor of a heading as GitHub does, so that links work in both. */
function githubSlug(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, '')
    .replaceAll(' ', '-');
}

// biome-ignore lint/style/noDefaultExport: VitePress requires one
export default defineConfig({
  title: 'gatecar',
  description: 'Authentication of ServiceAccount tokens for Kubernetes gateways',
  lang: 'en',
  base: process.env['SITE_BASE'] ?? '/',
  cleanUrls: false,
  // The pages are the project's own files, at their own paths: their relative links work.
  srcDir: ROOT,
  srcExclude: [
    'bench/RESULTS.md',
    '{examples,node_modules,rbac,scripts,site,src,test}/**',
    '.*/**',
    'dist/**',
    'release/**',
    'coverage/**',
    'charts/**/files/**',
  ],
  rewrites: { 'README.md': 'index.md' },
  vite: { plugins: [vueForPages], build: { assetsInlineLimit: 0 } },
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: {
    anchor: { slugify: githubSlug },
    // The default themes have too little contrast on the site's background.
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    config: markdown => {
      repositoryLinks(markdown, ROOT, repository);
      pictures(markdown);
    },
  },
  themeConfig: {
    nav: [
      { text: 'Documentation', link: '/docs/' },
      { text: 'Changelog', link: '/CHANGELOG' },
      { text: 'Security', link: '/SECURITY' },
    ],
    sidebar: sidebar(ROOT),
    outline: [2, 3],
    search: { provider: 'local' },
    ...(repository && { socialLinks: [{ icon: 'github' as const, link: repository }] }),
  },
});
