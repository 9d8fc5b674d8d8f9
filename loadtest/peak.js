// The busiest hour of the year.
import { visitor } from './lib/journeys.js';
import { during } from './lib/scenario.js';

export const options = during('peak');
export default visitor('peak');
export { handleSummary } from './lib/scenario.js';
