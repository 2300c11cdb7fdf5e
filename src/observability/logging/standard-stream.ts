import { fstatSync, write } from 'node:fs';
import type { Writable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';

/** `written` is the number of bytes that were taken. Fewer than all is no error; none if the output is busy. */
export type WriteDone = (error: NodeJS.ErrnoException | null | undefined, written?: number) => void;

/** Where bytes are written without blocking the event loop. */
export interface Sink {
  /** Writes once. Only one write may be in flight. */
  write(bytes: Buffer, done: WriteDone): void;
  /** Whether a write in flight keeps the process from exiting: it occupies a thread, which an exit waits for. */
  readonly delaysExit: () => boolean;
}

/** Errors after which the same bytes can still be written later. After any other, the reader is gone. */
const RETRIED: ReadonlySet<string | undefined> = new Set([
  ...['EBUSY', 'EDQUOT', 'EFBIG', 'EINTR', 'EIO', 'ENOBUFS', 'ENOMEM', 'ENOSPC'],
]);

/** Time until a busy output is tried again, in milliseconds. */
const BUSY_MS = 20;

/** Whether the bytes of a failed write are worth another attempt. */
export function isRetried({ code }: Pick<NodeJS.ErrnoException, 'code'>): boolean {
  return RETRIED.has(code);
}

/**
 * A file descriptor as a {@link Sink}.
 *
 * Pipes and sockets are written through Node's own stream, which is asynchronous for these and sets them non-blocking: a
 * reader that is stuck occupies no thread. That stream writes files and terminals synchronously, so these go through the
 * thread pool instead.
 *
 * @param stream Node's stream for this descriptor, opened on the first write.
 */
export function standardStream(fd: number, stream: () => Writable): Sink {
  let opened: Sink | undefined;
  return {
    write(bytes, done) {
      try {
        opened ??= open(fd, stream);
        opened.write(bytes, done);
      } catch (error) {
        done(error as NodeJS.ErrnoException);
      }
    },
    delaysExit: () => opened?.delaysExit() ?? false,
  };
}

function open(fd: number, stream: () => Writable): Sink {
  const kind = fstatSync(fd);
  if (!kind.isFIFO() && !kind.isSocket()) return fileSink(fd);
  // The callback of each write has the error too. Without a listener it would be an uncaught exception.
  const target = stream().on('error', () => {});
  return {
    write: (bytes, done) => target.write(bytes, error => done(error, bytes.length)),
    delaysExit: () => false,
  };
}

/** A file, terminal or device, written by the thread pool. */
export function fileSink(fd: number): Sink {
  return {
    write: (bytes, done) =>
      write(fd, bytes, (error, written) => {
        if (isBusy(error)) done(null, 0);
        else done(error, written);
      }),
    delaysExit: () => true,
  };
}

/** A terminal may be non-blocking: another process that shares it decides that. */
function isBusy(error: NodeJS.ErrnoException | null): boolean {
  return error?.code === 'EAGAIN';
}

/** Reports that a text could not be written. Its message is the error's code. */
export class WriteError extends Error {
  override readonly name = 'WriteError';
  readonly code: string;

  constructor({ code = 'unknown error' }: NodeJS.ErrnoException) {
    super(code);
    this.code = code;
  }
}

/** Writes a whole text, and waits for a reader that is slow. @throws {WriteError} */
export async function writeWhole(sink: Sink, text: string): Promise<void> {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    const written = await writeOnce(sink, rest);
    rest = rest.subarray(written);
    if (written === 0) await wait(BUSY_MS);
  }
}

function writeOnce(sink: Sink, bytes: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    sink.write(bytes, (error, written = 0) => {
      if (error) reject(new WriteError(error));
      else resolve(written);
    });
  });
}
