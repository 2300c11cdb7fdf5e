import { X509Certificate } from 'node:crypto';

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * The certificates of a PEM bundle, one at the least, in order. OpenSSL reads a bundle of authorities up to the first block
 * that is spoiled and calls that a success, so a file that is half-written would quietly trust fewer.
 *
 * @throws where there is none, or anything that begins like a PEM block is no whole certificate.
 */
export function certificatesIn(pem: Buffer): X509Certificate[] {
  const text = pem.toString('latin1');
  const blocks = text.match(BLOCK) ?? [];
  if (blocks.length === 0 || blocks.length !== text.split('-----BEGIN').length - 1) {
    throw new Error('not a whole PEM bundle of certificates');
  }
  return blocks.map(block => new X509Certificate(block));
}
