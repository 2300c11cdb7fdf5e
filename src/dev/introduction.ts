import type { LocalTarget } from '../cli/local-target.ts';
import { type Colorizer, columns, type marker } from '../cli/output.ts';
import type { SampleRequest, SampleResult } from './sample-requests.ts';

/** What {@link introduction} shows. */
export interface Introduction {
  readonly auth: LocalTarget;
  readonly ops: LocalTarget;
  readonly apiServerUrl: string;
  /** The directory with one header file for each sample. */
  readonly directory: string;
  readonly samples: readonly (SampleRequest & { readonly result: SampleResult })[];
  /** How this program is started. */
  readonly program: string;
  readonly paint: Colorizer;
  readonly mark: ReturnType<typeof marker>;
}

/** Returns the page of `gatecar dev`: what runs, what was tried, and what to try next. */
export function introduction(shows: Introduction): string {
  const { auth, ops, apiServerUrl, directory, samples, program, paint } = shows;
  const title = (text: string): string => paint('strong', text);
  const runs = [
    ['gatecar', `${shown(auth)}/auth`, 'a gateway asks here before each request'],
    ['ops', shown(ops), '/metrics /readyz /statusz /flagz'],
    ['API server', apiServerUrl, 'fake: reviews the tokens below'],
  ]
    .map(([name = '', url = '', text]) => `  ${name.padEnd(12)}${url.padEnd(30)}${text}\n`)
    .join('');
  const tried = columns(
    samples.map(({ title, result }) => [`${statusOf(result, shows)}  ${title.padEnd(17)}`, result.detail] as const),
    '  ',
  );
  const file = (name: string): string => shellWord(`${directory}/${name}`);
  const curls = samples.map(({ name }) => `curl -i -H @${file(name)} ${curlTarget(auth)}\n`).join('');
  const next: readonly (readonly [title: string, command: string])[] = [
    ...(samples.some(({ name }) => name === 'expired')
      ? [['why a token is rejected', `${program} explain --kube-api-url=${apiServerUrl} ${file('expired')}`] as const]
      : []),
    ...(ops.socketPath === undefined ? [['decisions, live', `${program} top --url=${ops.url}`] as const] : []),
    ['the configuration of a gateway', `${program} gateway nginx`],
    [
      'other settings and the log; first stop this with Ctrl-C',
      `${program} dev --allowed-namespaces=ci --log-level=info`,
    ],
  ];
  return `
${title('gatecar dev')}: gatecar with a fake API server. Its tokens are worthless anywhere else.

${runs}
${title('Tried just now')}
${tried}
${title('Try them')} (the tokens are in files, which are removed when gatecar stops)
${curls}
${title('Next')}
${next.map(([what, command]) => `  ${paint('quiet', `# ${what}`)}\n  ${command}\n`).join('')}`;
}

const WORDS = { good: 'ok', doubtful: 'failed', bad: 'denied' } as const;

/** Returns a status with its symbol; where symbols cannot be shown, with a word. */
function statusOf({ status }: SampleResult, { paint, mark }: Pick<Introduction, 'paint' | 'mark'>): string {
  const tone = status === 200 ? 'good' : status === 0 || status >= 500 ? 'doubtful' : 'bad';
  return `${mark(tone) || WORDS[tone].padEnd(7)}${paint(tone, `${status || '---'}`)}`;
}

function shown({ url, socketPath }: LocalTarget): string {
  return socketPath === undefined ? url : `unix:${socketPath}`;
}

function curlTarget({ url, socketPath }: LocalTarget): string {
  const socket = socketPath === undefined ? '' : `--unix-socket ${shellWord(socketPath)} `;
  return `${url.startsWith('https:') ? '-k ' : ''}${socket}${url}/auth`;
}

/** Quotes a word for a POSIX shell, if it needs quotes. */
function shellWord(word: string): string {
  return /^[\w./@:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
