import t, { type Test } from 'tap';
import { imageFaults } from '../../scripts/release-image.ts';
import {
  changelogSection,
  changelogSections,
  imageTags,
  type VersionSources,
  versionFaults,
} from '../../scripts/release-metadata.ts';

const chart = (version: string, appVersion = version) =>
  `name: gatecar\nversion: ${version}\nappVersion: "${appVersion}"\n`;

const manifest = (version: string, repository?: string) => JSON.stringify({ name: 'gatecar', version, repository });

const sources = (changes: Partial<VersionSources> = {}): VersionSources => ({
  packageJson: manifest('0.1.0', 'https://github.com/example/gatecar'),
  chartYaml: chart('0.1.0'),
  changelog: '# Changelog\n\n## [0.1.0] - 2026-12-01\n\n- first\n',
  ...changes,
});

t.test('changelog headings are read with and without brackets, date and "(unreleased)"', async t => {
  const changelog = `# Changelog

A preface.

## [Unreleased]

- next

## [1.2.0-rc.1] - 2027-01-02

### Security

- fixed

## 0.1.0 (unreleased)

- first

## Notes on the format

- not a version

[Unreleased]: https://example.com/compare
`;
  t.strictSame(changelogSections(changelog), [
    { version: undefined, isReleased: false, text: '- next' },
    { version: '1.2.0-rc.1', isReleased: true, text: '### Security\n\n- fixed' },
    { version: '0.1.0', isReleased: false, text: '- first' },
  ]);
  t.equal(changelogSections('## [0.1.0]\n- a\n')[0]?.isReleased, true);
  t.equal(changelogSections('## 0.1.0\n- a\n')[0]?.version, '0.1.0');
  t.strictSame(changelogSections('no heading'), []);
});

t.test('link definitions at the end of the file are not part of the release notes', async t => {
  const changelog = '## [0.1.0]\n\n- see [a][b]\n\n[0.1.0]: https://example.com/v0.1.0\n';
  t.equal(changelogSection(changelog, '0.1.0')?.text, '- see [a][b]');
});

t.test('a version without a section of its own has the unreleased changes, if there are any', async t => {
  const changelog = '## [Unreleased]\n- next\n## [0.1.0]\n- first\n';
  t.equal(changelogSection(changelog, '0.1.0')?.text, '- first');
  t.equal(changelogSection(changelog, '0.2.0')?.text, '- next');
  t.equal(changelogSection('## [0.1.0]\n- first\n', '0.2.0'), undefined);
});

t.test('a release can be built if package.json, Chart.yaml, CHANGELOG.md and the tag agree', async t => {
  t.strictSame(versionFaults(sources()), []);
  t.strictSame(versionFaults(sources(), { isFinal: true, tag: 'v0.1.0' }), []);
  t.strictSame(versionFaults(sources({ changelog: '## 0.1.0 (unreleased)\n- first\n' })), []);
  t.strictSame(versionFaults(sources({ changelog: '## [Unreleased]\n- first\n' })), []);
});

t.test('each disagreement is reported with what to do', async t => {
  const faults = (changes: Partial<VersionSources>, options?: Parameters<typeof versionFaults>[1]) =>
    versionFaults(sources(changes), options);
  t.strictSame(faults({ chartYaml: chart('0.1.1', '0.2.0') }), [
    'Chart.yaml: version is 0.1.1, package.json has 0.1.0: npm run generate',
    'Chart.yaml: appVersion is 0.2.0, package.json has 0.1.0: npm run generate',
  ]);
  t.match(faults({ chartYaml: 'name: gatecar\n' }), ['Chart.yaml: version is undefined', /appVersion is undefined/]);
  t.strictSame(faults({ changelog: '## [0.0.9]\n- old\n' }), [
    'CHANGELOG.md: no section for 0.1.0: add "## [0.1.0] - <date>"',
  ]);
  t.strictSame(faults({ changelog: '## [0.1.0]\n\n## [0.0.9]\n- old\n' }), [
    'CHANGELOG.md: the section for 0.1.0 is empty',
  ]);
  t.strictSame(faults({}, { tag: 'v0.1.1' }), ['the tag is v0.1.1, package.json has 0.1.0']);
  t.strictSame(faults({}, { tag: '0.1.0' }), ['the tag is 0.1.0, package.json has 0.1.0']);
});

t.test('a final release needs a released section and a repository', async t => {
  for (const changelog of ['## 0.1.0 (unreleased)\n- first\n', '## [Unreleased]\n- first\n']) {
    t.strictSame(versionFaults(sources({ changelog }), { isFinal: true }), [
      'CHANGELOG.md: 0.1.0 is not released: rename its heading to "## [0.1.0] - <date>"',
    ]);
  }
  t.strictSame(versionFaults(sources({ packageJson: manifest('0.1.0') }), { isFinal: true }), [
    'package.json: no repository: npm provenance needs the URL of the GitHub repository',
  ]);
});

t.test('the image has a tag for the version, the minor and the major, but pre-releases have one', async t => {
  t.strictSame(imageTags('1.2.3'), ['1.2.3', '1.2', '1']);
  t.strictSame(imageTags('0.1.0'), ['0.1.0', '0.1']);
  t.strictSame(imageTags('1.0.0-rc.1'), ['1.0.0-rc.1']);
});

/** An OCI layout with an image for each platform, whose last layer has this name. */
function layout(t: Test, layers: Record<string, string>, architectures: Record<string, string> = {}): string {
  const blobs: Record<string, string> = {};
  const add = (name: string, content: unknown) => {
    blobs[name] = JSON.stringify(content);
    return { digest: `sha256:${name}` };
  };
  const manifests = Object.entries(layers).map(([architecture, layer]) => {
    const platform = { os: 'linux', architecture };
    const config = add(`config-${architecture}`, {
      os: 'linux',
      architecture: architectures[architecture] ?? architecture,
    });
    const base = { digest: `sha256:base-${architecture}` };
    return { ...add(architecture, { config, layers: [base, { digest: `sha256:${layer}` }] }), platform };
  });
  const index = add('index', { manifests });
  return t.testdir({ 'index.json': JSON.stringify({ manifests: [index] }), blobs: { sha256: blobs } });
}

t.test('the image has each platform and the same layer in all of them', async t => {
  const platforms = ['linux/amd64', 'linux/arm64'];
  t.strictSame(imageFaults(layout(t, { amd64: 'own', arm64: 'own' }), platforms), []);
  t.strictSame(imageFaults(layout(t, { amd64: 'own' }), platforms), ['no image for linux/arm64']);
  t.strictSame(imageFaults(layout(t, { amd64: 'own', arm64: 'other' }), platforms), [
    "gatecar's layer differs between builds: sha256:own, sha256:other",
  ]);
  t.strictSame(imageFaults(layout(t, { amd64: 'own', arm64: 'own' }, { arm64: 'amd64' }), platforms), [
    'the image for linux/arm64 says linux/amd64',
  ]);
});

t.test('a layout with no image, or with several, is not a release', async t => {
  for (const [count, manifests] of [[], [{ digest: 'sha256:a' }, { digest: 'sha256:b' }]].entries()) {
    const directory = t.testdir({ 'index.json': JSON.stringify({ manifests }) });
    t.strictSame(imageFaults(directory, ['linux/amd64']), [`the layout has ${count * 2} images, not one`]);
  }
});
