import { arrow, bar, box, LINE, path, svgDocument, text, texts, WIDTH } from './svg.ts';
import type { Theme } from './theme.ts';

/** A message between two participants. The colour says what the message means. */
export interface Message {
  readonly from: string;
  readonly to: string;
  readonly lines: readonly string[];
  readonly colour?: 'text' | 'green' | 'red' | 'orange';
  /** Whether the message gets no answer, or does not arrive. */
  readonly lost?: boolean;
}

/** What a participant does, in a box on its line. */
export interface Note {
  readonly at: string;
  readonly note: readonly string[];
}

/** A heading between two parts of the sequence. */
export interface Heading {
  readonly heading: string;
}

export interface Sequence {
  readonly title: string;
  readonly participants: readonly string[];
  readonly steps: readonly (Message | Note | Heading)[];
}

const MARGIN = 66;
const HEAD_Y = 14;
const HEAD_HEIGHT = 32;
const HEAD_WIDTH = 116;
const NOTE_PADDING = 10;
const GAP = 14;

const NOTE_WIDTH = 178;

/** The width of a character, in pixels: an estimate for the field behind the words. */
const CHARACTER = 7.6;

interface Drawn {
  readonly svg: string;
  readonly height: number;
}

/** Draws a sequence diagram: participants at the top, time downwards. */
export function drawSequence({ title, participants, steps }: Sequence, theme: Theme): string {
  const distance = (WIDTH - 2 * MARGIN) / (participants.length - 1);
  const x = (name: string): number => MARGIN + participants.indexOf(name) * distance;
  let y = HEAD_Y + HEAD_HEIGHT + GAP;
  const drawn = steps.map(step => {
    const { svg, height } = drawStep(step, x, y, theme);
    y += height + GAP;
    return svg;
  });
  const heads = participants.map(name => {
    const line = path(`M${x(name)} ${HEAD_Y + HEAD_HEIGHT}V${y}`, theme.line, 1.5);
    const frame = box(x(name) - HEAD_WIDTH / 2, HEAD_Y, HEAD_WIDTH, HEAD_HEIGHT, theme.panel, theme.line);
    return line + frame + text(x(name), HEAD_Y + 21, name, { fill: theme.text, anchor: 'middle', bold: true });
  });
  return svgDocument(title, Math.ceil(y + GAP / 2), theme, [...heads, ...drawn]);
}

function drawStep(step: Message | Note | Heading, x: (name: string) => number, y: number, theme: Theme): Drawn {
  if ('heading' in step) return drawHeading(step, y, theme);
  if ('note' in step) return drawNote(step, x, y, theme);
  return drawMessage(step, x, y, theme);
}

function drawHeading({ heading }: Heading, y: number, theme: Theme): Drawn {
  const field = box(8, y, WIDTH - 16, 26, theme.panel, theme.line);
  return { svg: field + text(20, y + 18, heading, { fill: theme.text, bold: true }), height: 26 };
}

function drawNote({ at, note }: Note, x: (name: string) => number, y: number, theme: Theme): Drawn {
  const height = note.length * LINE + NOTE_PADDING;
  const frame = box(x(at) - NOTE_WIDTH / 2, y, NOTE_WIDTH, height, theme.panel, theme.blue);
  return { svg: frame + texts(x(at), y + 18, note, { fill: theme.text, anchor: 'middle' }), height };
}

/** Draws the words above the arrow, over a field that hides the lines of the participants. */
function drawMessage(message: Message, x: (name: string) => number, y: number, theme: Theme): Drawn {
  const { from, to, lines, colour = 'text', lost = false } = message;
  const [start, end] = [x(from), x(to)];
  const height = lines.length * LINE + 8;
  const middle = (start + end) / 2;
  const width = Math.min(Math.abs(end - start) - 14, Math.max(...lines.map(line => line.length)) * CHARACTER + 8);
  const field = bar(middle - width / 2, y, width, lines.length * LINE + 2, theme.background);
  const words = texts(middle, y + 13, lines, { fill: theme[colour], anchor: 'middle' });
  if (!lost) return { svg: field + words + arrow(start, end, y + height, theme[colour]), height };
  const stop = end - Math.sign(end - start) * 16;
  const cross = path(`M${stop - 6} ${y + height - 6}l12 12m0 -12l-12 12`, theme.red, 2);
  return { svg: field + words + arrow(start, stop, y + height, theme[colour], '5 4') + cross, height };
}
