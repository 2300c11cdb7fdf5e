import { setTimeout as wait } from 'node:timers/promises';

/** How long an answer may take to leave once it is given, and a request to come that was sent before we closed, in milliseconds. */
const SETTLE_MS = 250;

/** Counts calls. Connections are not waited for: a client may keep one open for ever. */
export interface InFlightCounter {
  begin(): void;
  end(): void;
  /** Resolves once there was no call for a while. */
  idle(): Promise<void>;
}

/** Starts with none. */
export function inFlightCounter(): InFlightCounter {
  let calls = 0;
  let none = (): void => {};
  return {
    begin() {
      calls += 1;
    },
    end() {
      calls -= 1;
      if (calls === 0) none();
    },
    async idle() {
      do {
        if (calls > 0) {
          await new Promise<void>(resolve => {
            none = resolve;
          });
        }
        await wait(SETTLE_MS);
      } while (calls > 0);
    },
  };
}
