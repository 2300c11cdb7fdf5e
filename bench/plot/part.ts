import { WIDTH } from '../../scripts/drawings/svg.ts';

/** Where bars start, and the room for the longest one, in pixels. */
export const LEFT = 275;
const RIGHT = 205;
export const SPAN = WIDTH - LEFT - RIGHT;

/** A part of the picture, drawn from y = 0. */
export interface Part {
  readonly height: number;
  readonly svg: string;
}
