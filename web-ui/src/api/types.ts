// What the API speaks of. Objects come from outside: beyond their metadata nothing is taken for granted, so `spec` and
// `status` are read with optional chaining everywhere.

// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Tree = any;

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
}

export interface Meta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  generation?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[];
  finalizers?: string[];
  managedFields?: Tree[];
}

export interface Obj {
  apiVersion?: string;
  kind?: string;
  metadata: Meta;
  spec?: Tree;
  status?: Tree;
  [field: string]: Tree;
}

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
}

export interface Column {
  name: string;
  type: string;
  format?: string;
  description?: string;
  priority: number;
}

/** A row of a server-side table. */
export interface Row {
  cells: unknown[];
  object: Obj;
}

export interface Table {
  kind: 'Table';
  metadata: { resourceVersion?: string; continue?: string; remainingItemCount?: number };
  columnDefinitions?: Column[];
  rows?: Row[];
}

export interface List {
  kind: string;
  apiVersion?: string;
  metadata: { resourceVersion?: string; continue?: string };
  items: Obj[];
}

export interface Status {
  kind: 'Status';
  code?: number;
  reason?: string;
  message?: string;
  details?: { causes?: { reason?: string; message?: string; field?: string }[]; retryAfterSeconds?: number };
}
