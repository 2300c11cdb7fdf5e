import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import puppeteer, { type Page } from 'puppeteer-core';
import t from 'tap';
import { serveFolder } from './server.ts';

// The built site in a real browser. SITE_SCREENSHOTS names a folder for screenshots of each page.

const DIST = join(import.meta.dirname, '.vitepress/dist');
const ROOT = join(import.meta.dirname, '..');
const BASE = process.env['SITE_BASE'] ?? '/';
const SCREENSHOTS = process.env['SITE_SCREENSHOTS'];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const MIN_FONT_PIXELS = 12;

const VIEWS = [
  { name: 'phone, light', width: 390, height: 844, scheme: 'light' },
  { name: 'desktop, dark', width: 1440, height: 900, scheme: 'dark' },
] as const;

const pages = globSync('**/*.html', { cwd: DIST }).sort();
const read = (page: string): string => readFileSync(join(DIST, page), 'utf8');

t.test('the site has the pages of the project', async t => {
  for (const page of ['index.html', 'docs/index.html', 'docs/configuration.html', 'SECURITY.html', 'CHANGELOG.html']) {
    t.ok(pages.includes(page), page);
  }
  const sources = globSync('docs/**/*.md', { cwd: ROOT });
  for (const source of sources) t.ok(pages.includes(source.replace(/\.md$/, '.html')), source);
});

t.test('every internal link leads to a page, and its anchor to a place on it', async t => {
  const ids = new Map(
    pages.map(page => [page, new Set(Array.from(read(page).matchAll(/ id="([^"]+)"/g), found => found[1]))]),
  );
  let count = 0;
  for (const page of pages) {
    const broken: string[] = [];
    for (const [, href = ''] of read(page).matchAll(/<a [^>]*href="([^"]+)"/g)) {
      if (/^[a-z]+:/.test(href)) continue;
      const { pathname, hash } = new URL(href, `http://site${BASE}${page}`);
      const path = decodeURIComponent(pathname.slice(BASE.length)).replace(/(^|\/)$/, '$1index.html');
      const target = ids.has(`${path}.html`) ? `${path}.html` : path;
      const isThere = pathname.startsWith(BASE) && (ids.has(target) || existsSync(join(DIST, target)));
      const anchor = decodeURIComponent(hash.slice(1));
      if (!isThere || (anchor !== '' && !ids.get(target)?.has(anchor))) broken.push(href);
      count += 1;
    }
    t.strictSame(broken, [], page);
  }
  t.ok(count > 500, `${count} links`);
});

t.test('in a browser', async t => {
  const { origin, close } = await serveFolder(DIST, BASE);
  const browser = await puppeteer.launch({ executablePath: chromium(), args: ['--no-sandbox', '--disable-gpu'] });
  t.teardown(async () => {
    await browser.close();
    close();
  });
  const address = (page: string): string => `${origin}${BASE}${page}`;

  for (const view of VIEWS) {
    await t.test(`every page is without errors and accessible: ${view.name}`, async t => {
      const tab = await browser.newPage();
      const errors: string[] = [];
      tab.on('pageerror', error => errors.push(String(error)));
      tab.on('console', message => ['error', 'warn'].includes(message.type()) && errors.push(message.text()));
      tab.on('response', response => response.status() >= 400 && errors.push(`${response.status()} ${response.url()}`));
      await tab.setViewport(view);
      await tab.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: view.scheme }]);
      for (const page of pages.filter(name => name !== '404.html')) {
        errors.length = 0;
        await tab.goto(address(page), { waitUntil: 'networkidle0' });
        const overflow = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        const findings = await seriousFindings(tab);
        t.strictSame({ errors, overflow, findings }, { errors: [], overflow: 0, findings: [] }, page);
        await screenshot(tab, `${page}-${view.name}`);
      }
      await tab.close();
    });
  }

  await t.test('the search finds a page by its words', async t => {
    const tab = await browser.newPage();
    await tab.setViewport(VIEWS[1]);
    await tab.goto(address('index.html'), { waitUntil: 'networkidle0' });
    await tab.click('.DocSearch-Button, .VPNavBarSearch button');
    await (await tab.waitForSelector('#localsearch-input'))?.type('stale-if-error');
    await tab.waitForSelector('#localsearch-list [role=option] a');
    const found = await tab.$$eval('#localsearch-list [role=option] a', links => links.map(link => link.href));
    t.ok(
      found.some(href => href.includes('how-it-decides')),
      found.join(' '),
    );
    await screenshot(tab, 'search');
    await tab.close();
  });

  await t.test('the switch changes the theme and the pictures', async t => {
    const tab = await browser.newPage();
    await tab.setViewport(VIEWS[1]);
    await tab.goto(address('index.html'), { waitUntil: 'networkidle0' });
    const shown = () =>
      tab.$$eval('.picture img', all => all.filter(one => one.clientWidth > 0).map(one => one.className));
    t.strictSame(await shown(), ['light-only']);
    await tab.click('.VPSwitchAppearance');
    t.strictSame(await shown(), ['dark-only']);
    await tab.close();
  });

  await t.test('the pictures are readable at their width: no text is cut, small or over another', async t => {
    const tab = await browser.newPage();
    for (const file of globSync('docs/**/*.svg', { cwd: ROOT }).sort()) {
      t.strictSame(await unreadableTexts(tab, readFileSync(join(ROOT, file), 'utf8')), [], file);
    }
    await tab.close();
  });
});

/** Returns the findings of axe that are serious or critical. */
async function seriousFindings(tab: Page): Promise<string[]> {
  await tab.evaluate(AXE);
  return tab.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run({ resultTypes: ['violations'] });
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 200)}`));
  });
}

/** Returns the texts of an SVG that leave the picture, are small, or overlap another text. */
async function unreadableTexts(tab: Page, svg: string): Promise<string[]> {
  await tab.setContent(`<body style="margin:0">${svg}</body>`);
  return tab.evaluate(minimum => {
    const frame = document.querySelector('svg')?.getBoundingClientRect() ?? new DOMRect();
    const texts = Array.from(document.querySelectorAll('svg text'), element => ({
      words: element.textContent ?? '',
      size: Number.parseFloat(getComputedStyle(element).fontSize),
      area: element.getBoundingClientRect(),
    }));
    return texts.flatMap(({ words, size, area }, place) => [
      ...(size < minimum ? [`small: ${words}`] : []),
      ...(area.left < 2 || area.right > frame.width - 2 || area.bottom > frame.bottom ? [`cut: ${words}`] : []),
      ...texts
        .slice(place + 1)
        .filter(({ area: other }) => {
          const [x, y] = [Math.min(area.right, other.right), Math.min(area.bottom, other.bottom)];
          // The box of a line is some pixels higher than its letters, and its width is rounded.
          return x - Math.max(area.left, other.left) > 1 && y - Math.max(area.top, other.top) > 4;
        })
        .map(other => `over another: ${words} / ${other.words}`),
    ]);
  }, MIN_FONT_PIXELS);
}

async function screenshot(tab: Page, name: string): Promise<void> {
  if (SCREENSHOTS === undefined) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await tab.screenshot({ path: join(SCREENSHOTS, `${name.replaceAll(/[^\w.]+/g, '-')}.png`) as `${string}.png` });
}

function chromium(): string {
  return execFileSync('sh', ['-c', 'command -v chromium || command -v google-chrome'], { encoding: 'utf8' }).trim();
}
