/** One sample of the Prometheus text format. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Parses the Prometheus text format, version 0.0.4. Skips lines that are not samples. */
export function parseMetrics(text: string): Sample[] {
  return text.split('\n').flatMap((line): Sample[] => {
    const [, name, labels = '', value = ''] = LINE.exec(line) ?? [];
    return name === undefined ? [] : [{ name, labels: parseLabels(labels), value: parseValue(value) }];
  });
}

function parseLabels(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(LABEL)].map(([, name = '', value = '']) => [name, unescaped(value)]));
}

function unescaped(value: string): string {
  return value.replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character));
}

function parseValue(text: string): number {
  return Number(text.replace(/Inf$/, 'Infinity'));
}

/** Returns the sum of all samples with this name and these labels. */
export function sumOf(samples: readonly Sample[], name: string, labels: Sample['labels'] = {}): number {
  return matching(samples, name, labels).reduce((sum, { value }) => sum + value, 0);
}

/** Returns the values that a label has in the samples with this name and these other labels. */
export function valuesOf(
  samples: readonly Sample[],
  name: string,
  label: string,
  others: Sample['labels'] = {},
): string[] {
  return [...new Set(matching(samples, name, others).map(({ labels }) => labels[label] ?? ''))];
}

function matching(samples: readonly Sample[], name: string, labels: Sample['labels']): Sample[] {
  const wanted = Object.entries(labels);
  return samples.filter(one => one.name === name && wanted.every(([label, value]) => one.labels[label] === value));
}
