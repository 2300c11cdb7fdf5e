import { setTimeout as wait } from 'node:timers/promises';
import { GRPC_SETTLE_MS } from '../../limits/constants.ts';

/**
 * Counts calls in flight. Connections are not counted, because a client may keep one open
 * indefinitely.
 */
export interface InFlightCounter {
  begin(): void;
  end(): void;
  /** Resolves once no call has been in flight for a short time. */
  idle(): Promise<void>;
}

/** Creates a counter that starts at zero. */
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
        await wait(GRPC_SETTLE_MS);
      } while (calls > 0);
    },
  };
}
