/** Decodes a JSON object in base64url. @returns `undefined` for any other text. */
export function decodeJsonObject(part: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    // The parse error quotes the token's bytes, so it must not leave this function.
    return undefined;
  }
}
