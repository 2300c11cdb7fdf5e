import { arrow, box, path, svgDocument, text, texts } from './svg.ts';
import type { Theme } from './theme.ts';

const HEIGHT = 330;

/** Draws the path of a request: client, gateway, application; below them gatecar, API server. */
export function requestPath(theme: Theme): string {
  const { text: ink, faint, green, red, orange, blue } = theme;
  const plain = { fill: ink, anchor: 'middle' } as const;
  const small = { fill: faint, anchor: 'middle', size: 12 } as const;
  const parts = [
    frame(theme, 10, 24, 130, 'client', 'pod, CI job, device'),
    frame(theme, 320, 24, 190, 'gateway', 'nginx, Envoy, Istio, …'),
    frame(theme, 690, 24, 130, 'application', 'reads the headers'),
    arrow(140, 320, 54, ink),
    text(230, 44, 'request', plain),
    text(230, 72, 'Authorization: Bearer …', small),
    arrow(510, 690, 54, green),
    text(600, 44, 'allowed request', { ...plain, fill: green }),
    text(600, 72, 'X-Auth-Request-User: …', small),
    // Between gateway and gatecar: the question and its three answers.
    verticalArrow(360, 84, 208, ink),
    texts(350, 138, ['auth subrequest', 'or ext_authz Check'], { fill: ink, anchor: 'end' }),
    verticalArrow(470, 208, 84, blue),
    text(482, 120, '200 and identity headers', { fill: green }),
    text(482, 146, '401 or 403: the token or its account is denied', { fill: red }),
    text(482, 172, '503: gatecar cannot decide (outage, overload)', { fill: orange }),
    box(230, 208, 330, 104, theme.panel, blue),
    text(395, 230, 'gatecar', { ...plain, bold: true, size: 15 }),
    stage(theme, 240, ['cache', 'by hash']),
    stage(theme, 346, ['JWT', 'pre-check']),
    stage(theme, 452, ['policy', 'allowlists']),
    frame(theme, 690, 230, 130, 'API server', 'authenticates'),
    arrow(560, 690, 252, ink),
    text(625, 242, 'TokenReview', plain),
    arrow(690, 560, 278, ink),
    text(625, 298, 'if not cached', small),
  ];
  const title =
    'The gateway asks gatecar about each request. gatecar answers from its cache or with a TokenReview of the API server.';
  return svgDocument(title, HEIGHT, theme, parts);
}

function stage(theme: Theme, x: number, lines: readonly string[]): string {
  const words = texts(x + 49, 266, lines, { fill: theme.text, anchor: 'middle' });
  return box(x, 242, 98, 58, theme.background, theme.line) + words;
}

function verticalArrow(x: number, from: number, to: number, colour: string): string {
  const back = Math.sign(to - from) * 9;
  return `${path(`M${x} ${from}V${to - back}`, colour, 1.6)}<path d="M${x} ${to}l-4.5 ${-back}h9z" fill="${colour}"/>`;
}

function frame(theme: Theme, x: number, y: number, w: number, name: string, role: string): string {
  const middle = x + w / 2;
  return [
    box(x, y, w, 60, theme.panel, theme.line),
    text(middle, y + 26, name, { fill: theme.text, anchor: 'middle', bold: true, size: 15 }),
    text(middle, y + 46, role, { fill: theme.faint, anchor: 'middle', size: 12 }),
  ].join('');
}
