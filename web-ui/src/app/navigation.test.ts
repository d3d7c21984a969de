import { expect, test } from 'vitest';
import type { Kind } from '../api/discovery';
import { sections } from './navigation';

const kind = (group: string, plural: string, verbs = ['list']): Kind => ({ group, version: 'v1', plural, kind: plural, singular: '', shortNames: [], verbs, namespaced: true, categories: [], subresources: [] });

test('every kind stands once, under its place or its group', () => {
  const kinds = [kind('', 'pods'), kind('metrics.k8s.io', 'pods'), kind('registry.wherry.dev', 'images'), kind('node.k8s.io', 'odds'), kind('acme.io', 'boats'), kind('ui.wherry.dev', 'sessions', ['create']), kind('', 'events'), kind('events.k8s.io', 'events')];
  expect(sections(kinds).map(({ name, kinds }) => [name, kinds.map(({ plural }) => plural)])).toEqual([
    ['Workloads', ['pods', 'images']],
    ['Cluster', ['events']],
    ['acme.io', ['boats']],
    ['node.k8s.io', ['odds']],
  ]);
  expect(sections(kinds).filter(({ more }) => more).map(({ name }) => name)).toEqual(['node.k8s.io']);
});
