// Answers what scripts/release asks about versions and the changelog.
//
//   node scripts/release-metadata.ts version [--final] [TAG]   checks, and prints the version
//   node scripts/release-metadata.ts tags                      the image's tags, one a line
//   node scripts/release-metadata.ts notes                     the release notes
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

/** The texts in which the version is written. */
export interface VersionSources {
  readonly packageJson: string;
  readonly chartYaml: string;
  readonly changelog: string;
}

/** A heading of the changelog with the text below it. */
export interface ChangelogSection {
  /** `undefined` for `## [Unreleased]`. */
  readonly version: string | undefined;
  readonly isReleased: boolean;
  readonly text: string;
}

/**
 * Parses the sections of a changelog, in their order. Headings are `## [0.1.0] - 2026-12-01`,
 * `## 0.1.0 (unreleased)` or `## [Unreleased]`; brackets and date are optional.
 */
export function changelogSections(changelog: string): ChangelogSection[] {
  const [, ...parts] = changelog.split(/^## /m);
  return parts.flatMap(part => {
    const [heading = '', ...lines] = part.split('\n');
    const match = /^\[?(\d+\.\d+\.\d+[\w.+-]*|unreleased)\]?(.*)$/i.exec(heading.trim());
    if (!match) return [];
    const [, name = '', rest = ''] = match;
    const isUnreleased = name.toLowerCase() === 'unreleased';
    return [
      {
        version: isUnreleased ? undefined : name,
        isReleased: !isUnreleased && !/unreleased/i.test(rest),
        // Link definitions at the end of the file belong to the headings.
        text: lines
          .filter(line => !/^\[[^\]]+\]: \S+$/.test(line))
          .join('\n')
          .trim(),
      },
    ];
  });
}

/**
 * Returns the section of a version. Without one, returns that of `## [Unreleased]`, which is what
 * a dry run would release.
 */
export function changelogSection(changelog: string, version: string): ChangelogSection | undefined {
  const sections = changelogSections(changelog);
  return sections.find(one => one.version === version) ?? sections.find(one => one.version === undefined);
}

/** Returns the version in package.json. */
export function packageVersion(packageJson: string): string {
  return JSON.parse(packageJson).version;
}

/**
 * Returns where versions disagree, a line each; none if the release can be built.
 *
 * @param isFinal demands a changelog section that is released, and a repository in package.json,
 * which npm's provenance needs.
 * @param tag the git tag, `v0.1.0`.
 */
export function versionFaults(
  sources: VersionSources,
  { isFinal = false, tag }: { isFinal?: boolean; tag?: string | undefined } = {},
): string[] {
  const version = packageVersion(sources.packageJson);
  const faults: string[] = [];
  for (const field of ['version', 'appVersion']) {
    const found = new RegExp(`^${field}: "?([^"\\n]*)"?$`, 'm').exec(sources.chartYaml)?.[1];
    if (found !== version)
      faults.push(`Chart.yaml: ${field} is ${found}, package.json has ${version}: npm run generate`);
  }
  const section = changelogSection(sources.changelog, version);
  if (!section) faults.push(`CHANGELOG.md: no section for ${version}: add "## [${version}] - <date>"`);
  else if (section.text === '') faults.push(`CHANGELOG.md: the section for ${version} is empty`);
  else if (isFinal && (section.version !== version || !section.isReleased)) {
    faults.push(`CHANGELOG.md: ${version} is not released: rename its heading to "## [${version}] - <date>"`);
  }
  if (isFinal && !JSON.parse(sources.packageJson).repository) {
    faults.push('package.json: no repository: npm provenance needs the URL of the GitHub repository');
  }
  if (tag !== undefined && tag !== `v${version}`) faults.push(`the tag is ${tag}, package.json has ${version}`);
  return faults;
}

/**
 * Returns the tags of the image: `1.2.3`, `1.2` and `1`. A pre-release has its full version only.
 * Minor versions below 1.0.0 may break, so there is no tag `0`.
 */
export function imageTags(version: string): string[] {
  const [, major, minor, rest] = /^(\d+)\.(\d+)\.\d+(.*)$/.exec(version) ?? [];
  if (major === undefined || rest !== '') return [version];
  return [version, `${major}.${minor}`, ...(major === '0' ? [] : [major])];
}

function readSources(): VersionSources {
  const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
  return {
    packageJson: read('package.json'),
    chartYaml: read('charts/gatecar/Chart.yaml'),
    changelog: read('CHANGELOG.md'),
  };
}

function run([command, ...args]: readonly string[]): string {
  const sources = readSources();
  const version = packageVersion(sources.packageJson);
  if (command === 'tags') return imageTags(version).join('\n');
  if (command === 'notes') return changelogSection(sources.changelog, version)?.text ?? '';
  if (command !== 'version') throw new Error('usage: release-metadata.ts version [--final] [TAG] | tags | notes');
  const tag = args.find(arg => arg !== '--final');
  const faults = versionFaults(sources, { isFinal: args.includes('--final'), tag });
  if (faults.length > 0) throw new Error(faults.join('\n'));
  return version;
}

if (import.meta.main) {
  try {
    process.stdout.write(`${run(process.argv.slice(2))}\n`);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
