// Cached and static routes at a fixed rate, whether it keeps up or not. `hits.py` does the rest.
import { ask } from './lib/client.js';
import { seeded } from './lib/choice.js';
import { handleSummary, SHARED } from './lib/scenario.js';

const PATHS = [
  '/api/v1/media',
  '/api/v1/media/search?q=quiet+harbour',
  '/api/v1/products/search?q=oak+desk',
  `/api/v1/products/${seeded(7)}`,
  '/api/v1/workflows?category=design',
  `/api/v1/workflows/${seeded(3)}`,
  '/bytes/1000',
  '/bytes/16000',
];

const main = {
  executor: 'constant-arrival-rate',
  rate: Number(__ENV.RATE || 10000),
  timeUnit: '1s',
  duration: `${__ENV.SECONDS || 30}s`,
  preAllocatedVUs: 200,
  maxVUs: 200,
};

export const options = { ...SHARED, scenarios: { main }, thresholds: { throttled: ['count<1'] } };

export default function hit() {
  ask('hit', 'GET', PATHS[__ITER % PATHS.length]);
}

export { handleSummary };
