// An ordinary day.
import { visitor } from './lib/journeys.js';
import { during } from './lib/scenario.js';

export const options = during('normal');
export default visitor('normal');
export { handleSummary } from './lib/scenario.js';
