import { createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { watchedFile } from '../files/watched-file.ts';
import { errorCode } from '../system/error-code.ts';
import type { TlsMaterial } from './listener-options.ts';
import { certificatesIn } from './pem.ts';

/**
 * Names the setting whose file cannot be used, and what the file must contain. It never includes
 * the file's content.
 */
export class TlsFileError extends Error {
  override readonly name = 'TlsFileError';
}

/** The paths of the files, from the settings. */
export interface TlsPaths {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string | undefined;
}

/** Material that OpenSSL accepts. */
export interface CheckedMaterial extends TlsMaterial {
  /** When the certificate expires. */
  readonly notAfter: Date;
}

/**
 * The three watched files. While a file's content does not change, each read returns the same
 * object.
 */
export interface TlsFiles {
  /** @throws {TlsFileError} if one of the files has never been readable. */
  read(): Promise<TlsMaterial>;
  /**
   * Names the file that could not be read the last time, if its previous content was returned
   * instead. The text is that of the error.
   */
  readonly problem: string | undefined;
}

/** Watches the files of a listener. Each `read` goes to the disk. */
export function tlsFiles({ certFile, keyFile, clientCaFile }: TlsPaths): TlsFiles {
  const watchTlsFile = (setting: string, path: string) => {
    const file = watchedFile(path, undefined, 0);
    const unreadable = (error: unknown): string =>
      `${setting} must be a file that can be read; got ${quoted(path)}: ${errorCode(error)}`;
    return {
      async read(): Promise<Buffer> {
        try {
          return await file.read();
        } catch (error) {
          throw new TlsFileError(unreadable(error));
        }
      },
      problem: () => (file.failure === undefined ? undefined : unreadable(file.failure)),
    };
  };
  const cert = watchTlsFile('GATECAR_TLS_CERT_FILE', certFile);
  const key = watchTlsFile('GATECAR_TLS_KEY_FILE', keyFile);
  const clientCa = clientCaFile === undefined ? undefined : watchTlsFile('GATECAR_TLS_CLIENT_CA_FILE', clientCaFile);
  return {
    read: async () => ({ cert: await cert.read(), key: await key.read(), clientCa: await clientCa?.read() }),
    get problem() {
      return cert.problem() ?? key.problem() ?? clientCa?.problem();
    },
  };
}

/**
 * Checks that the files are complete and belong together.
 *
 * @throws {TlsFileError} that names the setting and its rule.
 */
export function checkMaterial(material: TlsMaterial, { certFile, keyFile, clientCaFile }: TlsPaths): CheckedMaterial {
  const { cert, key, clientCa } = material;
  const [leaf] = validate('GATECAR_TLS_CERT_FILE', 'holds PEM certificates and nothing else', certFile, () =>
    certificatesIn(cert),
  ) as [X509Certificate];
  const privateKey = validate<KeyObject>(
    'GATECAR_TLS_KEY_FILE',
    'holds a PEM private key, not encrypted',
    keyFile,
    () => createPrivateKey(key),
  );
  validate('GATECAR_TLS_KEY_FILE', 'holds the key of the first certificate in GATECAR_TLS_CERT_FILE', keyFile, () => {
    if (!leaf.checkPrivateKey(privateKey)) throw new Error();
  });
  if (clientCa && clientCaFile !== undefined) {
    validate('GATECAR_TLS_CLIENT_CA_FILE', 'holds PEM certificates and nothing else', clientCaFile, () =>
      certificatesIn(clientCa),
    );
  }
  validate('GATECAR_TLS_CERT_FILE', 'holds a certificate strong enough for TLS', certFile, () =>
    createSecureContext({ cert, key }),
  );
  return { ...material, notAfter: leaf.validToDate };
}

function validate<T>(setting: string, rule: string, path: string, read: () => T): T {
  try {
    return read();
  } catch {
    // The file may be a private key under the wrong setting. The parser's message could contain a
    // part of it, so it is not repeated.
    throw new TlsFileError(`${setting} must be a file that ${rule}; got ${quoted(path)}`);
  }
}

const quoted = (path: string): string => JSON.stringify(path);
