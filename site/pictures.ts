import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { MarkdownRenderer } from 'vitepress';

interface Environment {
  readonly path: string;
}

const PICTURE = /<picture>.*?<img src="([^"]+)"\s+alt="([^"]*)".*?<\/picture>/gs;

/**
 * Shows a picture that has a dark file in the form that fits the site's theme. The theme is chosen
 * on the page, so `prefers-color-scheme` in a `<picture>` would not fit.
 */
export function pictures(markdown: MarkdownRenderer): void {
  const { image, html_block: html } = markdown.renderer.rules;

  markdown.renderer.rules['image'] = (tokens, index, options, env: Environment, self) => {
    const token = tokens[index];
    const src = token?.attrGet('src') ?? '';
    const dark = src.replace(/\.svg$/, '-dark.svg');
    if (dark === src || !existsSync(join(dirname(env.path), dark))) {
      return image?.(tokens, index, options, env, self) ?? self.renderToken(tokens, index, options);
    }
    return inBothThemes(src, markdown.utils.escapeHtml(token?.content ?? ''));
  };

  markdown.renderer.rules['html_block'] = (tokens, index, options, env: Environment, self) => {
    const block = html?.(tokens, index, options, env, self) ?? tokens[index]?.content ?? '';
    return block.replaceAll(PICTURE, (_, src: string, alt: string) => inBothThemes(src, alt));
  };
}

function inBothThemes(src: string, alt: string): string {
  const path = src.startsWith('.') ? src : `./${src}`;
  const words = alt.replaceAll(/\s+/g, ' ');
  const images = ['light', 'dark'].map(theme => {
    const file = theme === 'light' ? path : path.replace(/\.svg$/, '-dark.svg');
    return `<img class="${theme}-only" src="${file}" alt="${words}">`;
  });
  // A phone scrolls a picture, so a keyboard must reach it.
  return `<span class="picture" tabindex="0">${images.join('')}</span>`;
}
