import { inject } from '../../kubernetes/injection/inject.ts';
import { diff, type Edit } from '../../kubernetes/injection/json-patch.ts';
import { INJECTED, type InjectionSettings } from '../../kubernetes/injection/types.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { asObject, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue, Problem } from '../../policy/types.ts';
import type { Finding } from '../../policy/validate/findings.ts';
import { parseYaml, YAML_LIMITS, type YamlDocument, type YamlLimits } from '../../policy/yaml-document.ts';
import { problemLine } from '../manifest-files.ts';
import { type PodTemplate, podTemplatesOf } from './pod-templates.ts';
import { editYaml } from './yaml-edit.ts';

export interface InjectTextOptions {
  readonly settings: InjectionSettings;
  /** Of objects that name none. */
  readonly namespace: string | null;
  /** Postern's version, for the status annotation. */
  readonly version: string;
}

export interface InjectedText {
  readonly text: string;
  /** Pods and templates that got a sidecar. */
  readonly injected: number;
  /** Lines for people: warnings, and why something got none. */
  readonly notes: readonly string[];
}

/** What a chart renders may be large: descriptions of custom resources are. */
export const INPUT_LIMITS: YamlLimits = {
  ...YAML_LIMITS,
  bytes: 16 * 1024 * 1024,
  tokens: 8_000_000,
  documents: 10_000,
};

/**
 * The text with a sidecar in every pod and template in it that does not say otherwise. JSON stays JSON, YAML stays YAML, and what has no pods stays as it was.
 * @throws PosternError ERR_INJECT with every problem as `file:line:column: …`, exit 65: there is no text that is only half injected.
 */
export function injectText(text: string, file: string, options: InjectTextOptions): InjectedText {
  const { documents, problems } = parseYaml(text, file, INPUT_LIMITS);
  const errors = problems.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw inadmissible(errors);
  const run = new Injector(options);
  const edits = documents.map((document) => run.edits(document));
  if (run.errors.length > 0) throw inadmissible(run.errors);
  // Whatever the printing of YAML does: what comes out is the injected object, or an error.
  const isRight = (index: number, printed: string): boolean => {
    const wanted = (edits[index] ?? []).reduce(edited, documents[index]?.value ?? null);
    const [found] = parseYaml(printed, file, INPUT_LIMITS).documents;
    return found !== undefined && diff(wanted, found.value).length === 0;
  };
  return {
    text: isJson(text) ? editJson(documents, edits, text) : editYaml(text, new Map(edits.entries()), isRight),
    injected: run.injected,
    notes: run.notes,
  };
}

class Injector {
  readonly errors: Problem[] = [];
  readonly notes: string[] = [];
  injected = 0;
  readonly #options: InjectTextOptions;

  constructor(options: InjectTextOptions) {
    this.#options = options;
  }

  edits(document: YamlDocument): readonly Edit[] {
    return podTemplatesOf(document.value, this.#options.namespace).flatMap((template) =>
      this.#editsOf(document, template),
    );
  }

  #editsOf(document: YamlDocument, template: PodTemplate): readonly Edit[] {
    const { settings, version } = this.#options;
    // Whoever runs the command wants the sidecar: only the pod's own word counts against it.
    const context = {
      namespaceLabels: { [INJECTED.injectKey]: 'enabled' },
      workload: template.name === '' ? null : template.name,
      version,
    };
    const result = inject(template.pod, context, settings);
    const problem = ({ path, part, severity, message }: Finding): Problem => ({
      severity,
      message,
      location: document.locate([...template.path, ...path], part),
      resource: `${template.kind} ${template.namespace}/${template.name}`,
    });
    this.notes.push(...result.warnings.map((finding) => problemLine(problem(finding))));
    if (result.outcome === 'refused') {
      this.errors.push(...result.errors.map(problem));
      return [];
    }
    if (result.outcome === 'skipped') {
      const { location, resource } = problem({ path: [], severity: 'warning', message: '' });
      this.notes.push(
        `${location.file}:${location.line}:${location.column}: ${resource}: not injected: ${result.reason}`,
      );
      return [];
    }
    this.injected++;
    return diff(template.pod, result.pod, template.path);
  }
}

function inadmissible(problems: readonly Problem[]): PosternError {
  const inOrder = problems.toSorted(({ location: a }, { location: b }) => a.line - b.line || a.column - b.column);
  const text = inOrder.map(problemLine).join('\n');
  return new PosternError('ERR_INJECT', `nothing was injected:\n${text}`, { exitCode: EXIT.dataError });
}

function isJson(text: string): boolean {
  if (!/^\s*[{[]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function editJson(documents: readonly YamlDocument[], edits: readonly (readonly Edit[])[], text: string): string {
  const [document] = documents;
  const [own = []] = edits;
  if (document === undefined || own.length === 0) return text;
  return `${JSON.stringify(own.reduce(edited, document.value), null, 2)}\n`;
}

/** The value with one edit made in it. */
function edited(value: JsonValue, edit: Edit): JsonValue {
  const [part, ...rest] = edit.at;
  if (part === undefined) return edit.op === 'remove' ? null : edit.value;
  const below = { ...edit, at: rest };
  if (isList(value)) {
    const index = Number(part);
    if (rest.length > 0) return value.with(index, edited(value[index] ?? null, below));
    if (edit.op === 'remove') return value.toSpliced(index, 1);
    return value.toSpliced(index, edit.op === 'add' ? 0 : 1, edit.value);
  }
  const object: JsonObject = asObject(value) ?? {};
  if (rest.length > 0) return { ...object, [part]: edited(object[part] ?? null, below) };
  if (edit.op !== 'remove') return { ...object, [part]: edit.value };
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== part));
}
