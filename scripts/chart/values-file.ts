import { loadYaml } from '@kubernetes/client-node';

/** A value that `values.yaml` documents; it may be a group of values. */
export interface ValueEntry {
  /** For example `image.repository`. */
  readonly path: string;
  readonly description: string;
  /** The JSON schema keywords of its `@schema` comments. */
  readonly limits: Readonly<Record<string, unknown>>;
  readonly value: unknown;
}

interface Comment {
  description: string[];
  limits: Record<string, unknown>;
}

/**
 * Reads the documented values of a `values.yaml` in block style, in file order. Keys below a
 * documented value are part of its default, not values of their own.
 */
export function readValues(text: string): ValueEntry[] {
  const values = loadYaml<Record<string, unknown>>(text);
  const entries: ValueEntry[] = [];
  const open: { indent: number; key: string; documented: boolean }[] = [];
  let comment: Comment = { description: [], limits: {} };
  for (const line of text.split('\n')) {
    const [, remark] = /^ *# ?(.*)$/.exec(line) ?? [];
    if (remark !== undefined) {
      addRemark(comment, remark);
      continue;
    }
    const [, spaces = '', key] = /^( *)(\w+):/.exec(line) ?? [];
    if (key !== undefined) {
      while ((open.at(-1)?.indent ?? -1) >= spaces.length) open.pop();
      const isInside = open.some(({ documented }) => documented);
      const documented = !isInside && comment.description.length > 0;
      open.push({ indent: spaces.length, key, documented });
      const path = open.map(one => one.key);
      if (documented) {
        const value = path.reduce<unknown>((node, step) => (node as Record<string, unknown>)[step], values);
        entries.push({
          path: path.join('.'),
          description: comment.description.join(' '),
          limits: comment.limits,
          value,
        });
      }
    }
    comment = { description: [], limits: {} };
  }
  return entries;
}

function addRemark(comment: Comment, remark: string): void {
  if (remark.startsWith('-- ')) comment.description = [remark.slice('-- '.length)];
  else if (remark.startsWith('@schema ')) Object.assign(comment.limits, JSON.parse(remark.slice('@schema '.length)));
  else if (comment.description.length > 0) comment.description.push(remark);
}
