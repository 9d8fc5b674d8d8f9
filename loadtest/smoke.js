// Five to twenty users, and every journey in turn: does it work at all?
import { visitor } from './lib/journeys.js';
import { during } from './lib/scenario.js';

export const options = during('smoke');
export default visitor('smoke');
export { handleSummary } from './lib/scenario.js';
