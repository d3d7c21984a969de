// The schema of a kind, read once.
import { get } from '../api/client';
import type { Kind } from '../api/discovery';
import type { Tree } from '../api/types';
import { Schemas } from './schema';

export interface Found {
  schemas: Schemas | undefined;
  schema: Tree | undefined;
}

const documents = new Map<string, Promise<Schemas>>();

export async function schemasOf(kind: Kind): Promise<Found> {
  const path = kind.group === '' ? `/openapi/v3/api/${kind.version}` : `/openapi/v3/apis/${kind.group}/${kind.version}`;
  const reading = documents.get(path) ?? get<Tree>(path).then((document) => new Schemas(document));
  documents.set(path, reading);
  reading.catch(() => documents.delete(path));
  const schemas = await reading;
  return { schemas, schema: schemas.of(kind.group, kind.version, kind.kind) };
}
