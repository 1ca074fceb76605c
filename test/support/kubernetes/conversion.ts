import type { JsonObject } from '../../../policy/types.ts';
import { at, textAt, withFields } from './objects.ts';

const CORE = 'v1';

/** An object in another version of its kind. Versions here differ in `apiVersion` alone, but for events: `v1` and `events.k8s.io/v1` are one kind. */
export function convert(object: JsonObject, apiVersion: string): JsonObject {
  if (object.apiVersion === apiVersion) return object;
  if (object.kind !== 'Event') return { ...object, apiVersion };
  return apiVersion === CORE ? coreEvent(object) : newEvent(object, apiVersion);
}

function coreEvent(event: JsonObject): JsonObject {
  const { regarding, note, reportingController, deprecatedSource, deprecatedCount, ...rest } = event;
  return withFields(rest, {
    apiVersion: CORE,
    involvedObject: regarding,
    message: note,
    reportingComponent: reportingController,
    source: deprecatedSource,
    count: deprecatedCount,
    firstTimestamp: event.deprecatedFirstTimestamp ?? null,
    lastTimestamp: event.deprecatedLastTimestamp ?? null,
    deprecatedFirstTimestamp: undefined,
    deprecatedLastTimestamp: undefined,
  });
}

function newEvent(event: JsonObject, apiVersion: string): JsonObject {
  const { involvedObject, message, reportingComponent, source, count, firstTimestamp, lastTimestamp, ...rest } = event;
  return withFields(rest, {
    apiVersion,
    regarding: involvedObject,
    note: message,
    reportingController: textAt(event, 'reportingComponent') || textAt(source, 'component') || reportingComponent,
    deprecatedSource: source,
    deprecatedCount: count,
    deprecatedFirstTimestamp: firstTimestamp,
    deprecatedLastTimestamp: lastTimestamp,
    eventTime: at(event, 'eventTime') ?? null,
  });
}
