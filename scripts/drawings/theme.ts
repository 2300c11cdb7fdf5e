/** Colours of a drawing. GitHub and the site show the light or the dark file. */
export interface Theme {
  readonly background: string;
  readonly panel: string;
  readonly text: string;
  readonly faint: string;
  readonly line: string;
  readonly blue: string;
  readonly green: string;
  readonly red: string;
  readonly orange: string;
  readonly grey: string;
}

export const LIGHT: Theme = {
  background: '#ffffff',
  panel: '#f6f8fa',
  text: '#1f2328',
  faint: '#59636e',
  line: '#d1d9e0',
  blue: '#0969da',
  green: '#1a7f37',
  red: '#cf222e',
  orange: '#9a6700',
  grey: '#aeb6bf',
};

export const DARK: Theme = {
  background: '#0d1117',
  panel: '#151b23',
  text: '#f0f6fc',
  faint: '#9198a1',
  line: '#3d444d',
  blue: '#4493f8',
  green: '#3fb950',
  red: '#f85149',
  orange: '#d29922',
  grey: '#656c76',
};

/** A function that draws one picture in the colours of a theme. */
export type Drawing = (theme: Theme) => string;
