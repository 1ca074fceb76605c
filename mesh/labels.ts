/** Kubernetes, "Labels and Selectors": a label's key is a name of at most 63 characters, behind a DNS subdomain of at most 253 where it has a prefix. */
export const LABEL_KEY = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;

/** A label's value: at most 63 characters, or none. */
export const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;

/** Labels that one workload may have. */
export const MAX_LABELS = 64;
