import { X509Certificate } from 'node:crypto';

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * Returns the certificates of a PEM bundle in order; there is at least one. OpenSSL reads a bundle
 * of CAs up to the first corrupt block and reports success. With a half-written file, it would
 * silently trust fewer CAs.
 *
 * @throws if there is no certificate, or if anything that begins like a PEM block is not a complete
 *   certificate.
 */
export function certificatesIn(pem: Buffer): X509Certificate[] {
  const text = pem.toString('latin1');
  const blocks = text.match(BLOCK) ?? [];
  if (blocks.length === 0 || blocks.length !== text.split('-----BEGIN').length - 1) {
    throw new Error('not a whole PEM bundle of certificates');
  }
  return blocks.map(block => new X509Certificate(block));
}
