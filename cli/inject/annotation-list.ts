import { ANNOTATIONS, PREFIX } from '../../kubernetes/injection/annotations.ts';

/** What pods may say about their sidecar, as a table in Markdown: for `postern inject --annotations`, and for documents. */
export function annotationLines(): readonly string[] {
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  return [
    '| annotation | meaning | values | default | of Istio |',
    '| --- | --- | --- | --- | --- |',
    `| \`${PREFIX}inject\` | whether the pod gets a sidecar; label or annotation, before the namespace's label | enabled or disabled | the namespace's | \`sidecar.istio.io/inject\` |`,
    ...ANNOTATIONS.map(({ name, meaning, values, fallback, istio }) => {
      const peer = istio === null ? '' : `\`${istio}\``;
      return `| \`${PREFIX}${name}\` | ${cell(meaning)} | ${cell(values)} | ${cell(fallback)} | ${peer} |`;
    }),
  ];
}
