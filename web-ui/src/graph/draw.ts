// Where the things of a graph stand and how edges run between them. Pure, but for the layout library.
import { Graph as Layout, layout } from '@dagrejs/dagre';
import type { Edge, Graph, Thing } from './relate';

export const [WIDTH, HEIGHT] = [190, 46];
const MARGIN = 8;

interface Point {
  x: number;
  y: number;
}

export interface Picture {
  width: number;
  height: number;
  nodes: { thing: Thing; x: number; y: number }[];
  edges: (Edge & { path: string })[];
}

export function draw(graph: Graph): Picture {
  const made = new Layout();
  made.setGraph({ rankdir: 'LR', nodesep: 16, edgesep: 12, ranksep: 70 });
  made.setDefaultEdgeLabel(() => ({}));
  for (const thing of graph.things) made.setNode(thing.id, { width: WIDTH, height: HEIGHT });
  for (const edge of graph.edges) made.setEdge(edge.from, edge.to, {});
  layout(made);
  const at = (id: string): Point => made.node(id) as Point;
  const edges = graph.edges.map((edge) => {
    const bends = (made.edge(edge.from, edge.to) as { points: Point[] }).points.slice(1, -1);
    const right = at(edge.to).x >= at(edge.from).x;
    const side = (id: string, sign: number): Point => ({ x: at(id).x + (sign * WIDTH) / 2, y: at(id).y });
    return { edge, points: [side(edge.from, right ? 1 : -1), ...bends, side(edge.to, right ? -1 : 1)] };
  });
  const nodes = graph.things.map((thing) => ({ thing, ...at(thing.id) }));
  // The library counts the boxes alone; edges that pass around them would be cut off.
  const all: Point[] = [...edges.flatMap(({ points }) => points), ...nodes.flatMap(({ x, y }) => [{ x: x - WIDTH / 2, y: y - HEIGHT / 2 }, { x: x + WIDTH / 2, y: y + HEIGHT / 2 }])];
  const [left, top] = [Math.min(...all.map(({ x }) => x)) - MARGIN, Math.min(...all.map(({ y }) => y)) - MARGIN];
  const move = ({ x, y }: Point): Point => ({ x: x - left, y: y - top });
  return {
    width: all.length === 0 ? 0 : Math.max(...all.map(({ x }) => x)) - left + MARGIN,
    height: all.length === 0 ? 0 : Math.max(...all.map(({ y }) => y)) - top + MARGIN,
    nodes: nodes.map(({ thing, ...point }) => ({ thing, ...move(point) })),
    edges: edges.map(({ edge, points }) => ({ ...edge, path: curve(points.map(move)) })),
  };
}

/** A line through points that leaves and comes in levelly. */
export function curve(points: Point[]): string {
  const [first, ...rest] = points;
  if (!first) return '';
  let path = `M${first.x} ${first.y}`;
  let before = first;
  for (const point of rest) {
    const middle = (before.x + point.x) / 2;
    path += `C${middle} ${before.y} ${middle} ${point.y} ${point.x} ${point.y}`;
    before = point;
  }
  return path;
}
