import { createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { watchedFile } from '../files/watched-file.ts';
import type { TlsMaterial } from './listener-options.ts';
import { certificatesIn } from './pem.ts';

/** Says which setting's file cannot be used and what it must hold; never what it holds. */
export class TlsFileError extends Error {
  override readonly name = 'TlsFileError';
}

/** Paths, as the settings give them. */
export interface TlsPaths {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string | undefined;
}

/** Material that OpenSSL takes. */
export interface CheckedMaterial extends TlsMaterial {
  /** When the certificate runs out. */
  readonly notAfter: Date;
}

/** The three files, followed: each content is the same object for as long as it reads the same. */
export interface TlsFiles {
  /** @throws {TlsFileError} while one of them could never be read. */
  read(): Promise<TlsMaterial>;
  /** Which of them could not be read the last time, so that its last content stood in; says as much as the error would. */
  readonly problem: string | undefined;
}

/** Follows the files of a listener. Nothing is kept back: whoever reads goes to the disk. */
export function tlsFiles({ certFile, keyFile, clientCaFile }: TlsPaths): TlsFiles {
  const follow = (setting: string, path: string) => {
    const file = watchedFile(path, undefined, 0);
    const unreadable = (error: unknown): string =>
      `${setting} must be a file that can be read; got ${quoted(path)}: ${codeOf(error)}`;
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
  const cert = follow('GATECAR_TLS_CERT_FILE', certFile);
  const key = follow('GATECAR_TLS_KEY_FILE', keyFile);
  const clientCa = clientCaFile === undefined ? undefined : follow('GATECAR_TLS_CLIENT_CA_FILE', clientCaFile);
  return {
    read: async () => ({ cert: await cert.read(), key: await key.read(), clientCa: await clientCa?.read() }),
    get problem() {
      return cert.problem() ?? key.problem() ?? clientCa?.problem();
    },
  };
}

/** @throws {TlsFileError} naming the setting and its rule, where the files do not belong together or are not whole. */
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
    // What failed to parse may be a private key in the wrong file; its parser's words are not repeated.
    throw new TlsFileError(`${setting} must be a file that ${rule}; got ${quoted(path)}`);
  }
}

const quoted = (path: string): string => JSON.stringify(path);

function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code);
}
