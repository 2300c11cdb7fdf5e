import type { Row } from './scenario.ts';

/** The measurements of one scenario, and their circumstances. */
export interface Recorded {
  readonly scenario: string;
  readonly about: string;
  /** The date, in ISO 8601. */
  readonly date: string;
  readonly command: string;
  /** Version of gatecar. */
  readonly version: string;
  readonly machine: string;
  readonly versions: readonly string[];
  readonly rows: readonly Row[];
}
