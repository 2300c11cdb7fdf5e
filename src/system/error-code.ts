/**
 * Returns the system's code of an error, such as `ENOENT`. The error's text must not be reported,
 * since it can quote a file.
 */
export function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'unknown error';
}
