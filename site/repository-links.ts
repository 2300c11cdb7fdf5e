import { existsSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { MarkdownRenderer } from 'vitepress';

/** What VitePress passes to the renderer about the page. */
interface Environment {
  readonly path: string;
}

const IS_PAGE = /^(docs\/.*|[A-Z]+|bench\/PERFORMANCE|charts\/gatecar\/README)\.md$/;

/**
 * Makes relative links to files that are no pages point to the repository. Without the address of a
 * repository, only their text is left.
 *
 * @throws if the file does not exist.
 */
export function repositoryLinks(markdown: MarkdownRenderer, root: string, repository: string | undefined): void {
  const { link_open: open, link_close: close } = markdown.renderer.rules;
  let isOmitted = false;

  markdown.renderer.rules['link_open'] = (tokens, index, options, env: Environment, self) => {
    const token = tokens[index];
    const href = token?.attrGet('href') ?? '';
    isOmitted = false;
    if (token !== undefined && !/^([a-z]+:|#|\/)/.test(href)) {
      const target = resolveLink(href, env.path, root);
      isOmitted = !target.isPage && repository === undefined;
      if (isOmitted) return '';
      const kind = statSync(join(root, target.path)).isDirectory() ? 'tree' : 'blob';
      token.attrSet('href', target.isPage ? target.href : `${repository}/${kind}/main/${target.path}${target.hash}`);
    }
    return open?.(tokens, index, options, env, self) ?? self.renderToken(tokens, index, options);
  };

  markdown.renderer.rules['link_close'] = (tokens, index, options, env, self) => {
    if (isOmitted) return '';
    return close?.(tokens, index, options, env, self) ?? self.renderToken(tokens, index, options);
  };
}

interface Target {
  /** Relative to the root of the project. */
  readonly path: string;
  readonly hash: string;
  readonly isPage: boolean;
  /** The link of a page to a page. */
  readonly href: string;
}

function resolveLink(href: string, page: string, root: string): Target {
  const [file = '', fragment] = href.split('#');
  const hash = fragment === undefined ? '' : `#${fragment}`;
  let path = relative(root, join(dirname(page), decodeURI(file)));
  if (!existsSync(join(root, path))) throw new Error(`${relative(root, page)}: dead link ${href}`);
  if (statSync(join(root, path)).isDirectory() && IS_PAGE.test(`${path}/README.md`)) path = `${path}/README.md`;
  // The README is the site's first page.
  const name = path === 'README.md' ? 'index.md' : path;
  const link = relative(dirname(page), join(root, name));
  return { path, hash, isPage: IS_PAGE.test(path), href: `${link.startsWith('.') ? '' : './'}${link}${hash}` };
}
