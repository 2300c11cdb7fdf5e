import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

/** Words that have a plainer or more exact replacement. */
const BANNED: readonly (readonly [pattern: RegExp, instead: string])[] = [
  [/\bwhoever\b|\bnobody\b|\bsomebody\b/i, 'the actor: the client, the gateway, the API server, gatecar'],
  [/\btold\b/i, 'logged, returned, reported'],
  [/\bmend(s|ed|ing)?\b/i, 'fix'],
  [/\banew\b/i, 'again'],
  [/\bbeside\b/i, 'next to, in addition to'],
  [/\bunder way\b/i, 'in flight, in progress'],
  [/\bparted\b/i, 'split, separated'],
  [/\bat the (least|most)\b/i, 'at least, at most'],
  [/\ba (yes|no)\b(?! (?:one|longer|body|op|op\b))/i, 'an allow, a rejection'],
  [/\bof ours\b/i, 'of gatecar'],
  [/\bverdicts?\b/i, 'authentication result'],
  [/\bcorridor\b|\bfloor plan\b/i, 'pipeline, composition root'],
  [/\blanes?\b/i, 'priority'],
];

/** A line that repeats the title of a test. The title is checked in the test's own file. */
const NAMES_TEST = /^- `test\/[^`]+`: /;

/** Maximum line length of comments and of Markdown prose, in columns. */
const MAX_COMMENT_COLUMNS = 100;
const MAX_PROSE_COLUMNS = 120;
const MAX_SENTENCE_WORDS = 25;

/** Files that quote banned words or that others wrote. */
const EXEMPT = [
  /^package-lock\.json$/,
  /^LICENSE$/,
  /^scripts\/check-prose\.ts$/,
  /^test\/scripts\/check-prose\.test\.ts$/,
  /^test\/fixtures\/recorded\//,
  /\.(png|svg|crt|key|json\.gz)$/,
];

/** One deviation from the style. */
export interface Fault {
  readonly line: number;
  readonly text: string;
}

/** Checks one file. @param path decides which rules apply. */
export function checkFile(path: string, content: string): Fault[] {
  const lines = content.split('\n');
  // The changelog quotes former public names.
  const isChangelog = path === 'CHANGELOG.md';
  const faults = lines.flatMap((text, index) =>
    wordFaults(isChangelog ? withoutCode(text) : text).map(fault => ({ line: index + 1, text: fault })),
  );
  if (/\.(ts|mjs)$/.test(path)) faults.push(...commentFaults(lines));
  if (path.endsWith('.md')) faults.push(...proseFaults(lines));
  return faults;
}

function withoutCode(text: string): string {
  return text.replaceAll(/`[^`]*`/g, 'code');
}

function wordFaults(text: string): string[] {
  if (NAMES_TEST.test(text)) return [];
  return BANNED.flatMap(([pattern, instead]) => {
    const found = pattern.exec(text)?.[0];
    return found === undefined ? [] : [`"${found}": write ${instead}`];
  });
}

function commentFaults(lines: readonly string[]): Fault[] {
  return lines.flatMap((text, index) =>
    /^\s*(\/\/|\/\*|\*)/.test(text) && text.length > MAX_COMMENT_COLUMNS && !/https?:\/\/\S{60}/.test(text)
      ? [{ line: index + 1, text: `comment of ${text.length} columns; ${MAX_COMMENT_COLUMNS} are allowed` }]
      : [],
  );
}

/** Checks Markdown prose; code blocks, tables, headings, HTML and titles of tests are skipped. */
function proseFaults(lines: readonly string[]): Fault[] {
  const faults: Fault[] = [];
  let isCode = false;
  let paragraph: string[] = [];
  let startLine = 0;
  const endParagraph = (): void => {
    faults.push(...sentenceFaults(paragraph.join(' '), startLine));
    paragraph = [];
  };
  for (const [index, text] of [...lines, ''].entries()) {
    if (/^\s*(```|~~~)/.test(text)) isCode = !isCode;
    if (isCode || text.trim() === '' || NAMES_TEST.test(text) || /^\s*(```|~~~|\||#|<)/.test(text)) {
      endParagraph();
      continue;
    }
    if (text.length > MAX_PROSE_COLUMNS && /\s/.test(text.slice(0, MAX_PROSE_COLUMNS).trim())) {
      faults.push({ line: index + 1, text: `${text.length} columns; ${MAX_PROSE_COLUMNS} are allowed` });
    }
    if (/^\s*([-*+]|\d+\.)\s/.test(text)) endParagraph();
    if (paragraph.length === 0) startLine = index + 1;
    paragraph.push(text.trim());
  }
  return faults;
}

function sentenceFaults(paragraph: string, line: number): Fault[] {
  const plain = withoutCode(paragraph)
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/^([-*+]|\d+\.)\s+/, '');
  return plain.split(/(?<=[.!?:;])\s+/).flatMap(sentence => {
    const words = sentence.split(/\s+/).filter(word => /\w/.test(word)).length;
    return words > MAX_SENTENCE_WORDS
      ? [
          {
            line,
            text: `a sentence of ${words} words ("${sentence.slice(0, 40)}…"); ${MAX_SENTENCE_WORDS} are allowed`,
          },
        ]
      : [];
  });
}

/** Checks the files that git tracks or does not ignore. @returns a line for each fault. */
export function checkTree(paths: readonly string[]): string[] {
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', ...paths], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  return files
    .split('\n')
    .filter(path => path !== '' && !EXEMPT.some(exempt => exempt.test(path)))
    .flatMap(path =>
      checkFile(path, readFileSync(join(ROOT, path), 'utf8')).map(({ line, text }) => `${path}:${line}: ${text}`),
    );
}

if (import.meta.main) {
  const faults = checkTree(process.argv.slice(2));
  for (const fault of faults) process.stdout.write(`${fault}\n`);
  process.stdout.write(`prose: ${faults.length} faults\n`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}
