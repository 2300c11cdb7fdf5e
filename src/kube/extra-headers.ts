import { watchedFile } from '../files/watched-file.ts';
import { EndpointError, type EndpointSource, readCredentialFile } from './endpoint.ts';

/** A value with this prefix names the file that holds the header's value. */
const FILE = /^@(?=\/)/;

/**
 * Adds headers to those of an endpoint, for proxies on the way. A value `@/path` is replaced by the
 * content of that file, so that a secret need not be in the environment. Like gatecar's own
 * credential, the file is read again when it changes and after a 401.
 *
 * @throws {EndpointError} from `current`, naming the file that cannot be read or holds no value.
 */
export function withExtraHeaders(
  source: EndpointSource,
  headers: Readonly<Record<string, string>>,
  now?: () => number,
): EndpointSource {
  if (Object.keys(headers).length === 0) return source;
  const parts = Object.entries(headers).map(([name, value]) => ({
    name,
    value,
    file: FILE.test(value) ? watchedFile(value.slice(1), now) : undefined,
  }));
  return {
    async current() {
      const endpoint = await source.current();
      const added: Record<string, string> = {};
      for (const { name, value, file } of parts) {
        const what = `file ${value.slice(1)} of header ${name}`;
        added[name] = file === undefined ? value : headerValue(await readCredentialFile(file, what), what);
      }
      return { ...endpoint, headers: { ...endpoint.headers, ...added } };
    },
    invalidate() {
      source.invalidate();
      for (const { file } of parts) file?.drop();
    },
    reloadTls: () => source.reloadTls(),
  };
}

function headerValue(content: Buffer, what: string): string {
  const value = content.toString('utf8').trim();
  if (!/^[\x20-\x7e]+$/.test(value)) throw new EndpointError(`${what} does not hold a header's value`);
  return value;
}
