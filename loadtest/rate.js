// What x0tta6bl4 asks of each replica (003): 500 requests a second, whether it keeps up or not, and 1000 for five seconds.
// Run behind an edge that keeps nothing, so that every request is a replica's.
import { atRate } from './lib/scenario.js';

export const options = atRate(500);
export { single as default } from './lib/journeys.js';
export { handleSummary } from './lib/scenario.js';
