import type { Decoder } from '../../mesh/config/decoders.ts';
import { messageOf } from '../../mesh/errors.ts';
import { parseInterceptOptions, type RawInterceptOptions } from '../../mesh/intercept/options.ts';
import { quoted } from '../../policy/quoted.ts';
import type { JsonValue } from '../../policy/types.ts';

/** What an annotation changes. */
export type Target =
  /** A flag of `postern intercept apply` in the init container. */
  | { readonly to: 'intercept'; readonly option: keyof RawInterceptOptions }
  /** A setting of the sidecar, by its path in proxy.yaml. */
  | { readonly to: 'setting'; readonly at: readonly [string] | readonly [string, string] }
  | { readonly to: 'resource'; readonly kind: 'requests' | 'limits'; readonly resource: string }
  | { readonly to: 'injection'; readonly option: 'image' | 'nativeSidecar' | 'rewriteProbes' };

/** The value as it goes into the pod, or what is wrong with the text. */
export type Reading = { readonly value: JsonValue } | { readonly fault: string };

/** One annotation `postern.dev/<name>` on pods. */
export interface Annotation {
  readonly name: string;
  readonly meaning: string;
  /** What may be written. */
  readonly values: string;
  /** What holds without it. */
  readonly fallback: string;
  /** Istio's annotation of the same meaning; null where there is none. */
  readonly istio: string | null;
  readonly target: Target;
  read(text: string): Reading;
}

/** Longer explanations are the author's own text come back. */
const MAX_FAULT = 300;

/** A text that `decoder` accepts as it is, in the syntax of the sidecar's settings. */
export function written(decoder: Decoder<unknown>): (text: string) => Reading {
  return (text) => (decoder.read(text) === null ? fault(decoder.expects, text) : { value: text });
}

/** A number, which settings hold as one. */
export function numeric(decoder: Decoder<number>): (text: string) => Reading {
  return (text) => {
    const number = /^(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?$/.test(text) ? decoder.read(Number(text)) : null;
    return number === null ? fault(decoder.expects, text) : { value: number };
  };
}

export function flagText(text: string): Reading {
  if (text === 'true' || text === 'false') return { value: text === 'true' };
  return fault('"true" or "false"', text);
}

/** Numbers with commas between, or `none` for an empty list. */
export function numbers(decoder: Decoder<number>, most: number): (text: string) => Reading {
  return (text) => {
    if (text === 'none') return { value: [] };
    const parts = text.split(',', most + 1).map((part) => numeric(decoder)(part.trim()));
    const values = parts.flatMap((part) => ('value' in part ? [part.value] : []));
    if (values.length === parts.length && parts.length <= most) return { value: values };
    return fault(`at most ${most} entries with commas between, each ${decoder.expects}; or none`, text);
  };
}

/** By the parser of the command that the init container runs: what it would refuse there is refused here. */
export function interceptText(option: keyof RawInterceptOptions): (text: string) => Reading {
  return (text) => {
    try {
      parseInterceptOptions({ [option]: text });
      return { value: text };
    } catch (error) {
      return {
        fault: messageOf(error)
          .replace(/^--[a-z-]+: /, '')
          .slice(0, MAX_FAULT),
      };
    }
  };
}

export function fault(expects: string, text: string): Reading {
  return { fault: `must be ${expects}, not ${quoted(text)}` };
}
